"""One staged partition and all that belongs to it: tables, position, and its share of transactions.

Opening a partition, and what a crash after each step leaves:

1. A lane takes it over (:mod:`streams.state.takeover`): earlier owners are fenced.
2. Both changelogs are read (read committed) from the offset in RocksDB to the end of all that is
   written, whose transactions may still be about to become visible. Each batch is written with its
   offset; after a crash the reading repeats from there.
3. Work goes on after the position that the window changelog carries.

Closing it: the tables are closed, then the lane releases it, after its last transaction with it.
Partitions that are assigned together are claimed, and those that are revoked together are released, in
one transaction.

Records are applied in the transactions of the lane: :mod:`streams.state.lane`.
"""

import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from streams.core import profile as profiles
from streams.core import round as rounds
from streams.core.accounting import Reject, encode_reject
from streams.core.event import Kind
from streams.core.identity import erased_mark, key_of
from streams.core.profile import state_key
from streams.errors import DeliveryFailed, InputGap, NewerVersion, StateDamaged
from streams.kafka.clients import committed_consumer, uncommitted_consumer
from streams.kafka.offsets import watermarks
from streams.kafka.schemas import Schemas
from streams.records import layout
from streams.records.raw_batch import TRACEPARENT, Headers
from streams.records.staged_chunk import Group, StagedRecord, content_header, groups_of
from streams.records.topics import CONTRACTS, OUTCOMES, PROFILES, REJECTS, STAGED, WINDOW
from streams.settings import Settings
from streams.stages.process import ROUND_KEY, At, Effects, process
from streams.state.changelog import (
    POSITION_KEY,
    Position,
    StateCodec,
    changelog_records,
)
from streams.state.lane import Lane, Share
from streams.state.owners import Lanes
from streams.state.recovery import Changelog, Recoveries, behind, recover
from streams.state.rocksdb import Changes, Memory, Puts
from streams.state.state_reader import StateReader
from streams.state.table import ERASED, Table, Window
from streams.telemetry.traces import LINKS_MAX, Traces, parents_of
from streams.telemetry.worker_metrics import Work, WorkerMetrics
from streams.wire.avro import Reader

log = logging.getLogger(__name__)


class Shared(NamedTuple):
    """The objects that the partitions of a worker share.

    ``cluster`` is the id of the Kafka cluster. ``computing`` is held during computation and
    released while a partition waits for Kafka. ``recoveries`` has the recovery progress of each
    partition.
    """

    settings: Settings
    worker: str
    schemas: Schemas
    cluster: str
    memory: Memory
    computing: threading.Lock
    recoveries: Recoveries
    metrics: WorkerMetrics
    lanes: Lanes
    traces: Traces | None = None


def state_directory(settings: Settings, worker: str, partition: int) -> Path:
    """The directory of a worker's state of a partition."""
    return settings.state_path / worker / f"partition-{partition}"


def partitions_on_disk(settings: Settings, worker: str) -> list[int]:
    """Of which partitions a worker has some state, up to date or not."""
    names = (path.name for path in (settings.state_path / worker).glob("partition-*"))
    numbers = (name.removeprefix("partition-") for name in names)
    return [int(number) for number in numbers if number.isdecimal()]


def window_directory(settings: Settings, worker: str, partition: int) -> Path:
    """The directory of a worker's window table of a partition."""
    return state_directory(settings, worker, partition) / "window"


# Opening -------------------------------------------------------------------------------------


def open_partition(shared: Shared, partition: int) -> "OwnedPartition":
    """Takes a partition over from its earlier owner and brings its state up to date. Blocking.

    Damaged state is moved aside and rebuilt from the changelogs. Raises ``StateMismatch`` if the
    state is of another cluster or ahead of its changelog, and ``InputGap`` if input was deleted
    before it was processed.
    """
    consumer = uncommitted_consumer(shared.settings, f"{shared.settings.topic_prefix}recovery")
    try:
        lane = shared.lanes.take(partition, consumer)
        try:
            state = _open_state(shared, partition, consumer)
        except StateDamaged as error:
            set_aside(shared, partition, error)
            state = _open_state(shared, partition, consumer)
    finally:
        consumer.close()
    return OwnedPartition(shared, partition, lane, state)


class Tables(NamedTuple):
    """The tables of a partition."""

    window: Window
    profiles: Table

    def close(self) -> None:
        """Closes both."""
        self.profiles.close()
        self.window.close()


class State(NamedTuple):
    """Tables that are up to date, and the position up to which input is applied."""

    tables: Tables
    position: Position


