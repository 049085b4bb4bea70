"""The yardstick job in Faust as its documentation shows: one agent per step, one event per message.

``stock_faust.py BOOTSTRAP PREFIX DIRECTORY``. It processes at least once; docs/design.md says why not
with Faust's ``exactly_once``. Its tables are in memory, which costs less than RocksDB would.
"""

import sys
from pathlib import Path

import faust

sys.path.insert(0, str(Path(__file__).parent))

from job import decode_event, encode_event, encode_round, events, fold, key_of, opened_by

bootstrap, prefix, folder = sys.argv[1:4]

app = faust.App(
    "peer-faust",
    broker="kafka://" + bootstrap,
    datadir=folder,
    store="memory://",
    consumer_auto_offset_reset="earliest",
    producer_compression_type="lz4",
    topic_partitions=4,
    topic_replication_factor=1,
    web_enabled=False,
    value_serializer="raw",
)
raw = app.topic(f"{prefix}raw.batches", value_type=bytes, value_serializer="raw")
players = app.topic(f"{prefix}peer.by-player", value_type=bytes, value_serializer="raw")
canonical = app.topic(f"{prefix}canonical.game-transactions", value_type=bytes, value_serializer="raw")
rounds = app.topic(f"{prefix}rounds", value_type=bytes, value_serializer="raw")
ids = app.Table("ids", default=int, partitions=4)
states = app.Table("states", partitions=4)


@app.agent(raw)
async def parse(bodies):
    """Sends each valid item with its player as the key."""
    async for message in bodies.events():
        for event in events(message.value, dict(message.headers)):
            await players.send(key=key_of(event).encode(), value=encode_event(event))


@app.agent(players)
async def once(values):
    """Drops events whose id has been processed, and adds each other event to its round."""
    async for value in values:
        event = decode_event(value)
        mark = f"{event['tenant']}|{event['event_id']}"
        if ids[mark]:
            continue
        ids[mark] = 1
        key = key_of(event)
        place = f"{key}|{event['round_id']}"
        found = states.get(place) or opened_by(event)
        fold(found, event)
        states[place] = found
        await canonical.send(key=key.encode(), value=value)
        await rounds.send(key=place.encode(), value=encode_round(found, event))


if __name__ == "__main__":
    sys.argv = ["faust", "worker", "-l", "warn"]
    app.main()
