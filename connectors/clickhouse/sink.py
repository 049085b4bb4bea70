"""The sink: inserts canonical events, rounds, rejects and outcomes into ClickHouse.

The steps of a flush, and the state after a crash at the end of each:

1. Insert each topic's rows, one block for each version of its contract, with a token made of the
   version and the offsets in the block. After a crash the rows are inserted again: ClickHouse skips the
   same block by its token, and ``ReplacingMergeTree``, which the views read with ``FINAL``, removes
   repeated rows of a different block.
2. Commit the offsets of these topics.

A topic with few rows beside those of the others waits for more of them, up to a second: a block of ten
rows costs as much as one of hundreds. Nothing of it is committed before it is inserted.

While ClickHouse is unreachable the sink retries without limit, with growing pauses, and commits no
offset.

A partition waits at a row of an unknown version, or at a row with a field for which its table has no
column, and the sink retries it every few seconds; the other partitions continue. So no field is lost if
a worker is deployed before the sink that migrates the tables.
"""

import hashlib
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, Protocol

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.clickhouse.blocks import Blocks, received_at
from connectors.clickhouse.metrics import SinkMetrics
from connectors.clickhouse.targets import TARGETS, Target
from streams.errors import NewerVersion, SinkMismatch
from streams.kafka.clients import METADATA_MS, committed_consumer, reporting
from streams.records.topics import OUTCOMES
from streams.settings import Settings
from streams.telemetry.traces import Attributes, Traces, parents_of
from streams.wire.avro import FRAME_BYTES, Container, SchemaOf, frame_of
from streams.wire.contracts import schema as present

log = logging.getLogger(__name__)

PAUSE_S = 0.2, 5.0
FEW_SHARE, FEW_PAUSE_S = 0.02, 1.0
"""A topic with less than this share of the rows of a flush is inserted once in such a time."""

_POLL_S = 0.01
_POLL_RECORDS = 5000
_AWAY = (ClickHouseError, OSError)


class Tables(Protocol):
    """The tables that the sink inserts into."""

    def lacking(self, target: Target, container: Container) -> list[str]:
        """The fields of a version for which the table has no column. Raises as :meth:`insert` does."""
        ...

    def insert(self, target: Target, container: Container, rows: list[bytes], token: str) -> None:
        """Inserts Avro datums of one version as one block; a column without a field in that version
        gets its default. Raises ``ClickHouseError`` or ``OSError`` if it cannot."""
        ...


