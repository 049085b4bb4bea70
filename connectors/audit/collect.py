"""Collects the facts of a period from ``raw.batches``, the other topics and ClickHouse.

The period is by the time at which the edge received the requests.
"""

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from confluent_kafka import Message, TopicPartition

from connectors.audit.facts import (
    Amount,
    Counts,
    Erased,
    Facts,
    Finding,
    Identity,
    Place,
    Posted,
    add_event,
    identity_of,
)
from connectors.clickhouse.literals import moment, quoted
from connectors.clickhouse.query import query
from connectors.clickhouse.targets import TARGETS
from connectors.edge.tenants import Registry
from streams.core.event import Kind, decode, encode, is_correction
from streams.errors import EnvelopeError
from streams.formats import READERS
from streams.formats.validation import Invalid
from streams.kafka.clients import committed_consumer
from streams.kafka.offsets import when_elected
from streams.kafka.reading import to_the_ends
from streams.kafka.schemas import Schemas
from streams.records.raw_batch import RawRecord, Request, batch_of, requests_of
from streams.records.topics import CANONICAL, CONTRACTS, OUTCOMES, RAW, REJECTS
from streams.settings import Settings
from streams.wire.avro import Reader
from streams.wire.times import to_micros

_UNLIMITED = 1 << 62
_ASKED = 5_000
"""Ids in one query."""

VIEWS = {kind: TARGETS[kind.topic].table.removesuffix("_rows") for kind in Kind}
"""The view of each kind, which has the rows of its table without duplicates."""

_ID = "tenant, source, source_event, event_id"
_WITH_AMOUNT = (Kind.GAME_TRANSACTION, Kind.PAYMENT, Kind.SPORTS_BET)


class Period(NamedTuple):
    """From ``start`` to before ``end``."""

    start: datetime
    end: datetime

    def holds(self, received_at: int) -> bool:
        """Whether it holds a time, in microseconds since the epoch."""
        return to_micros(self.start) <= received_at < to_micros(self.end)

    @property
    def condition(self) -> str:
        """The period as an SQL condition."""
        return f"received_at >= {moment(self.start)} AND received_at < {moment(self.end)}"


class Slice(NamedTuple):
    """The requests of a raw partition that are in the period: how many, and a digest of their bytes."""

    partition: int
    first_offset: int
    last_offset: int
    requests: int
    sha256: str


def collect(settings: Settings, schemas: Schemas, period: Period) -> tuple[Facts, list[Slice]]:
    """All facts of a period, and the raw records that they are made of."""
    facts = Facts()
    slices = _collect_raw(settings, period, facts)
    _collect_topics(settings, schemas, period, facts)
    _collect_stored(settings, period, facts)
    erased = _erased(settings)
    for name in ("items", "topics", "stored"):
        setattr(facts, name, erased.names(getattr(facts, name)))
    facts.corrected = {erased.name(one): place for one, place in facts.corrected.items()}
    unknown = [identity for identity in facts.items if identity not in facts.topics]
    facts.earlier = set(_stored_earlier(settings, period, unknown, erased))
    return facts, slices


# Kafka ---------------------------------------------------------------------------------------


def _records(settings: Settings, topic: str, since: datetime) -> Iterator[Message]:
    """The committed records of a topic that were written since a time, to the present end."""
    consumer = committed_consumer(settings, f"{settings.topic_prefix}audit")
    try:
        at = int(since.timestamp() * 1000)
        name = settings.topic_prefix + topic
        places = [TopicPartition(name, number, at) for number in range(settings.partitions)]
        found = when_elected(lambda: consumer.offsets_for_times(places, timeout=30))
        yield from to_the_ends(consumer, [place for place in found if place.offset >= 0])
    finally:
        consumer.close()


