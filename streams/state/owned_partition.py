"""One staged partition and all that belongs to it: producer, tables, position.

Opening a partition, and what a crash after each step leaves:

1. ``init_transactions`` - fences any earlier owner and ends its open transaction. Nothing written.
2. Both changelogs are read (read committed) from the offset in RocksDB to the end. Each batch is
   written with its offset; a crash repeats from there.
3. Work goes on after the position that the window changelog carries.

Applying records, and what a crash after each step leaves:

1. Decide: read state, compute effects. Nothing written.
2. ``begin_transaction``, send outputs and changelog. The broker aborts what was not committed.
3. ``commit_transaction``. Outputs, state and position are now facts; RocksDB is behind and catches
   up from the changelog when the partition is opened again.
4. Write RocksDB.
5. The caller acknowledges to Faust. That offset is a hint: what comes again is skipped.
"""

import logging
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import msgspec
from confluent_kafka import KafkaError, Message, Producer, TopicPartition

from streams.core import profile as profiles
from streams.core import round as rounds
from streams.core.accounting import Reject, encode_reject
from streams.core.event import Kind
from streams.core.profile import Profile
from streams.errors import DeliveryFailed, InputGap, StateDamaged
from streams.kafka.clients import committed_consumer, transactional_producer, watermarks
from streams.records.staged_chunk import Group, groups_of
from streams.records.topics import CONTRACTS, PROFILES, RECORD_BYTES, REJECTS, STAGED, WINDOW
from streams.settings import Settings
from streams.stages.process import Effects, process
from streams.state.table import Puts, Table, Window, recover
from streams.wire.avro import Record, codec, unframe

log = logging.getLogger(__name__)

_POSITION = b"\x00position"
_CHANGES = codec("window-changes")
_PACK = msgspec.msgpack.Encoder().encode
_UNPACK = msgspec.msgpack.Decoder(dict[bytes, bytes]).decode
_ROUND_RUNS_MAX = 50_000

WINDOW_FOLDER = "window"
"""Of the window table, in the partition's home."""


class Position(NamedTuple):
    """How far the input is applied. ``raw`` by raw partition: (offset, part)."""

    staged_offset: int
    raw: Mapping[int, tuple[int, int]]

    def record(self) -> Record:
        """As the contract ``window-changes`` has it."""
        return {
            "staged_offset": self.staged_offset,
            "raw": {str(p): {"offset": o, "part": part} for p, (o, part) in self.raw.items()},
        }

    @classmethod
    def of(cls, record: Record) -> "Position":
        """The inverse of :meth:`record`."""
        raw = {int(p): (place["offset"], place["part"]) for p, place in record["raw"].items()}
        return cls(record["staged_offset"], raw)


def home_of(settings: Settings, worker: str, partition: int) -> Path:
    """Where a worker keeps the state of a partition."""
    return settings.state_home / worker / f"partition-{partition}"


