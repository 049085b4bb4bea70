"""Recovery: brings a table up to the end of its changelog partition, and reports the progress."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.errors import StateMismatch
from streams.kafka.offsets import watermarks
from streams.records import layout
from streams.state.rocksdb import Changes
from streams.state.table import ERASED

log = logging.getLogger(__name__)

_RECOVERED_BYTES = 4 << 20
_RECORD_BYTES = 500  # memory of a record besides its value
_LOG_EVERY_S = 5.0
_FEW_OFFSETS = 100
"""For at most this many offsets, opening a table for bulk writes would take longer than it saves."""


class Progress(NamedTuple):
    """The recovery progress of a partition's tables.

    ``offsets`` out of ``offsets_due`` have been read, and ``entries`` (ids, rounds, profiles,
    positions) written, in ``elapsed_s``. ``offsets_due`` is 0 if the tables on the disk were up to
    date.
    """

    partition: int
    entries: int
    offsets: int
    offsets_due: int
    elapsed_s: float
    done: bool

    @property
    def percent(self) -> float:
        """Percentage of the offsets that have been read; 100 only when all are applied."""
        return 100.0 if self.done else min(99.9, 100.0 * self.offsets / max(1, self.offsets_due))

    @property
    def left_s(self) -> float | None:
        """Remaining seconds at the rate so far; None before the first batch."""
        if self.done:
            return 0.0
        if not self.offsets:
            return None
        return self.elapsed_s * max(0, self.offsets_due - self.offsets) / self.offsets

    def document(self) -> dict[str, Any]:
        """The progress as a JSON object, with ``percent`` and ``left_s``."""
        return {**self._asdict(), "percent": self.percent, "left_s": self.left_s}

    def __str__(self) -> str:
        left = "" if self.done or self.left_s is None else f", {self.left_s:.0f} s left"
        return (
            f"partition {self.partition}: {self.percent:.1f} % of the changelog read, "
            f"{self.entries:,} entries applied in {self.elapsed_s:.1f} s{left}"
        )


class Recoveries:
    """The last known :class:`Progress` of each open or opening partition of a worker.

    The thread that builds a partition's tables writes it; any thread may read it.
    """

    def __init__(self) -> None:
        self._progress: dict[int, Progress] = {}

    def now(self) -> list[Progress]:
        """The progress of all partitions in their order, including finished ones."""
        return [progress for _, progress in sorted(self._progress.copy().items())]

    def begin(self, partition: int) -> "Recovering":
        """Begins the recovery of a partition."""
        return Recovering(partition, self._progress)

    def forget(self, partition: int) -> None:
        """Removes a partition that is closed."""
        self._progress.pop(partition, None)


class Recovering:
    """Counts what one recovery reads and writes, and logs it every few seconds."""

    def __init__(self, partition: int, into: dict[int, Progress]) -> None:
        self._into = into
        self._began = self._logged = time.monotonic()
        self.progress = into[partition] = Progress(partition, 0, 0, 0, 0.0, done=False)

    def due(self, offsets: int) -> None:
        """Adds to the number of offsets that have to be read."""
        self._change(offsets_due=self.progress.offsets_due + offsets)

    def read(self, offsets: int, entries: int) -> None:
        """Adds to the numbers of offsets read and entries written."""
        self._change(offsets=self.progress.offsets + offsets, entries=self.progress.entries + entries)
        now = time.monotonic()
        if now - self._logged > _LOG_EVERY_S:
            self._logged = now
            log.info("%s", self.progress, extra={"partition": self.progress.partition})

    def end(self) -> Progress:
        """Ends the recovery."""
        self._change(offsets_due=self.progress.offsets, done=True)
        return self.progress

    def _change(self, **changed: Any) -> None:
        elapsed_s = time.monotonic() - self._began
        self.progress = self.progress._replace(elapsed_s=elapsed_s, **changed)
        self._into[self.progress.partition] = self.progress


class Store(Protocol):
    """A table that :func:`recover` brings up to date: a :class:`Table` or a :class:`Window`."""

    path: Path

    @property
    def offset(self) -> int:
        """The changelog offset at which recovery continues."""
        ...

    def reopen(self, filling: bool) -> None:
        """Opens the table again, either for bulk writes (``filling``) or for reads and writes."""
        ...


@contextmanager
def filling(store: Store) -> Iterator[None]:
    """Opens ``store`` for bulk writes, and at the end for reads and writes."""
    store.reopen(filling=True)
    yield
    store.reopen(filling=False)


class Changelog(NamedTuple):
    """A table, its changelog partition, and the conversion from records to puts.

    ``changes_of(key, value)`` returns the changes of one record. ``write(changes, offset, at_s)``
    writes them to the table together with the offset at which recovery continues, as of a time
    (seconds, epoch).
    """

    table: Store
    topic_partition: TopicPartition
    changes_of: Callable[[bytes | None, bytes | None], Changes]
    write: Callable[[Any, int, float], None]


def behind(changelog: Changelog, consumer: Consumer) -> range:
    """The changelog offsets that the table does not have yet, up to the end that ``consumer`` sees.

    Raises ``StateMismatch`` if the table is ahead of the changelog.
    """
    topic, partition = changelog.topic_partition.topic, changelog.topic_partition.partition
    low, high = watermarks(consumer, changelog.topic_partition)
    start = changelog.table.offset
    if start > high:
        raise StateMismatch(
            f"the state in {changelog.table.path} is ahead of its changelog {topic}[{partition}] "
            f"({start} > {high}): the changelog was lost or recreated. Move that directory away to "
            "build the state anew from what the changelog still holds."
        )
    return range(max(start, low), high)


def recover(changelog: Changelog, due: range, consumer: Consumer, recovering: Recovering) -> None:
    """Brings a table up to the end of ``due``, the result of :func:`behind`, and to what follows.

    Waits for transactions before that end which are not visible yet.
    """
    if not due:
        return
    topic_partition = changelog.topic_partition
    consumer.assign([TopicPartition(topic_partition.topic, topic_partition.partition, due.start)])
    start = due.start
    with filling(changelog.table) if len(due) > _FEW_OFFSETS else nullcontext():
        for records, end in _to_the_end(consumer, due.stop):
            recovering.read(end - start, write_records(changelog, records, end))
            start = end
    consumer.unassign()


class Record(NamedTuple):
    """A record of a changelog; a tombstone has no value. ``bytes`` is its size in memory, about."""

    key: bytes | None
    value: bytes | None
    at_s: float
    offset: int
    bytes: int

    @classmethod
    def of(cls, message: Message) -> Self:
        """From a message without an error. Raises ``NewerVersion`` if this version cannot read it."""
        value = message.value()
        headers: Any = message.headers() or ()
        where = f"{message.topic()}[{message.partition()}] at offset {message.offset()}"
        layout.STATE_LAYOUT.check(where, headers)
        at_s, offset = message.timestamp()[1] / 1000, message.offset() or 0
        return cls(message.key(), value, at_s, offset, len(value or b"") + _RECORD_BYTES)


def write_records(changelog: Changelog, records: Sequence[Record], end: int) -> int:
    """Writes records and the offset after them to a table, together; returns the number of entries."""
    changes: dict[bytes, bytes | None] = {}
    entries = 0
    for record in records:
        found = changelog.changes_of(record.key, record.value)
        entries += len(found)
        erased = changes.get(ERASED)
        changes |= found
        if erased is not None:
            changes[ERASED] = erased + (found.get(ERASED) or b"")
    changelog.write(changes, end, records[-1].at_s)
    return entries


def _to_the_end(consumer: Consumer, least: int) -> Iterator[tuple[list[Record], int]]:
    """Yields batches of records, each with the offset after it, until the end of the partition, which
    is ``least`` or later.
    """
    done = False
    while not done:
        batch: list[Record] = []
        size = 0
        end = None
        while size < _RECOVERED_BYTES and not done:
            message = consumer.poll(1.0)
            if message is None:
                break
            error = message.error()
            if error is None:
                record = Record.of(message)
                batch.append(record)
                size += record.bytes
                end = record.offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                end = message.offset()
                done = (end or 0) >= least
            else:
                raise KafkaException(error)
        if batch and end is not None:
            yield batch, end
