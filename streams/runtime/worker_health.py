"""The health of a worker: event loop, partitions, lag, and Kafka."""

import time
from collections.abc import Iterable
from typing import Any

from streams.kafka.input_watch import Input, InputWatch
from streams.kafka.lag import LINE
from streams.kafka.offsets import PartitionId
from streams.records.topics import STAGED
from streams.runtime.fail_stop import fail_stop
from streams.runtime.stages_on_kafka import Process
from streams.settings import Settings
from streams.state.follower import Followers
from streams.state.recovery import Progress, Recoveries
from streams.telemetry.health import Health, judged
from streams.telemetry.lag_metrics import LagMetrics


class WorkerHealth:
    """The health of one worker. It exists before the other parts, which register as they start; any
    thread may ask it.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._beat_at: float | None = None
        self._joined = False
        self._stopping = False
        self._process: Process | None = None
        self._recoveries: Recoveries | None = None
        self._followers: Followers | None = None
        self._watch: InputWatch | None = None
        self._assigned: frozenset[PartitionId] = frozenset()

    def begin(
        self, process: Process, recoveries: Recoveries, followers: Followers, lag: LagMetrics
    ) -> None:
        """Registers the stages and starts to watch their input; the worker then joins its group.

        The worker that has partition 0 serves the lag of all partitions, also of unassigned ones.
        """
        self._process, self._recoveries, self._followers = process, recoveries, followers
        self._watch = InputWatch(
            self.settings,
            LINE,
            assigned=lambda: self._assigned,
            show=lag.show,
            failed=fail_stop,
            everywhere=lambda: 0 in process.opened(),
            mark=self._recovery_of,
        )
        self._watch.start()

    def beat(self) -> None:
        """Reports that the event loop runs."""
        self._beat_at = time.monotonic()

    def stops(self) -> None:
        """Records that the worker has been told to stop."""
        self._stopping = True

    def assigned(self, tps: Iterable[PartitionId]) -> None:
        """Adds the partitions that the group has assigned to the worker."""
        self._joined = True
        self._assigned = self._assigned.union(tps)

    def revoked(self, tps: Iterable[PartitionId]) -> None:
        """Removes the partitions that the group has revoked."""
        self._assigned = self._assigned.difference(tps)

    def report(self) -> Health:
        """The worker's health, computed without asking Kafka."""
        if self._watch is None or self._process is None or self._recoveries is None:
            return judged({"kafka_away_s": None}, waiting=["the worker is starting"])
        now = self._watch.now()
        opened = self._process.opened()
        recoveries = {progress.partition: progress for progress in self._recoveries.now()}
        facts = self._facts(now, opened, recoveries)
        if now.kafka_away_s is not None:
            away = f"Kafka has not answered for {now.kafka_away_s:.0f} s"
            return judged(facts, waiting=[away], dead=self._dead())
        if self._stopping:
            return judged(facts, waiting=["the worker is stopping"], dead=self._dead())
        waiting = [
            f"partition {partition} is opening"
            if partition not in recoveries
            else f"opening {recoveries[partition]}"
            for partition, is_open in opened.items()
            if not is_open
        ]
        if not self._joined:
            waiting.append("the worker has not been assigned partitions by its group yet")
        return judged(facts, waiting=waiting, stuck=self._stuck(now), dead=self._dead())

    def _recovery_of(self, tp: PartitionId) -> object:
        """A value that changes while the tables of a staged partition are built."""
        topic, partition = tp
        if self._recoveries is None or topic != self.settings.topic_prefix + STAGED:
            return None
        return next((at for at in self._recoveries.now() if at.partition == partition), None)

    def _dead(self) -> list[str]:
        if self._beat_at is None:
            return []
        age_s = time.monotonic() - self._beat_at
        if age_s < self.settings.stuck_after_s:
            return []
        return [f"the event loop has not run for {age_s:.0f} s"]

    def _stuck(self, now: Input) -> list[str]:
        return [
            f"{topic}[{partition}]: {waiting.lag} offsets wait and none was done for "
            f"{waiting.still_s:.0f} s"
            for (topic, partition), waiting in now.partitions.items()
            if waiting.still_s >= self.settings.stuck_after_s
        ]

    def _facts(
        self, now: Input, opened: dict[int, bool], recoveries: dict[int, Progress]
    ) -> dict[str, Any]:
        assert self._process is not None
        positions = self._process.positions()
        return {
            "partitions": [
                {
                    "partition": partition,
                    "state": "open" if is_open else "opening",
                    "staged_offset": positions.get(partition),
                    "recovery": recoveries[partition].document() if partition in recoveries else None,
                }
                for partition, is_open in sorted(opened.items())
            ],
            "copies": [copy._asdict() for copy in self._followers.now()] if self._followers else [],
            "input": [
                {"topic": topic, "partition": partition, **waiting._asdict()}
                for (topic, partition), waiting in now.partitions.items()
            ],
            "lag": now.lag,
            "last_progress_s": now.progress_s,
            "kafka_away_s": now.kafka_away_s,
        }
