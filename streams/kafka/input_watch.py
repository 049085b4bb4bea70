"""Watches a process's input: the one sampler of lag, from which both health and metrics are made."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from streams.errors import BrokerUnavailable
from streams.kafka.lag import Group, LagMeter, Position
from streams.kafka.offsets import PartitionId
from streams.settings import Settings
from streams.telemetry.lag_metrics import Lag

log = logging.getLogger(__name__)

EVERY_S = 5.0
"""The interval of the samples."""


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

    :meth:`now` has the partitions that ``assigned`` returns. ``show`` gets the lag of all partitions
    of the group for the metrics while ``everywhere`` returns true, and otherwise, or while Kafka does
    not answer, nothing. ``mark(tp)`` is the state of work in a partition that commits no offset (its
    recovery); a change of the mark is progress. ``failed`` gets an exception that is not an outage of
    Kafka, and the thread ends.
    """

    def __init__(
        self,
        settings: Settings,
        group: Group,
        *,
        assigned: Callable[[], Collection[PartitionId]],
        show: Callable[[Iterable[Lag]], None],
        failed: Callable[[BaseException], None],
        everywhere: Callable[[], bool] = lambda: True,
        mark: Callable[[PartitionId], object] = lambda tp: None,
    ) -> None:
        self._meter = LagMeter(settings, group)
        self._assigned = assigned
        self._show = show
        self._failed = failed
        self._everywhere = everywhere
        self._mark = mark
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
        try:
            while True:
                time.sleep(EVERY_S)
                self._sample()
        except Exception as error:
            self._failed(error)

    def _sample(self) -> None:
        began, assigned, everywhere = time.monotonic(), self._assigned(), self._everywhere()
        shown: list[Lag] = []
        try:
            found = self._meter.positions(self._meter.partitions if everywhere else assigned)
            with self._changing:
                self._take({tp: found[tp] for tp in assigned}, time.monotonic())
            if everywhere:
                shown = self._meter.lags(found)
        except BrokerUnavailable as error:
            with self._changing:
                if self._away_since is None:
                    log.warning("%s", error)
                    self._away_since = began
        self._show(shown)

    def _take(self, found: Mapping[PartitionId, Position], now: float) -> None:
        if self._away_since is not None:
            log.warning("Kafka answers again, after %.0f s", now - self._away_since)
            self._away_since = None
            self._still = Stillness()
        committed = {tp: at.committed for tp, at in found.items()}
        if any(self._committed.get(tp, offset) != offset for tp, offset in committed.items()):
            self._progress_at = now
        self._committed = committed
        self._lags = {tp: max(0, at.end - at.committed) for tp, at in found.items()}
        self._still.observe(
            {tp: (committed[tp], self._mark(tp)) for tp, lag in self._lags.items() if lag > 0},
            now,
        )