def _collect_raw(settings: Settings, period: Period, facts: Facts) -> list[Slice]:
    digests: dict[int, Any] = {}
    offsets: dict[int, list[int]] = {}
    for message in _records(settings, RAW, period.start):
        headers: Any = message.headers() or ()
        partition, offset = message.partition() or 0, message.offset() or 0
        record = RawRecord(partition, offset, list(headers), message.value() or b"")
        try:
            requests = requests_of(record)
        except ValueError:  # no edge wrote it; translate has refused it as a whole
            continue
        for request in requests:
            if _collect_request(record, request, period, facts):
                digest = digests.setdefault(partition, hashlib.sha256())
                digest.update(request.headers["batch-id"] + b"\0" + request.body)
                offsets.setdefault(partition, []).append(offset)
    return [
        Slice(partition, min(found), max(found), len(found), digests[partition].hexdigest())
        for partition, found in sorted(offsets.items())
    ]


def _collect_request(record: RawRecord, request: Request, period: Period, facts: Facts) -> bool:
    try:
        batch = batch_of(request.headers)
    except ValueError:
        return False
    if not period.holds(batch.received_at):
        return False
    try:
        items = READERS[batch.source](request.body, batch, _UNLIMITED)
    except EnvelopeError:
        items, invalid = [], 1
        received = 1
    else:
        received, invalid = len(items), sum(isinstance(item, Invalid) for item in items)
    known = facts.posted.get(batch.batch_id)
    if known is not None:
        facts.posted[batch.batch_id] = known.again(received, invalid)
        return True
    facts.posted[batch.batch_id] = Posted(
        batch.tenant, record.partition, record.offset, received, invalid
    )
    for position, item in enumerate(items):
        if not isinstance(item, Invalid):
            translated = item.translate(batch)
            for datum in encode(batch, position, translated):
                add_event(facts.items, translated.kind, decode(translated.kind, datum))
    return True


def _collect_topics(settings: Settings, schemas: Schemas, period: Period, facts: Facts) -> None:
    for kind, topic in CANONICAL.items():
        read = _reader(schemas, kind.contract)
        for message in _records(settings, topic.name, period.start):
            record = read(message.value() or b"")
            if is_correction(record["batch_id"]):
                place = Place(record["batch_id"], record["position"])
                facts.corrected[identity_of(kind, record)] = place
            if period.holds(record["received_at"]):
                add_event(facts.topics, kind, record)
    read = _reader(schemas, CONTRACTS[REJECTS])
    for message in _records(settings, REJECTS, period.start):
        record = read(message.value() or b"")
        if record["stage"] == "process":
            facts.refused.add(Place(record["batch_id"], record["position"]))
    read, seen = _reader(schemas, CONTRACTS[OUTCOMES]), set()
    for message in _records(settings, OUTCOMES, period.start):
        record = read(message.value() or b"")
        if period.holds(record["received_at"]) and record["outcome_id"] not in seen:
            seen.add(record["outcome_id"])  # translate may write one again after a crash
            counts = Counts(*(record[name] for name in Counts._fields))
            known = facts.outcomes.get(record["batch_id"], Counts(0, 0, 0, 0, 0))
            facts.outcomes[record["batch_id"]] = known + counts


def _reader(schemas: Schemas, contract: str) -> Callable[[bytes], dict[str, Any]]:
    return Reader(contract, schemas.frames[contract], schemas.schema_of).read


# ClickHouse ----------------------------------------------------------------------------------


def _rows(settings: Settings, sql: str) -> Iterator[dict[str, str]]:
    yield from csv.DictReader(io.StringIO(query(settings, sql, "csv"), newline=""))


def _collect_stored(settings: Settings, period: Period, facts: Facts) -> None:
    for kind, view in VIEWS.items():
        total = "toString(sum(amount))" if kind in _WITH_AMOUNT else "'0'"
        sql = (
            f"SELECT {_ID}, {kind.subject_field} AS subject, batch_id, position, "
            f"count() AS events, {total} AS total FROM {view} WHERE {period.condition} "
            f"{_ITEMS[kind]} GROUP BY ALL"
        )
        for row in _rows(settings, sql):
            place = Place(row["batch_id"], int(row["position"]))
            amount = Amount(int(row["events"]), Decimal(row["total"]))
            facts.stored.setdefault(_identity(kind, row), {})[place] = amount
    sums = ", ".join(f"sum({name}) AS {name}_" for name in Counts._fields)
    sql = f"SELECT batch_id, {sums} FROM outcomes WHERE {period.condition} GROUP BY batch_id"
    for row in _rows(settings, sql):
        facts.stored_outcomes[row["batch_id"]] = Counts(
            *(int(row[f"{name}_"]) for name in Counts._fields)
        )