def _open_state(shared: Shared, partition: int, written: Consumer) -> State:
    tables = open_tables(shared, partition)
    try:
        low = _recover(shared, partition, tables, written)
        return State(tables, _read_position(tables.window, shared.schemas, partition, low))
    except BaseException:
        tables.close()
        raise


def open_tables(shared: Shared, partition: int) -> Tables:
    """A partition's tables as the disk has them. Raises ``StateDamaged`` and ``StateMismatch``."""
    directory = window_directory(shared.settings, shared.worker, partition)
    window = Window(directory, shared.cluster, shared.settings.window_s, shared.memory)
    try:
        return Tables(window, Table(directory.with_name("profiles"), shared.cluster, shared.memory))
    except BaseException:
        window.close()
        raise


def changelogs(shared: Shared, partition: int, tables: Tables) -> tuple[Changelog, Changelog]:
    """Where a partition's tables are read from, and how."""
    prefix, codec = shared.settings.topic_prefix, StateCodec(shared.schemas)
    window, stored = tables
    return (
        Changelog(window, TopicPartition(prefix + WINDOW, partition), codec.window_puts, window.write),
        Changelog(
            stored,
            TopicPartition(prefix + PROFILES, partition),
            codec.profile_changes,
            lambda changes, offset, at_s: stored.change(changes, offset),
        ),
    )


def set_aside(shared: Shared, partition: int, error: StateDamaged) -> None:
    """Moves damaged state aside for inspection. It is a copy of the changelog and can be rebuilt."""
    directory = state_directory(shared.settings, shared.worker, partition)
    aside = directory.with_name(f"{directory.name}.damaged")
    log.error(
        "%s. Moving it to %s and rebuilding it from the changelog.",
        *(error, aside),
        extra={"partition": partition},
    )
    shutil.rmtree(aside, ignore_errors=True)
    directory.rename(aside)


def _recover(shared: Shared, partition: int, tables: Tables, written: Consumer) -> int:
    """Brings both tables to the end of their changelogs; returns the first offset in ``staged``.

    ``written`` knows the ends of all that is written. What is committed may become visible only later,
    and a consumer of committed records alone would take the changelog to end before it.
    """
    prefix = shared.settings.topic_prefix
    recovering = shared.recoveries.begin(partition)
    consumer = committed_consumer(shared.settings, f"{prefix}recovery")
    try:
        found = changelogs(shared, partition, tables)
        due = [behind(changelog, written) for changelog in found]
        recovering.due(sum(map(len, due)))
        for changelog, offsets in zip(found, due, strict=True):
            recover(changelog, offsets, consumer, recovering)
        low, _ = watermarks(consumer, TopicPartition(prefix + STAGED, partition))
    finally:
        consumer.close()
    log.info("open: %s", recovering.end(), extra={"partition": partition})
    return low


def _read_position(window: Window, schemas: Schemas, partition: int, low: int) -> Position:
    stored = window.get(POSITION_KEY)
    if stored is None:
        if window.offset:
            raise StateDamaged(f"the state in {window.path} has a changelog offset and no position")
        return Position(low - 1, {})
    position = StateCodec(schemas).position(stored)
    if position.staged_offset + 1 < low:
        raise InputGap(
            f"{STAGED}[{partition}] begins at offset {low}, but the last applied offset is "
            f"{position.staged_offset}: records were deleted before they were processed."
        )
    return position


# Applying ------------------------------------------------------------------------------------


