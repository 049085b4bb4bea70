"""The sink: canonical topics, rounds, rejects and outcomes into ClickHouse.

What a flush takes, and what a crash after each step leaves:

1. Insert each topic's rows in one block, with a token made of the offsets in it. A crash repeats
   rows: the same block is recognised by its token, another cut of the same rows by
   ``ReplacingMergeTree``, which the views read with ``FINAL``.
2. Commit the offsets.

While ClickHouse is away the sink tries again with growing pauses, for ever, and moves no offset.
"""

import hashlib
import logging
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.clickhouse.blocks import block, received_at
from connectors.clickhouse.metrics import SinkMetrics
from streams.core.event import Kind
from streams.errors import SinkMismatch
from streams.kafka.clients import METADATA_MS, committed_consumer, reporting
from streams.records.topics import OUTCOMES, REJECTS, ROUNDS
from streams.settings import Settings
from streams.wire.avro import unframe

log = logging.getLogger(__name__)

PAUSE_S = 0.2, 5.0
_POLL_S = 0.01
_POLL_RECORDS = 5000
_AWAY = (ClickHouseError, OSError)


class Target(NamedTuple):
    """A table and the contract of its rows."""

    table: str
    contract: str


TARGETS = {
    Kind.GAME_TRANSACTION.topic: Target("game_transactions_rows", "game-transaction"),
    Kind.PAYMENT.topic: Target("payments_rows", "payment"),
    Kind.PLAYER.topic: Target("player_events_rows", "player"),
    Kind.GAME.topic: Target("game_events_rows", "game"),
    Kind.LOGIN.topic: Target("logins_rows", "login"),
    Kind.SPORTS_BET.topic: Target("sports_bets_rows", "sports-bet"),
    Kind.CUSTOM_EVENT.topic: Target("custom_events_rows", "custom-event"),
    ROUNDS: Target("rounds_rows", "round"),
    REJECTS: Target("rejects_rows", "reject"),
    OUTCOMES: Target("outcomes_rows", "outcome"),
}


class Tables(Protocol):
    """Where rows go."""

    def insert(self, target: Target, rows: list[bytes], token: str) -> None:
        """Inserts Avro datums as one block. Raises ``ClickHouseError`` or ``OSError`` if it cannot."""
        ...