_ITEMS = {kind: "AND source_event != 'event'" if kind is Kind.PLAYER else "" for kind in Kind}
"""Excludes the players that were derived from custom events."""


def _identity(kind: Kind, row: dict[str, str]) -> Identity:
    return Identity(
        kind, row["tenant"], row["source"], row["source_event"], row["event_id"], row["subject"]
    )


def _erased(settings: Settings) -> Erased:
    tenants = Registry(settings.tenants_path).all()
    rows = _rows(settings, "SELECT tenant, pseudonym FROM erasures")
    return Erased(
        frozenset((name, mark) for name, tenant in tenants.items() for mark in tenant.erased),
        frozenset((row["tenant"], row["pseudonym"]) for row in rows),
    )


def _stored_earlier(
    settings: Settings, period: Period, unknown: Sequence[Identity], erased: Erased
) -> Iterator[Identity]:
    """Those of some identities that ClickHouse holds from before the period."""
    before = f"received_at < {moment(period.start)}"
    for kind, view in VIEWS.items():
        wanted = {identity for identity in unknown if identity.kind is kind}
        ids = sorted({identity.event_id for identity in wanted})
        for begin in range(0, len(ids), _ASKED):
            listed = ", ".join(map(quoted, ids[begin : begin + _ASKED]))
            sql = (
                f"SELECT DISTINCT {_ID}, {kind.subject_field} AS subject "
                f"FROM {view} WHERE {before} AND event_id IN ({listed})"
            )
            yield from (wanted & {erased.name(_identity(kind, row)) for row in _rows(settings, sql)})


_ROUNDS = """
WITH touched AS (SELECT DISTINCT tenant, player_id, round_id FROM game_transactions WHERE {condition})
SELECT tenant, player_id, round_id, bets, wins, in_bets, in_wins
FROM
(
    SELECT
        tenant, player_id, round_id,
        sumIf(amount, type = 'bet') AS bets, sumIf(amount, type = 'win') AS wins
    FROM game_transactions
    WHERE (tenant, player_id, round_id) IN touched
    GROUP BY ALL
) AS events
LEFT JOIN
(
    SELECT tenant, player_id, round_id, sum(bet_amount) AS in_bets, sum(win_amount) AS in_wins
    FROM rounds
    WHERE (tenant, player_id, round_id) IN touched
    GROUP BY ALL
) AS folded USING (tenant, player_id, round_id)
WHERE bets != in_bets OR wins != in_wins
"""


def conditions(settings: Settings, period: Period) -> Iterator[Finding]:
    """What the line cannot see: ids under two players, and rounds that differ from their events."""
    for kind, view in VIEWS.items():
        if kind is not Kind.GAME:
            yield from _two_players(settings, period, view, _ITEMS[kind])
    for row in _rows(settings, _ROUNDS.format(condition=period.condition)):
        yield Finding(
            "round_differs",
            row["tenant"],
            f"round {row['round_id']} of {row['player_id']}",
            f"its events bet {row['bets']} and won {row['wins']}, the round has {row['in_bets']} and "
            f"{row['in_wins']}",
        )


def _two_players(settings: Settings, period: Period, view: str, items: str) -> Iterator[Finding]:
    sql = (
        f"SELECT {_ID}, arrayStringConcat(arraySort(groupUniqArray("
        f"player_id)), ', ') AS players FROM {view} WHERE event_id IN (SELECT event_id FROM {view} "
        f"WHERE {period.condition}) {items} GROUP BY {_ID} "
        "HAVING uniqExact(player_id) > 1"
    )
    for row in _rows(settings, sql):
        yield Finding(
            "two_players",
            row["tenant"],
            f"{row['source']} {row['source_event']} {row['event_id']} ({view})",
            f"one id counts under the players {row['players']}",
        )