class OwnedPartition:
    """Applies staged records to one partition exactly once. Blocking; for one thread at a time."""

    def __init__(self, shared: Shared, partition: int, lane: Lane, state: State) -> None:
        """``lane`` has taken the partition over; see :func:`open_partition`."""
        self.partition = partition
        self.lane = lane
        self.position = state.position
        self._settings = shared.settings
        self._schemas = shared.schemas
        self._frames = shared.schemas.frames
        self._codec = StateCodec(shared.schemas)
        contract = CONTRACTS[STAGED]
        self._staged = Reader(contract, self._frames[contract], self._schemas.schema_of)
        _, self._own_contents = content_header(self._frames)
        self._recoveries = shared.recoveries
        self._lanes = shared.lanes
        self._tables = state.tables
        self.reader = StateReader(state.tables.window, state.tables.profiles, self._codec.profile)
        self._metrics = shared.metrics
        self._traced = shared.traces is not None

    @property
    def expected(self) -> int:
        """The next staged offset."""
        return self.position.staged_offset + 1

    def apply(self, records: Sequence[StagedRecord]) -> None:
        """Applies records of this partition alone: see :meth:`streams.state.lane.Lane.apply`."""
        self.lane.apply([(self, records)])

    def runs(self, records: Sequence[StagedRecord]) -> list[Sequence[StagedRecord]]:
        """The records that are not applied yet. What erases a player is a run of its own: what follows
        is decided by the state after it.
        """
        fresh = [record for record in records if record.offset >= self.expected]
        found: list[Sequence[StagedRecord]] = []
        begin = 0
        for index, record in enumerate(fresh):
            if record.erases is not None:
                found += [fresh[begin:index], [record]]
                begin = index + 1
        return [run for run in (*found, fresh[begin:]) if run]

    def send(self, run: Sequence[StagedRecord]) -> Share:
        """Decides a run of :meth:`runs` and sends its effects."""
        if run[0].erases is not None:
            return self._erase(run[0], run[0].erases)
        effects, position = self._decide(run)
        changes = self._send_effects(effects, position, self._parents(run))
        sent = Counter({topic: len(outputs) for topic, outputs in effects.outputs.items()})
        work = Work(effects.outcomes, sent, effects.refused)
        return Share(work, partial(self._store, changes))

    def _erase(self, record: StagedRecord, player: str) -> Share:
        """Removes what the state has of a player, and refuses the player after it.

        ``player`` is the key of the player. The changelogs keep what they had until it is deleted or
        compacted.
        """
        layout.STAGED_LAYOUT.check(f"{STAGED}[{self.partition}]", record.headers)
        if record.offset != self.expected:
            raise InputGap(f"{STAGED}[{self.partition}]: {self.expected} is missing")
        found = {
            key
            for key, value in self._tables.window.entries(ROUND_KEY)
            if (state := rounds.of_state(value)) and key_of(state.tenant, state.player_id) == player
        }
        mark = erased_mark(player)
        changes = self._changes(
            {ERASED: b"".join(sorted(found))} if found else {},
            {
                profiles.erased_key(mark).encode(): self._frames[CONTRACTS[PROFILES]]
                + profiles.encode(Kind.PLAYER, "", "", {}),
                state_key(Kind.PLAYER, player).encode(): None,
            },
            Position(record.offset, self.position.raw),
        )
        self._send_changes(changes, layout.STATE_LAYOUT.newest_headers)

        def store() -> None:
            self._store(changes)
            self.reader.erased.add(mark)
            log.info(
                "erased a player: %d rounds of the window",
                len(found),
                extra={"partition": self.partition},
            )

        return Share(Work(), store)

    def _parents(self, fresh: Sequence[StagedRecord]) -> list[bytes]:
        if not self._traced:
            return []
        return [parent for record in fresh for parent in parents_of(record.headers)]

    def sample(self) -> None:
        """Measures the tables, and takes the producer's statistics while the lane is idle."""
        self.lane.producer.poll(0)
        self._metrics.partitions.measure(self.partition, "window", self._tables.window.size())
        self._metrics.partitions.measure(self.partition, "profiles", self._tables.profiles.size())

    def _decide(self, fresh: Sequence[StagedRecord]) -> tuple[Effects, Position]:
        refused: list[tuple[bytes, bytes]] = []
        raw = dict(self.position.raw)
        groups: list[Group] = []
        for expected, record in enumerate(fresh, self.expected):
            if record.offset != expected:
                raise InputGap(
                    f"{STAGED}[{self.partition}]: offset {record.offset} arrived where {expected} was "
                    "expected"
                )
            if record.partitions not in (None, self._settings.partitions):
                # by a translate that was paused while the line grew; its successor translates the same
                log.warning(
                    "%s[%d] at offset %d was divided among %d partitions: skipped",
                    *(STAGED, self.partition, record.offset, record.partitions),
                )
                continue
            try:
                staged = self._read(record)
            except ValueError as error:
                refused.append((b"", self._refuse(record, error)))
                continue
            for group in staged:
                at = group.raw_offset, group.part
                if at > raw.get(group.raw_partition, (-1, -1)):
                    raw[group.raw_partition] = at
                    groups.append(group)
        at = At(self.partition, self.position.first_segment + fresh[0].offset)
        effects = process(groups, self.reader, self._frames, at)
        effects.outputs[REJECTS] += refused
        if refused:
            effects.refused["not_staged"] += len(refused)
        return effects, Position(fresh[-1].offset, raw)

    def _read(self, record: StagedRecord) -> list[Group]:
        """The groups of a staged record. Raises ``ValueError`` if translate did not write it."""
        where = f"{STAGED}[{self.partition}] at offset {record.offset}"
        layout.STAGED_LAYOUT.check(where, record.headers)
        contract, schemas = CONTRACTS[STAGED], self._schemas
        if record.contents is None and not record.value.startswith(schemas.first(contract)):
            raise ValueError(f"not framed as the contract {contract}")
        contents = schemas.contents(record.contents)
        try:
            return groups_of(record.value, contents, self._staged.read)
        except ValueError as error:
            if record.contents in (None, self._own_contents):
                raise
            raise NewerVersion(
                f"{where} was written by another version and cannot be read by this one: {error}. "
                "Deploy the version that wrote it."
            ) from None

    def _send_effects(
        self, effects: Effects, position: Position, parents: Sequence[bytes] = ()
    ) -> "_Changes":
        """Sends; returns the changes to store after the commit."""
        frame = self._frames[CONTRACTS[PROFILES]]
        changes = self._changes(
            effects.window,
            {
                key.encode(): frame + profiles.encode(put.kind, put.tenant, put.identity, put.profile)
                for key, put in effects.profiles.items()
            },
            position,
        )
        for topic, records in effects.outputs.items():
            if parents and topic == OUTCOMES:  # one record is enough to tell the sink
                first, *records = records
                traced = [(TRACEPARENT, parent) for parent in parents[:LINKS_MAX]]
                self._send(topic, [first], headers=traced)
            self._send(topic, records)
        self._send_changes(changes, layout.STATE_LAYOUT.headers)
        return changes

    def _changes(self, window: Puts, stored: Changes, position: Position) -> "_Changes":
        ends = _Last(self._tables.window.offset), _Last(self._tables.profiles.offset)
        return _Changes(window, stored, position, *ends)

    def _send_changes(self, changes: "_Changes", headers: Headers) -> None:
        """Sends the records of the changelogs."""
        self._send(PROFILES, changes.profiles.items(), changes.profiles_end, headers)
        frame = self._frames[CONTRACTS[WINDOW]]
        records = changelog_records(changes.window, changes.position)
        packed = [(None, frame + record) for record in records]
        self._send(WINDOW, packed, changes.window_end, headers)

    def _store(self, changes: "_Changes") -> None:
        """Writes committed changes to RocksDB."""
        now, codec = time.time(), self._codec
        puts = {**changes.window, POSITION_KEY: codec.stored_position(changes.position)}
        self._tables.window.write(puts, changes.window_end.next, now)
        if changes.profiles:
            stored = {
                key: None if value is None else codec.stored_profile(value)
                for key, value in changes.profiles.items()
            }
            self._tables.profiles.change(stored, changes.profiles_end.next)
        self.reader.forget(changes.profiles)
        self.position = changes.position

    def _send(
        self,
        topic: str,
        records: Iterable[tuple[bytes | None, bytes | None]],
        on_delivery: Callable[[KafkaError | None, Message], None] | None = None,
        headers: Headers = (),
    ) -> None:
        """Sends (key, framed datum) records; a tombstone has no datum."""
        name, produce = self._settings.topic_prefix + topic, self.lane.producer.produce
        partition = self.partition
        if headers:
            produce = partial(produce, headers=list(headers))
        for key, value in records:
            while True:
                try:
                    produce(name, value, key, partition, on_delivery)
                    break
                except BufferError:
                    self.lane.producer.poll(0.1)

    def _refuse(self, record: StagedRecord, error: Exception) -> bytes:
        """A reject for a staged record that no translate stage wrote."""
        errors = [{"code": "not_staged", "pointer": "", "message": f"staged record: {error}"}]
        reject = Reject(
            reject_id=f"staged-{self.partition}-{record.offset}",
            tenant="",
            source="",
            batch_id="",
            received_at=0,
            position=-1,
            raw_partition=-1,
            raw_offset=-1,
            stage="process",
            outcome="rejected",
            code="not_staged",
            errors=errors,
            payload_format="record",
            payload=record.value,
        )
        return self._frames["reject"] + encode_reject(reject)

    def close(self) -> None:
        """Closes this partition alone: see :func:`close_partitions`."""
        close_partitions(self._lanes, [self])

    def close_tables(self) -> None:
        """Closes the tables. The next owner aborts what is unfinished."""
        self._tables.close()
        self._recoveries.forget(self.partition)
        self._metrics.partitions.closed(self.partition)


def close_partitions(lanes: Lanes, owned: Collection[OwnedPartition]) -> None:
    """Closes the tables of partitions, then releases all of them. Blocking."""
    for each in owned:
        each.close_tables()
    lanes.release([each.partition for each in owned])


class _Last:
    """Collects, from delivery reports, the changelog offset at which recovery continues."""

    def __init__(self, offset: int) -> None:
        self.next = offset

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise DeliveryFailed(f"{message.topic()}: {error.str()}")
        self.next = max(self.next, (message.offset() or 0) + 1)


class _Changes(NamedTuple):
    """The changes of a transaction by table; the changelog ends are known after the commit."""

    window: Puts
    profiles: Changes
    position: Position
    window_end: _Last
    profiles_end: _Last