class ClickHouseTables:
    """Rows into ClickHouse through ``connect``, which is called again after a failure."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._client: Client | None = None

    def insert(self, target: Target, rows: list[bytes], token: str) -> None:
        form, data = block(target.contract, rows)
        if self._client is None:
            self._client = self._connect()
        try:
            self._client.raw_insert(
                target.table,
                insert_block=data,
                fmt=form,
                settings={"insert_deduplication_token": token, "async_insert": 0},
            )
        except _AWAY:
            self._client = None
            raise


class _Pending:
    """Rows of one topic that wait for the next flush; first and last offsets by partition."""

    def __init__(self) -> None:
        self.rows: list[bytes] = []
        self.first: dict[int, int] = {}
        self.last: dict[int, int] = {}

    def add(self, partition: int, offset: int, datum: bytes) -> None:
        self.first.setdefault(partition, offset)
        self.last[partition] = offset
        self.rows.append(datum)

    def token(self, topic: str) -> str:
        """Made of topic, partitions, first and last offsets."""
        ranges = ",".join(f"{p}:{first}-{self.last[p]}" for p, first in sorted(self.first.items()))
        return hashlib.sha256(f"{topic} {ranges}".encode()).hexdigest()


class Sink:
    """Reads all target topics and flushes in time; :meth:`run` returns after :meth:`stop`."""

    def __init__(self, settings: Settings, tables: Tables, metrics: SinkMetrics) -> None:
        self.settings = settings
        self._metrics = metrics
        self._tables = tables
        self._stopping = threading.Event()
        self._pending: defaultdict[str, _Pending] = defaultdict(_Pending)
        self._count = 0
        self._not_before = 0.0
        self.rows_inserted = 0
        self.away_since: float | None = None
        """When ClickHouse was first found away (monotonic, s); None while it answers."""
        self.turn_at: float | None = None
        """When :meth:`run` last began a turn (monotonic, s)."""
        self.inserted_at: float | None = None
        self.assigned: frozenset[tuple[str, int]] = frozenset()
        """Topics, prefix included, and partitions that are read."""

    def run(self) -> None:
        """Until stopped. Raises on anything but ClickHouse being away."""
        prefix = self.settings.topic_prefix
        limits: dict[str, Any] = {
            **reporting(self._metrics.clients.of("sink")),
            "max.poll.interval.ms": 86_400_000,  # ClickHouse may be away for hours
            "session.timeout.ms": int(self.settings.session_timeout_s * 1000),
            # one sink a machine: started again, it goes on at once and need not wait for its own ghost
            "group.instance.id": f"{prefix}sink-{socket.gethostname()}",
            "enable.partition.eof": False,
            "topic.metadata.refresh.interval.ms": METADATA_MS,
            "fetch.min.bytes": 1 << 20,
            "fetch.wait.max.ms": 10,
            "queued.max.messages.kbytes": 65_536,
        }
        consumer = committed_consumer(self.settings, f"{prefix}sink", **limits)
        consumer.subscribe(
            [prefix + name for name in TARGETS],
            on_assign=lambda c, p: self._assign(p),
            on_revoke=lambda c, p: self._revoke(c, p),
        )
        try:
            while not self._stopping.is_set():
                self.turn_at = time.monotonic()
                for message in consumer.consume(_POLL_RECORDS, _POLL_S):
                    error = message.error()
                    if error is None:
                        self._take(message)
                    elif error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART and not error.retriable():
                        raise KafkaException(error)
                self._metrics.pending.set(self._count)
                if self._due(time.monotonic()):
                    self._flush(consumer)
            self._flush(consumer)
        finally:
            consumer.close()

    def stop(self) -> None:
        """Lets :meth:`run` flush and return."""
        self._stopping.set()

    @property
    def pending_rows(self) -> int:
        """Rows that are read and not inserted yet."""
        return self._count

    def _assign(self, partitions: Sequence[TopicPartition]) -> None:
        log.info("assigned %d partitions", len(partitions))
        self.assigned |= {(at.topic, at.partition) for at in partitions}

    def _revoke(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self.assigned -= {(at.topic, at.partition) for at in partitions}
        self._flush(consumer)

    def _take(self, message: Message) -> None:
        topic, partition, offset = (
            message.topic() or "",
            message.partition() or 0,
            message.offset() or 0,
        )
        try:
            datum = unframe(message.value() or b"")
        except ValueError as error:
            raise SinkMismatch(f"{topic}[{partition}] offset {offset}: {error}") from None
        self._count += 1
        self._pending[topic].add(partition, offset, datum)

    def _due(self, now: float) -> bool:
        full = self._count >= self.settings.sink_rows_max
        return full or (self._count > 0 and now >= self._not_before)

    def _flush(self, consumer: Consumer) -> None:
        if not self._count:
            return
        began = time.monotonic()
        prefix = self.settings.topic_prefix
        for topic, pending in self._pending.items():
            name = topic.removeprefix(prefix)
            if not self._insert(TARGETS[name], pending.rows, pending.token(name)):
                return  # told to stop while ClickHouse was away: nothing is committed
            self.rows_inserted += len(pending.rows)
        if outcomes := self._pending.get(prefix + OUTCOMES):
            self._metrics.arrived(received_at(outcomes.rows))
        offsets = [
            TopicPartition(topic, partition, last + 1)
            for topic, pending in self._pending.items()
            for partition, last in pending.last.items()
        ]
        self._pending.clear()
        self._count = 0
        took = time.monotonic() - began
        self._not_before = began + max(self.settings.sink_linger_ms / 1000, 2 * took)
        try:
            consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            # rows are in; the offsets only say where to go on, and what comes again changes nothing
            log.warning("offsets not committed, rows may be inserted again: %s", error)

    def _insert(self, target: Target, rows: list[bytes], token: str) -> bool:
        pause, longest = PAUSE_S
        metrics = self._metrics
        while True:
            began = time.monotonic()
            try:
                self._tables.insert(target, rows, token)
            except _AWAY as error:
                metrics.failed(target.table, time.monotonic() - began, error)
                if self.away_since is None:
                    self.away_since = began
                    metrics.away_since.set(time.time())
                log.error("ClickHouse, %s: %s; again in %.1f s", target.table, error, pause)
                if self._stopping.wait(pause):
                    return False
                pause = min(2 * pause, longest)
            else:
                self.away_since = None
                self.inserted_at = time.monotonic()
                metrics.away_since.set(0)
                metrics.inserted(target.table, len(rows), self.inserted_at - began)
                return True
