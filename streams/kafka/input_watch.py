"""Watches a process's input: the lag of each partition, and the time since its last commit."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from streams.kafka.clients import client_config, committed_consumer
from streams.kafka.offsets import PartitionId, list_offsets
from streams.settings import Settings

log = logging.getLogger(__name__)

EVERY_S = 5.0
_ASK_WITHIN_S = 10.0


class Waiting(NamedTuple):
    """A partition of the input: its ``lag`` in offsets, and the seconds without a commit, ``still_s``.

    ``still_s`` is 0 without lag. It counts from the latest of: a commit, the begin of the lag, the
    assignment of the partition, Kafka's first answer after an outage, a change of the mark (see
    :class:`InputWatch`).
    """

    lag: int
    still_s: float


class Stillness:
    """How long each partition with work has made no progress. Times are of a monotonic clock, in
    seconds.
    """

    def __init__(self) -> None:
        self._since: dict[PartitionId, tuple[object, float]] = {}

    def observe(self, marks: Mapping[PartitionId, object], now: float) -> None:
        """``marks`` has the partitions with lag; a change of a mark is progress."""
        before = self._since
        self._since = {
            tp: before[tp] if before.get(tp, (None,))[0] == mark else (mark, now)
            for tp, mark in marks.items()
        }

    def still_s(self, tp: PartitionId, now: float) -> float:
        """Seconds without progress; 0 if no offset waits."""
        return now - self._since[tp][1] if tp in self._since else 0.0


class Input(NamedTuple):
    """The state of an input: the lag of each partition, and whether Kafka answers.

    ``progress_s``: seconds since the last observed commit; None before the first. ``kafka_away_s``:
    seconds since Kafka stopped answering; None while it answers. During an outage the other fields
    keep their last values.
    """

    partitions: Mapping[PartitionId, Waiting]
    progress_s: float | None
    kafka_away_s: float | None

    @property
    def lag(self) -> int:
        """The lag of all partitions together."""
        return sum(waiting.lag for waiting in self.partitions.values())


class InputWatch:
    """Asks Kafka every few seconds, in a thread of its own, for end offsets and committed offsets.

    :meth:`assign` sets the partitions. ``mark(tp)`` is the state of work in a partition that
    commits no offset (its recovery); a change of the mark is progress. After an outage of Kafka,
    the time without progress counts from Kafka's first answer.
    """

    def __init__(
        self, settings: Settings, group: str, mark: Callable[[PartitionId], object] = lambda tp: None
    ) -> None:
        quiet = {"log_level": 0}
        self._mark = mark
        self._admin = AdminClient({**client_config(settings), **quiet})
        self._consumer = committed_consumer(settings, group, **quiet)
        self._assigned: frozenset[PartitionId] = frozenset()
        self._lags: dict[PartitionId, int] = {}
        self._committed: dict[PartitionId, int] = {}
        self._still = Stillness()
        self._progress_at: float | None = None
        self._away_since: float | None = None
        self._changing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="input-watch", daemon=True)

    def start(self) -> None:
        """Starts the thread, which lives as long as the process."""
        self._thread.start()

    def assign(self, tps: Collection[PartitionId]) -> None:
        """Sets the partitions of the input."""
        self._assigned = frozenset(tps)

    def now(self) -> Input:
        """The state as of the last answer; Kafka itself is not asked."""
        now = time.monotonic()
        with self._changing:
            return Input(
                {
                    tp: Waiting(lag, self._still.still_s(tp, now))
                    for tp, lag in sorted(self._lags.items())
                },
                None if self._progress_at is None else now - self._progress_at,
                None if self._away_since is None else now - self._away_since,
            )

    def _run(self) -> None:
        while True:
            time.sleep(EVERY_S)
            began = time.monotonic()
            try:
                found = self._ask(self._assigned)
            except KafkaException as error:
                with self._changing:
                    if self._away_since is None:
                        log.warning("Kafka does not answer: %s", error.args[0])
                        self._away_since = began
                continue
            with self._changing:
                self._take(found, time.monotonic())

    def _ask(self, tps: Collection[PartitionId]) -> dict[PartitionId, tuple[int, int]]:
        """Committed offset and end of each partition. Raises ``KafkaException``."""
        self._admin.list_topics(timeout=_ASK_WITHIN_S)
        if not tps:
            return {}
        partitions = [TopicPartition(*tp) for tp in tps]
        committed = self._consumer.committed(partitions, timeout=_ASK_WITHIN_S)
        begins = self._ends([at for at in committed if at.offset < 0], OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        ends = self._ends(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        found = {}
        for at in committed:
            tp = at.topic, at.partition
            found[tp] = (at.offset if at.offset >= 0 else begins[tp], ends[tp])
        return found

    def _ends(self, partitions: Iterable[TopicPartition], which: OffsetSpec) -> dict[PartitionId, int]:
        uncommitted = IsolationLevel.READ_UNCOMMITTED
        return list_offsets(self._admin, partitions, which, uncommitted, _ASK_WITHIN_S)

    def _take(self, found: Mapping[PartitionId, tuple[int, int]], now: float) -> None:
        if self._away_since is not None:
            log.warning("Kafka answers again, after %.0f s", now - self._away_since)
            self._away_since = None
            self._still = Stillness()
        committed = {tp: offset for tp, (offset, _) in found.items()}
        if any(self._committed.get(tp, offset) != offset for tp, offset in committed.items()):
            self._progress_at = now
        self._committed = committed
        self._lags = {tp: max(0, end - offset) for tp, (offset, end) in found.items()}
        self._still.observe(
            {tp: (committed[tp], self._mark(tp)) for tp, lag in self._lags.items() if lag > 0},
            now,
        )
