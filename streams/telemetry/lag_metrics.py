"""The metrics of the stages' lag, by partition. :mod:`streams.kafka.lag` measures it."""

from collections.abc import Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from streams.telemetry.instruments import TOPIC, Gauge


class Lag(NamedTuple):
    """The lag of a stage in a partition.

    ``records`` is the number of offsets from the first uncommitted record on, including transaction
    markers. ``seconds`` is the age of that record; None if it could not be read in time.
    """

    stage: str
    topic: str
    partition: int
    records: int
    seconds: float | None


class LagMetrics:
    """The lag of the partitions that a process measures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["stage", TOPIC, "partition"]
        self._records = Gauge(
            registry,
            "roundhouse_lag_records",
            "Records that a stage has not committed yet, marks of transactions included.",
            labels,
        )
        self._seconds = Gauge(
            registry,
            "roundhouse_lag_seconds",
            "Age of the oldest record that a stage has not committed yet; 0 if there is none.",
            labels,
        )

    def show(self, lags: Iterable[Lag]) -> None:
        """Replaces the served values."""
        by_partition = {(lag.stage, lag.topic, str(lag.partition)): lag for lag in lags}
        self._records.replace({at: lag.records for at, lag in by_partition.items()})
        self._seconds.replace(
            {at: lag.seconds for at, lag in by_partition.items() if lag.seconds is not None}
        )
