"""Erases a player: from the state and the compacted topics, and in ClickHouse under a pseudonym.

The steps, and the state after a crash at the end of each. The command is then run again: it repeats
them all, under the pseudonym that the first run has drawn.

1. Write a journal with the pseudonym, on this machine. Nothing is changed.
2. Add the player's mark to the tenants file. The edges refuse the player's later items.
3. Write the command to the player's partition of ``staged``. Its owner removes profile and rounds,
   keeps the mark and refuses what is on the way; changelogs take the change to every copy of the state.
4. Wait until the stages and the sink have passed everything that was written before. From here on no
   record and no row of the player appears any more.
5. Write tombstones for the player's rounds to ``rounds``, and for its failed webhooks to ``webhooks``.
6. Erase the player from ClickHouse (:mod:`connectors.clickhouse.erasure`).
7. Move the player's standings on the topic ``standings`` to the pseudonym, with tombstones for the
   player. An evaluation that had read ClickHouse before step 6 may write the player once more; the
   erasure lets all running campaigns be evaluated anew, which removes the player.
8. Record the erasure in the table ``erasures``, and remove the journal: nothing leads from the
   pseudonym to the player any more.
"""

import json
import secrets
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
from confluent_kafka import KafkaError, Message, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    ResourceType,
)

from connectors.clickhouse.erasure import Subject
from connectors.clickhouse.query import erase_player, insert
from connectors.edge.tenants import Registry, existing
from connectors.local.files import replace_file
from connectors.standings.records import Place
from streams.core.identity import erased_mark, key_of, longer_key, partition_of
from streams.errors import DeliveryFailed
from streams.kafka.clients import client_config, committed_consumer, idempotent_producer, produce
from streams.kafka.draining import drain
from streams.kafka.lag import SINK
from streams.kafka.reading import to_the_ends
from streams.kafka.schema_ids import frames
from streams.kafka.schemas import Schemas
from streams.records.staged_chunk import erasing
from streams.records.topics import (
    CONTRACTS,
    OUTCOMES,
    OWNERS,
    ROUNDS,
    SCHEMAS,
    SETTLEMENTS,
    STAGED,
    STANDINGS,
    TOPICS,
    WEBHOOKS,
)
from streams.settings import Settings
from streams.wire.avro import Reader, codec

FLUSH_WITHIN_S = 30.0
_NO_PLAYERS = OUTCOMES, OWNERS, SETTLEMENTS, SCHEMAS

Report = Callable[[str], None]


class Journal(msgspec.Struct):
    """What a run needs to continue an earlier one; the only place that links player and pseudonym."""

    erasure_id: str
    pseudonym: str
    refused_at: float | None = None
    """When the tenants file had the mark (seconds, epoch)."""


class Expiry(NamedTuple):
    """A topic that still has records of the player, and until when at the latest."""

    topic: str
    until: str


class Erased(NamedTuple):
    """The report of an erasure. It does not name the player."""

    erasure_id: str
    tenant: str
    pseudonym: str
    rows_changed: dict[str, int]
    rounds_deleted: int
    expires: list[Expiry]


class Who(NamedTuple):
    """Who erases, and why."""

    by: str
    reason: str


def erase(settings: Settings, tenant: str, player_id: str, who: Who, report: Report) -> Erased:
    """Erases a player; blocks until it is done. Raises ``ConfigurationError`` for an unknown tenant."""
    key = key_of(tenant, player_id)
    mark = erased_mark(key)
    path = settings.data_dir / "erasures" / f"{mark.hex()}.json"
    registry = Registry(settings.tenants_path)
    again = mark.hex() in existing(registry.all(), tenant).erased and not path.exists()
    configs = _configs(settings)  # asked first: it fails where no broker has the report's facts
    journal = _begun(path)
    registry.erase(tenant, mark.hex())
    if journal.refused_at is None:
        journal.refused_at = time.time()
        replace_file(path, msgspec.json.encode(journal))
    report("the edges refuse the player")
    _command(settings, key)
    _let_requests_end(settings, journal.refused_at, report)
    drain(settings, SINK.topics["sink"], report)
    rounds = _delete_keys(settings, ROUNDS, key)
    _delete_keys(settings, WEBHOOKS, key)
    report(f"{ROUNDS}: {rounds} keys deleted")
    rows = erase_player(settings, Subject(tenant, player_id, journal.pseudonym))
    report("ClickHouse: " + (", ".join(f"{n} of {table}" for table, n in rows.items()) or "no row"))
    moved = _move_standings(settings, tenant, player_id, journal.pseudonym)
    report(f"{STANDINGS}: {moved} keys moved to the pseudonym")
    if rows or rounds or not again:
        _record(settings, tenant, journal, rows, who)
    path.unlink()
    now = time.time() * 1000
    expires = [Expiry(topic, _until(config, now)) for topic, config in configs.items()]
    return Erased(journal.erasure_id, tenant, journal.pseudonym, rows, rounds, expires)


def _begun(path: Path) -> Journal:
    """The journal of an earlier run, or else a new one."""
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Journal)
    journal = Journal(str(uuid.uuid4()), f"erased-{secrets.token_hex(16)}")
    replace_file(path, msgspec.json.encode(journal))
    return journal


# Kafka ---------------------------------------------------------------------------------------


