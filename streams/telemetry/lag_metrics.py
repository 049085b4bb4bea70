"""How far the stages are behind, by partition. :mod:`streams.kafka.lag` measures it."""

from collections.abc import Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from streams.telemetry.instruments import TOPIC, Gauge


class Lag(NamedTuple):
    """What a stage has not yet committed of a partition.

    ``records``: offsets from the first such record on, marks of transactions included. ``seconds``:
    since that record was written; None if it was not to be read in time.
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
        """Replaces what is served."""
        by_partition = {(lag.stage, lag.topic, str(lag.partition)): lag for lag in lags}
        self._records.replace({at: lag.records for at, lag in by_partition.items()})
        self._seconds.replace(
            {at: lag.seconds for at, lag in by_partition.items() if lag.seconds is not None}
        )