class OwnedPartition:
    """Exactly-once bookkeeping of one staged partition. Blocking; one thread at a time."""

    def __init__(
        self,
        settings: Settings,
        partition: int,
        *,
        worker: str,
        frames: Mapping[str, bytes],
        cluster: str,
        computing: threading.Lock,
    ) -> None:
        """``computing`` is held while Python computes and released while Kafka is awaited."""
        self.settings = settings
        self.partition = partition
        self.frames = frames
        self._producer = _fencing_producer(settings, partition)
        self._cluster = cluster
        self._computing = computing
        self._home = home_of(settings, worker, partition)
        self._round_runs: dict[str, bytes] = {}
        self._stores: list[Window | Table] = []
        try:
            self._open()
        except StateDamaged as error:
            self._set_aside(error)
            self._open()

    @property
    def expected(self) -> int:
        """The staged offset that comes next."""
        return self.position.staged_offset + 1

    # Opening ---------------------------------------------------------------------------------

    def _open(self) -> None:
        self._window = Window(self._home / WINDOW_FOLDER, self._cluster, self.settings.window_s)
        self._stores.append(self._window)
        self._profiles = Table(self._home / "profiles", self._cluster)
        self._stores.append(self._profiles)
        self._recover()
        self.position = self._read_position()

    def _set_aside(self, error: StateDamaged) -> None:
        """Local state is a copy of the changelog: a damaged one is kept for a look and made anew."""
        self.close()
        aside = self._home.with_name(f"{self._home.name}.damaged")
        log.error("%s. Moving it to %s and building it anew from the changelog.", error, aside)
        shutil.rmtree(aside, ignore_errors=True)
        self._home.rename(aside)

    def _recover(self) -> None:
        began = time.monotonic()
        prefix = self.settings.topic_prefix
        consumer = committed_consumer(self.settings, f"{prefix}recovery")
        try:
            count = recover(
                self._window,
                consumer,
                TopicPartition(prefix + WINDOW, self.partition),
                puts_of=_window_puts,
                write=self._window.write,
            )
            count += recover(
                self._profiles,
                consumer,
                TopicPartition(prefix + PROFILES, self.partition),
                puts_of=_profile_puts,
                write=lambda puts, offset, at_s: self._profiles.write(puts, offset),
            )
            staged = TopicPartition(prefix + STAGED, self.partition)
            self._low, _ = watermarks(consumer, staged)
        finally:
            consumer.close()
        log.info(
            "partition %d open: %d changelog records in %.2f s",
            self.partition,
            count,
            time.monotonic() - began,
        )

    def _read_position(self) -> Position:
        stored = self._window.get(_POSITION)
        if stored is None:
            if self._window.offset:
                raise StateDamaged(
                    f"the state in {self._window.path} has a changelog offset and no position"
                )
            return Position(self._low - 1, {})
        position = Position.of(cast(Record, _CHANGES.decode(stored)["position"]))
        if position.staged_offset + 1 < self._low:
            raise InputGap(
                f"{STAGED}[{self.partition}] begins at offset {self._low}, but only "
                f"{position.staged_offset} and what lies before it is applied: records were deleted "
                "before they were processed."
            )
        return position

    # Applying --------------------------------------------------------------------------------

    def apply(self, records: Sequence[tuple[int, bytes]]) -> None:
        """Applies (staged offset, value) records in one transaction; skips what is applied already.

        Raises ``InputGap`` if a record is missing between. Any exception means: end the process.
        """
        fresh = [record for record in records if record[0] >= self.expected]
        if not fresh:
            return
        with self._computing:
            changes = self._send_effects(*self._decide(fresh))
        self._producer.commit_transaction()
        with self._computing:
            self._store(changes)

    def _decide(self, fresh: Sequence[tuple[int, bytes]]) -> tuple[Effects, Position]:
        refused: list[tuple[str, bytes]] = []
        raw = dict(self.position.raw)
        groups: list[Group] = []
        for expected, (offset, value) in enumerate(fresh, self.expected):
            if offset != expected:
                raise InputGap(
                    f"{STAGED}[{self.partition}]: offset {offset} came where {expected} was due"
                )
            try:
                staged = self._read(value)
            except ValueError as error:
                refused.append(("", self._refuse(offset, value, error)))
                continue
            for group in staged:
                place = group.raw_offset, group.part
                if place > raw.get(group.raw_partition, (-1, -1)):
                    raw[group.raw_partition] = place
                    groups.append(group)
        effects = process(groups, self, self.partition, fresh[0][0])
        effects.outputs[REJECTS] += refused
        return effects, Position(fresh[-1][0], raw)

    def _read(self, value: bytes) -> list[Group]:
        """The groups of a staged record. Raises ``ValueError`` if translate did not write it."""
        if not value.startswith(self.frames["staged-chunk"]):
            raise ValueError("not framed as the contract staged-chunk")
        return groups_of(unframe(value))

    def window(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return self._window.get_many(keys)

    def profiles(self, keys: Sequence[str]) -> Sequence[Profile | None]:
        stored = self._profiles.get_many([key.encode() for key in keys])
        return [None if value is None else profiles.decode(value) for value in stored]

    def round_runs(self, kind: Kind, keys: Sequence[str]) -> Sequence[bytes]:
        known = self._round_runs
        unknown = list({key for key in keys if key not in known})
        if len(known) + len(unknown) > _ROUND_RUNS_MAX:
            known.clear()
            unknown = list(set(keys))
        for key, profile in zip(unknown, self.profiles(unknown), strict=True):
            known[key] = rounds.encode_profile(kind, profile)
        return [known[key] for key in keys]

    def _send_effects(self, effects: Effects, position: Position) -> "_Changes":
        """Begins the transaction and sends; returns what is to be stored when it has committed."""
        changes = _Changes(
            effects.window,
            {
                key.encode(): profiles.encode(put.kind, put.tenant, put.identity, put.profile)
                for key, put in effects.profiles.items()
            },
            position,
            _Last(self._window.offset),
            _Last(self._profiles.offset),
        )
        self._producer.begin_transaction()
        for topic, outputs in effects.outputs.items():
            self._send(topic, [(key.encode(), datum) for key, datum in outputs])
        self._send(PROFILES, changes.profiles.items(), changes.profiles_end)
        records = changelog_records(changes.window, position)
        self._send(WINDOW, [(None, record) for record in records], changes.window_end)
        return changes

    def _store(self, changes: "_Changes") -> None:
        """Writes to RocksDB what has been committed."""
        now = time.time()
        puts = {**changes.window, _POSITION: _change({}, changes.position)}
        self._window.write(puts, changes.window_end.next, now)
        if changes.profiles:
            self._profiles.write(changes.profiles, changes.profiles_end.next)
        for key in changes.profiles:
            self._round_runs.pop(key.decode(), None)
        self.position = changes.position

    def _send(
        self,
        topic: str,
        records: Iterable[tuple[bytes | None, bytes]],
        on_delivery: Callable[[KafkaError | None, Message], None] | None = None,
    ) -> None:
        """Sends (key, datum) records of the topic's contract."""
        name, frame = self.settings.topic_prefix + topic, self.frames[CONTRACTS[topic]]
        partition, produce = self.partition, self._producer.produce
        for key, datum in records:
            while True:
                try:
                    produce(name, frame + datum, key, partition, on_delivery)
                    break
                except BufferError:
                    self._producer.poll(0.1)

    def _refuse(self, offset: int, value: bytes, error: Exception) -> bytes:
        """A reject for a staged record that no translate stage wrote."""
        errors = [{"code": "not_staged", "pointer": "", "message": f"staged record: {error}"}]
        return encode_reject(
            Reject(
                reject_id=f"staged-{self.partition}-{offset}",
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
                payload=value,
            )
        )

    def close(self) -> None:
        """Closes the tables; an unfinished transaction is left to the next owner to end."""
        while self._stores:
            self._stores.pop().close()


class _Last:
    """Collects from delivery reports the changelog offset to go on from."""

    def __init__(self, offset: int) -> None:
        self.next = offset

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise DeliveryFailed(f"{message.topic()}: {error.str()}")
        self.next = max(self.next, (message.offset() or 0) + 1)


class _Changes(NamedTuple):
    """What a transaction changes in the tables, by table; the ends are known when it has committed."""

    window: Puts
    profiles: Puts
    position: Position
    window_end: _Last
    profiles_end: _Last


def _fencing_producer(settings: Settings, partition: int) -> Producer:
    producer = transactional_producer(settings, f"{settings.topic_prefix}process-{partition}")
    producer.init_transactions()
    return producer


def _change(puts: Puts, position: Position | None) -> bytes:
    return _CHANGES.encode(
        {"puts": _PACK(puts), "position": None if position is None else position.record()}
    )


def changelog_records(puts: Puts, position: Position) -> list[bytes]:
    """The changelog records of one transaction, the position in the last."""
    change = _change(puts, position)
    if len(change) <= RECORD_BYTES or len(puts) < 2:
        return [change]
    entries = list(puts.items())
    parts = math.ceil(len(change) / RECORD_BYTES)
    size = math.ceil(len(entries) / parts)
    slices = [dict(entries[start : start + size]) for start in range(0, len(entries), size)]
    return [*[_change(part, None) for part in slices[:-1]], _change(slices[-1], position)]


def _window_puts(key: bytes | None, value: bytes) -> Puts:
    change = _CHANGES.decode(unframe(value))
    puts = _UNPACK(change["puts"])
    if change["position"] is not None:
        puts[_POSITION] = _change({}, Position.of(change["position"]))
    return puts


def _profile_puts(key: bytes | None, value: bytes) -> Puts:
    assert key is not None
    return {key: unframe(value)}