class ClickHouseTables:
    """Inserts rows into ClickHouse through ``connect``, which is called again after a failure."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._client: Client | None = None
        self._blocks: dict[Container, Blocks] = {}

    def lacking(self, target: Target, container: Container) -> list[str]:
        with self._connected() as client:
            found = client.query(f"DESCRIBE TABLE {target.table}").result_rows
        columns = {str(name) for name, *_ in found}
        return [field for field in container.fields if field not in columns]

    def insert(self, target: Target, container: Container, rows: list[bytes], token: str) -> None:
        blocks = self._blocks.get(container)
        if blocks is None:
            blocks = self._blocks[container] = Blocks(target.contract, container)
        form, data = blocks.of(rows)
        settings = {
            "insert_deduplication_token": token,
            "async_insert": 0,
            "max_partitions_per_insert_block": 0,  # events of a backfill may lie in many months
            "input_format_avro_allow_missing_fields": 1,  # in the other formats they are by default
            "optimize_on_insert": 0,  # FINAL and the merges remove older revisions, once
            "max_threads": 1,  # a block is small: more threads only cost
        }
        with self._connected() as client:
            client.raw_insert(target.table, insert_block=data, fmt=form, settings=settings)

    @contextmanager
    def _connected(self) -> Iterator[Client]:
        if self._client is None:
            self._client = self._connect()
        try:
            yield self._client
        except _AWAY:
            self._client = None
            raise


class _Source(NamedTuple):
    """A topic and the frame of a version of its contract."""

    topic: str
    frame: bytes


class _Pending:
    """Rows of one version for the next flush, with their first and last offsets by partition."""

    def __init__(self, source: _Source) -> None:
        self.source = source
        self.rows: list[bytes] = []
        self.first: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self.parents: list[bytes] = []

    def add(self, partition: int, offset: int, datum: bytes) -> None:
        self.first.setdefault(partition, offset)
        self.last[partition] = offset
        self.rows.append(datum)

    def token(self) -> str:
        """A token made of topic, version, partitions, first and last offsets."""
        topic, frame = self.source
        ranges = ",".join(f"{p}:{first}-{self.last[p]}" for p, first in sorted(self.first.items()))
        return hashlib.sha256(f"{topic} {frame.hex()} {ranges}".encode()).hexdigest()


class _Held(NamedTuple):
    """The offset at which a partition waits, and the reason."""

    source: _Source
    offset: int
    why: str


def too_few(rows: Mapping[str, int], due: Mapping[str, float], now: float) -> set[str]:
    """The topics that have few of all rows and are not ``due`` yet (monotonic, s)."""
    few = FEW_SHARE * sum(rows.values())
    return {topic for topic, count in rows.items() if count < few and now < due.get(topic, now)}


class Sink:
    """Reads all target topics and inserts their rows; :meth:`run` returns after :meth:`stop`."""

    def __init__(
        self,
        settings: Settings,
        tables: Tables,
        schema_of: SchemaOf,
        metrics: SinkMetrics,
        traces: Traces | None = None,
    ) -> None:
        self.settings = settings
        self._schema_of = schema_of
        self._metrics = metrics
        self._traces = traces
        self._tables = tables
        self._stopping = threading.Event()
        self._containers: dict[_Source, Container] = {}
        self._pending: dict[tuple[str, bytes], _Pending] = {}
        self._tombstones: dict[tuple[str, int], int] = {}  # the offset after the last one
        self._held: dict[tuple[str, int], _Held] = {}
        self._look_again_at = 0.0
        self._due_at: dict[str, float] = {}  # when a topic with few rows is inserted again
        self._count = 0
        self._not_before = 0.0
        self.rows_inserted = 0
        self.away_since: float | None = None
        """The time at which ClickHouse was first unreachable (monotonic, s); None while it answers."""
        self.turn_at: float | None = None
        """The time at which :meth:`run` last began an iteration (monotonic, s)."""
        self.inserted_at: float | None = None
        self.assigned: frozenset[tuple[str, int]] = frozenset()
        """The partitions that are read, as (topic with prefix, partition)."""

    def run(self) -> None:
        """Runs until stopped. Raises every error other than an unreachable ClickHouse."""
        prefix = self.settings.topic_prefix
        limits: dict[str, Any] = {
            **reporting(self._metrics.clients.of("sink")),
            "max.poll.interval.ms": 86_400_000,  # ClickHouse may be unreachable for hours
            "session.timeout.ms": int(self.settings.session_timeout_s * 1000),
            # static membership, for one sink per machine: it keeps its membership after a restart
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
                        self._take(consumer, message)
                    elif error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART and not error.retriable():
                        raise KafkaException(error)
                self._metrics.pending.set(self._count)
                if self._due(time.monotonic()):
                    self._flush(consumer, self._gathering(time.monotonic()))
                if self._held and time.monotonic() >= self._look_again_at:
                    self._look_again(consumer)
            self._flush(consumer)
        finally:
            consumer.close()

    def waiting(self) -> dict[str, str]:
        """The partitions that wait for a later version of the sink, and why."""
        return {f"{topic}[{number}]": at.why for (topic, number), at in self._held.copy().items()}

    def stop(self) -> None:
        """Tells :meth:`run` to flush and return."""
        self._stopping.set()

    @property
    def pending_rows(self) -> int:
        """The number of rows that are read and not inserted yet."""
        return self._count

    def _assign(self, partitions: Sequence[TopicPartition]) -> None:
        log.info("assigned %d partitions", len(partitions))
        self.assigned |= {(at.topic, at.partition) for at in partitions}

    def _revoke(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self.assigned -= {(at.topic, at.partition) for at in partitions}
        self._flush(consumer)
        for at in partitions:
            self._held.pop((at.topic, at.partition), None)

    def _take(self, consumer: Consumer, message: Message) -> None:
        topic, partition, offset = (
            message.topic() or "",
            message.partition() or 0,
            message.offset() or 0,
        )
        if self._held and (topic, partition) in self._held:
            return  # it was already fetched, and is delivered again later
        value = message.value()
        if value is None:  # the tombstone of an erased player's round
            self._count += 1
            self._tombstones[topic, partition] = offset + 1
            return
        pending = self._pending.get((topic, value[:FRAME_BYTES]))
        if pending is None:
            source = _Source(topic, value[:FRAME_BYTES])
            try:
                self._learn(source)
            except ValueError as error:
                raise SinkMismatch(f"{topic}[{partition}] offset {offset}: {error}") from None
            except (NewerVersion, *_AWAY) as error:
                log.error("%s[%d] waits at offset %d: %s", topic, partition, offset, error)
                self._held[topic, partition] = _Held(source, offset, str(error))
                self._look_again_at = time.monotonic() + PAUSE_S[1]
                consumer.pause([TopicPartition(topic, partition)])
                return
            pending = self._pending[source] = _Pending(source)
        self._count += 1
        pending.add(partition, offset, value[FRAME_BYTES:])
        if self._traces is not None and self._target(pending.source) is TARGETS[OUTCOMES]:
            headers: Any = message.headers() or ()
            pending.parents += parents_of(headers)

    def _learn(self, source: _Source) -> None:
        """Raises ``NewerVersion`` if rows of this version cannot be stored yet, and ``ValueError`` if
        they are not of the contract."""
        if source in self._containers:
            return
        target = self._target(source)
        schema = self._schema_of(target.contract, frame_of(source.frame))
        if schema["name"] != present(target.contract)["name"]:
            raise ValueError(f"written as {schema['name']}, not as the contract {target.contract}")
        container = Container(schema)
        if lacking := self._tables.lacking(target, container):
            raise NewerVersion(
                f"{target.table} has no column for {', '.join(lacking)}. Deploy here the version of "
                "the sink that adds it."
            )
        self._containers[source] = container

    def _look_again(self, consumer: Consumer) -> None:
        """Resumes partitions whose missing version or column has appeared."""
        self._look_again_at = time.monotonic() + PAUSE_S[1]
        for (topic, partition), held in self._held.copy().items():
            try:
                self._learn(held.source)
            except (NewerVersion, *_AWAY) as error:
                log.error("%s[%d] waits at offset %d: %s", topic, partition, held.offset, error)
                continue
            del self._held[topic, partition]
            consumer.seek(TopicPartition(topic, partition, held.offset))
            consumer.resume([TopicPartition(topic, partition)])

    def _target(self, source: _Source) -> Target:
        return TARGETS[source.topic.removeprefix(self.settings.topic_prefix)]

    def _due(self, now: float) -> bool:
        full = self._count >= self.settings.sink_rows_max
        return full or (self._count > 0 and now >= self._not_before)

    def _flush(self, consumer: Consumer, but: Set[str] = frozenset()) -> None:
        """Inserts and commits what is pending, except of the topics ``but``."""
        began = time.monotonic()
        ends = {at: end for at, end in self._tombstones.items() if at[0] not in but}
        flushed = [pending for pending in self._pending.values() if pending.source.topic not in but]
        for pending in flushed:
            source = pending.source
            with self._span(pending):
                inserted = self._insert(pending)
            if not inserted:
                return  # stopped while ClickHouse was unreachable: nothing is committed
            self.rows_inserted += len(pending.rows)
            self._due_at[source.topic] = began + FEW_PAUSE_S
            if self._target(source) == TARGETS[OUTCOMES]:
                self._metrics.arrived(received_at(self._containers[source], pending.rows))
            for partition, last in pending.last.items():
                topic_partition = source.topic, partition
                ends[topic_partition] = max(last + 1, ends.get(topic_partition, 0))
        if not ends:
            return
        offsets = [TopicPartition(*topic_partition, end) for topic_partition, end in ends.items()]
        for pending in flushed:
            del self._pending[pending.source]
        self._tombstones = {at: end for at, end in self._tombstones.items() if at not in ends}
        self._count = sum(len(pending.rows) for pending in self._pending.values()) + len(
            self._tombstones
        )
        took = time.monotonic() - began
        self._not_before = began + max(
            self.settings.sink_linger_ms / 1000, took / self.settings.sink_share
        )
        try:
            consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            # the rows are inserted; without the commit they may be inserted again, and deduplicated
            log.warning("offsets not committed, rows may be inserted again: %s", error)

    def _gathering(self, now: float) -> set[str]:
        """The topics that wait for more rows. Outcomes, which say that a request is counted, do not."""
        rows: Counter[str] = Counter()
        for pending in self._pending.values():
            rows[pending.source.topic] += len(pending.rows)
        return too_few(rows, self._due_at, now) - {self.settings.topic_prefix + OUTCOMES}

    def _span(self, pending: _Pending) -> AbstractContextManager[object]:
        if self._traces is None:
            return nullcontext()
        attributes: Attributes = {
            "db.collection.name": self._target(pending.source).table,
            "db.operation.batch.size": len(pending.rows),
        }
        return self._traces.batch("insert", pending.parents, attributes)

    def _insert(self, pending: _Pending) -> bool:
        source = pending.source
        target, token = self._target(source), pending.token()
        pause, longest = PAUSE_S
        metrics = self._metrics
        while True:
            began = time.monotonic()
            try:
                self._tables.insert(target, self._containers[source], pending.rows, token)
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
                metrics.inserted(target.table, len(pending.rows), self.inserted_at - began)
                return True