def _command(settings: Settings, key: str) -> None:
    headers, datum = erasing(key)
    value = frames(settings)[CONTRACTS[STAGED]] + datum
    _produce(settings, STAGED, partition_of(key, settings.partitions), [(None, value)], headers)


def _delete_keys(settings: Settings, topic: str, key: str) -> int:
    """Writes a tombstone for each of the player's keys on a compacted topic that has a value."""
    partition = partition_of(key, settings.partitions)
    lead = longer_key(key, "").encode()
    left: dict[bytes, bool] = {}
    consumer = committed_consumer(settings, f"{settings.topic_prefix}erasure")
    with closing(consumer):
        place = TopicPartition(settings.topic_prefix + topic, partition, 0)
        for message in to_the_ends(consumer, [place]):
            longer = message.key() or b""
            if longer.startswith(lead):
                left[longer] = message.value() is not None
    gone = [(longer, None) for longer, has_value in left.items() if has_value]
    _produce(settings, topic, partition, gone, [])
    return len(gone)


def _move_standings(settings: Settings, tenant: str, player_id: str, pseudonym: str) -> int:
    """Writes the player's newest standings under the pseudonym, and tombstones for the player."""
    schemas, contract = Schemas(settings, frames(settings)), CONTRACTS[STANDINGS]
    reader = Reader(contract, schemas.frames[contract], schemas.schema_of)
    found: dict[tuple[int, bytes], bytes] = {}
    with closing(committed_consumer(settings, f"{settings.topic_prefix}erasure")) as consumer:
        topic = settings.topic_prefix + STANDINGS
        places = [TopicPartition(topic, number, 0) for number in range(settings.partitions)]
        for message in to_the_ends(consumer, places):
            key, value = message.key() or b"", message.value()
            campaign, player = Place.of(key)
            if player == key_of(player_id) and campaign.startswith(longer_key(key_of(tenant), "")):
                found.pop((message.partition() or 0, key), None)
                if value is not None:
                    found[message.partition() or 0, key] = value
    moved: dict[int, list[tuple[bytes | None, bytes | None]]] = defaultdict(list)
    for (partition, key), value in found.items():
        record = reader.read(value) | {"player_id": pseudonym}
        new = longer_key(Place.of(key).campaign, pseudonym).encode()
        renamed = schemas.frames[contract] + codec(contract).encode(record)
        moved[partition] += [(new, renamed), (key, None)]
    for partition, records in moved.items():
        _produce(settings, STANDINGS, partition, records, [])
    return len(found)


def _produce(
    settings: Settings,
    topic: str,
    partition: int,
    records: Collection[tuple[bytes | None, bytes | None]],
    headers: list[tuple[str, bytes]],
) -> None:
    producer, failed = idempotent_producer(settings), list[KafkaError]()

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failed.append(error)

    for key, value in records:
        produce(
            producer, settings.topic_prefix + topic, value, key, partition,
            on_delivery=delivered, headers=headers,
        )  # fmt: skip
    if producer.flush(FLUSH_WITHIN_S) or failed:
        raise DeliveryFailed(f"{topic}: {failed[0] if failed else 'no acknowledgement in time'}")


# Waiting -------------------------------------------------------------------------------------


def _let_requests_end(settings: Settings, refused_at: float, report: Report) -> None:
    """Waits until no edge can still write a request that it began to read with the old tenants file."""
    until = refused_at + settings.request_timeout_s + settings.ack_timeout_s
    if (left := until - time.time()) > 0:
        report(f"waiting {left:.0f} s for the requests that edges are reading")
        time.sleep(left)


# The report ----------------------------------------------------------------------------------


def _record(
    settings: Settings, tenant: str, journal: Journal, rows: Mapping[str, int], who: Who
) -> None:
    row = {
        "erasure_id": journal.erasure_id,
        "erased_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
        "erased_by": who.by,
        "reason": who.reason,
        "tenant": tenant,
        "pseudonym": journal.pseudonym,
        "changed": rows,
    }
    insert(settings, "erasures", [row])


def _configs(settings: Settings) -> dict[str, dict[str, str]]:
    """The configuration of every topic that may have records of a player, as the brokers have it."""
    names = [topic.name for topic in TOPICS if topic.name not in _NO_PLAYERS]
    asked = {ConfigResource(ResourceType.TOPIC, settings.topic_prefix + name): name for name in names}
    admin = AdminClient(client_config(settings))  # its answers end with it
    answers = admin.describe_configs(list(asked))
    return {
        asked[resource]: {name: entry.value for name, entry in answer.result(FLUSH_WITHIN_S).items()}
        for resource, answer in answers.items()
    }


def _until(config: Mapping[str, str], now_ms: float) -> str:
    """Until when a topic has records that were written up to now, at the latest."""
    segment = int(config["segment.ms"])
    if "compact" not in config["cleanup.policy"]:
        retention = int(config["retention.ms"])
        return "never" if retention < 0 else _day(now_ms + retention + segment)
    lag = int(config["max.compaction.lag.ms"])
    if lag > 365 * 86_400_000:
        return "its next compaction; set max.compaction.lag.ms for a limit"
    return _day(now_ms + lag + int(config["delete.retention.ms"]))


def _day(at_ms: float) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")


def as_json(erased: Erased) -> str:
    """The report as JSON."""
    document = erased._asdict() | {"expires": [expiry._asdict() for expiry in erased.expires]}
    return json.dumps(document, indent=2)
