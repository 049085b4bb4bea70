"""The yardstick job in Quix Streams, exactly once.

It runs in a virtual environment of its own: ``quix.py BOOTSTRAP PREFIX DIRECTORY``. Its settings are
tuned: lz4, a commit every second, bytes between the steps instead of JSON.
"""

import sys

from job import decode_event, encode_event, encode_round, events, fold, key_of, opened_by
from quixstreams import Application, State
from quixstreams.models import SerializationContext, Serializer


class Part(Serializer):
    """Sends one part of a tuple."""

    def __init__(self, part: int) -> None:
        self.part = part

    def __call__(self, value: tuple[bytes, ...], ctx: SerializationContext) -> bytes:
        return value[self.part]


def parse(body, key, timestamp, headers):
    """Yields (key, event) for each valid item."""
    return [(key_of(event), encode_event(event)) for event in events(body, dict(headers))]


def once(value: bytes, state: State):
    """Returns (key, event, round key, round) for the first event of an id."""
    event = decode_event(value)
    mark = f"id|{event['event_id']}"
    if state.exists(mark):
        return None
    state.set(mark, 1)
    place = f"round|{event['round_id']}"
    found = state.get(place) or opened_by(event)
    fold(found, event)
    state.set(place, found)
    key = key_of(event)
    return key, value, f"{key}|{event['round_id']}", encode_round(found, event)


def main(bootstrap: str, prefix: str, folder: str) -> None:
    app = Application(
        bootstrap,
        consumer_group="peer-quix",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=1.0,
        state_dir=folder,
        auto_create_topics=True,
        producer_extra_config={"compression.type": "lz4", "linger.ms": 20},
        loglevel="WARNING",
    )
    raw = app.topic(f"{prefix}raw.batches", value_deserializer="bytes", key_deserializer="bytes")
    players = app.topic(
        f"{prefix}peer.by-player",
        value_serializer=Part(1),
        value_deserializer="bytes",
        key_serializer="str",
        key_deserializer="str",
    )
    canonical = app.topic(
        f"{prefix}canonical.game-transactions", value_serializer=Part(1), key_serializer="str"
    )
    rounds = app.topic(f"{prefix}rounds", value_serializer=Part(3), key_serializer="str")

    app.dataframe(raw).apply(parse, expand=True, metadata=True).to_topic(players, key=lambda it: it[0])
    settled = app.dataframe(players).apply(once, stateful=True).filter(lambda it: it is not None)
    settled.to_topic(canonical, key=lambda it: it[0])
    settled.to_topic(rounds, key=lambda it: it[2])
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
