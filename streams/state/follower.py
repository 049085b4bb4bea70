"""Standby copies: tables of partitions that other workers own, kept up to date from the changelogs.

A copy is written in the same way as by a recovery: only committed records, each batch with the offset
after it. So a copy is never ahead of its changelog, a crash at any moment leaves a copy that is behind,
and an owner that finds a copy on its disk reads only the rest of the changelog.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.errors import StateDamaged
from streams.kafka.clients import committed_consumer
from streams.records.topics import MESSAGE_BYTES_MAX
from streams.state.owned_partition import Shared, Tables, changelogs, open_tables, set_aside
from streams.state.recovery import Changelog, Record, write_records
from streams.state.recovery import behind as offsets_behind

log = logging.getLogger(__name__)

_BATCH_BYTES = 1 << 20
_BATCH_S = 0.5
"""Interval of the writes, and so the longest time that an owner waits for a copy to be closed."""
_ON_ITS_WAY_OFFSETS = 100
"""A copy with at most this lag is up to date. A busy partition has about 25 offsets per second,
including transaction markers."""
_LITTLE_AT_ONCE: dict[str, str | int | bool] = {
    "queued.max.messages.kbytes": 16_384,
    "fetch.max.bytes": MESSAGE_BYTES_MAX,
    "fetch.message.max.bytes": 1 << 20,
}
"""Limits of the fetched bytes. Kafka delivers a larger record nevertheless."""

Place = tuple[str, int]


class Copy(NamedTuple):
    """The progress of a copy: the ``entries`` written since it was opened, and its lag in offsets."""

    partition: int
    entries: int
    behind: int


class _Followed(NamedTuple):
    tables: Tables
    changelogs: dict[Place, Changelog]


class Followers:
    """The copies that a worker keeps. One thread reads for all of them, opens them, and closes them.

    ``failed`` is called with the exception that ended the thread.
    """

    def __init__(self, shared: Shared, failed: Callable[[BaseException], None]) -> None:
        self._shared = shared
        self._failed = failed
        self._changed = threading.Condition()
        self._wanted: frozenset[int] = frozenset()
        self._closing = False
        self._ended = True
        self._followed: dict[int, _Followed | None] = {}  # None: about to be opened
        self._entries: dict[int, int] = defaultdict(int)
        self._behind: dict[Place, int] = {}

    def follow(self, partitions: Iterable[int]) -> None:
        """Sets the partitions to follow; new copies are opened soon, and other copies are closed."""
        with self._changed:
            self._wanted = frozenset(partitions)
            if self._wanted and self._ended and not self._closing:
                self._ended = False
                threading.Thread(target=self._run, name="followers", daemon=True).start()
            self._changed.notify_all()

    def release(self, partition: int) -> None:
        """Blocks until a partition's copy is closed, so that its owner can open the tables."""
        with self._changed:
            self._wanted -= {partition}
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ended or partition not in self._followed)

    def close(self) -> None:
        """Closes all copies, and blocks until they are closed."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ended)

    def now(self) -> list[Copy]:
        """The open copies, ordered by partition."""
        return [
            Copy(
                partition,
                self._entries[partition],
                sum(self._behind[place] for place in followed.changelogs),
            )
            for partition, followed in sorted(self._followed.copy().items())
            if followed is not None and followed.changelogs.keys() <= self._behind.keys()
        ]

    def caught_up(self) -> list[int]:
        """The partitions whose copies are up to date, except for the newest offsets."""
        return [copy.partition for copy in self.now() if copy.behind <= _ON_ITS_WAY_OFFSETS]

    # The thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        prefix = self._shared.settings.topic_prefix
        consumer = committed_consumer(self._shared.settings, f"{prefix}recovery", **_LITTLE_AT_ONCE)
        try:
            while self._settle(consumer):
                batch, behind = self._read(consumer)
                self._write(batch)
                self._behind |= behind
        except BaseException as error:
            self._failed(error)
        finally:
            for followed in self._followed.values():
                if followed is not None:
                    followed.tables.close()
            consumer.close()
            with self._changed:
                self._followed.clear()
                self._ended = True
                self._changed.notify_all()

    def _settle(self, consumer: Consumer) -> bool:
        """Closes and opens copies as wanted; False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._wanted or self._followed or self._closing)
            if self._closing:
                return False
            gone = [partition for partition in self._followed if partition not in self._wanted]
            self._followed |= dict.fromkeys(self._wanted - self._followed.keys())
        new = [partition for partition, followed in self._followed.items() if followed is None]
        for partition in gone:
            self._close(partition)
        for partition in set(new) - set(gone):
            self._open(partition, consumer)
        if new or gone:
            consumer.assign(
                [
                    TopicPartition(*place, changelog.table.offset)
                    for place, changelog in self._by_place().items()
                ]
            )
        return True

    def _open(self, partition: int, consumer: Consumer) -> None:
        try:
            tables = open_tables(self._shared, partition)
        except StateDamaged as error:
            set_aside(self._shared, partition, error)
            tables = open_tables(self._shared, partition)
        found = changelogs(self._shared, partition, tables)
        by_place = {
            (each.topic_partition.topic, each.topic_partition.partition): each for each in found
        }
        self._followed[partition] = _Followed(tables, by_place)
        self._entries[partition] = 0
        for place, changelog in by_place.items():
            self._behind[place] = len(offsets_behind(changelog, consumer))
        log.info("following partition %d from offset %d", partition, tables.window.offset)

    def _close(self, partition: int) -> None:
        followed = self._followed[partition]
        if followed is not None:
            followed.tables.close()
        with self._changed:
            del self._followed[partition]
            self._changed.notify_all()

    def _by_place(self) -> dict[Place, Changelog]:
        return {
            place: changelog
            for followed in self._followed.values()
            if followed is not None
            for place, changelog in followed.changelogs.items()
        }

    def _read(self, consumer: Consumer) -> tuple[dict[Place, list[Record]], dict[Place, int]]:
        """One batch, and the lag of the tables after it, both by topic and partition."""
        batch: dict[Place, list[Record]] = defaultdict(list)
        behind: dict[Place, int] = {}
        size, until = 0, time.monotonic() + _BATCH_S
        while size < _BATCH_BYTES and (left := until - time.monotonic()) > 0:
            message = consumer.poll(left)
            if message is None:
                break
            error = message.error()
            place = str(message.topic()), message.partition() or 0
            if error is None:
                record = Record.of(message)
                batch[place].append(record)
                size += record.bytes
                _, high = consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
                behind[place] = max(1, high - record.offset - 1)
            elif error.code() == KafkaError._PARTITION_EOF:
                behind[place] = 0
            elif error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART and not error.retriable():
                raise KafkaException(error)
        return batch, behind

    def _write(self, batch: dict[Place, list[Record]]) -> None:
        by_place = self._by_place()
        for (topic, partition), records in batch.items():
            with self._shared.computing:
                written = write_records(by_place[topic, partition], records, records[-1].offset + 1)
            self._entries[partition] += written
