"""The metrics of the sink. docs/metrics.md lists their names for users."""

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry

from streams.telemetry.client_statistics import ClientStatistics
from streams.telemetry.instruments import DURATION_S, LATENCY_S, Counter, Gauge, Histogram
from streams.telemetry.lag_metrics import LagMetrics

_TABLE = "db_collection_name"
"""OpenTelemetry's label for a table."""


class SinkMetrics:
    """The instruments of the sink process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.clients = ClientStatistics(registry)
        self.lag = LagMetrics(registry)
        self.inserts = Histogram(
            registry,
            "db_client_operation_duration_seconds",
            "Time of an insert into ClickHouse, also of one that fails; without an error type it has "
            "succeeded.",
            DURATION_S,
            ["db_operation_name", _TABLE, "error_type"],
        )
        self.rows = Counter(
            registry,
            "roundhouse_sink_rows",
            "Rows inserted, by table. Repeated rows count again.",
            [_TABLE],
        )
        self.retries = Counter(
            registry, "roundhouse_sink_retries", "Inserts that are tried again after a failure."
        )
        self.pending = Gauge(
            registry, "roundhouse_sink_pending_rows", "Rows that wait in the sink for the next insert."
        )
        self.away_since = Gauge(
            registry,
            "roundhouse_sink_away_since_timestamp_seconds",
            "When ClickHouse began to fail (epoch); 0 while it works.",
        )
        self.latency = Histogram(
            registry,
            "roundhouse_edge_to_clickhouse_seconds",
            "Time from the edge's receipt of a request to its rows in ClickHouse, once for each "
            "request and partition.",
            LATENCY_S,
        )

    def inserted(self, table: str, rows: int, took_s: float) -> None:
        """Counts an insert that succeeded."""
        self.inserts.observe(took_s, "INSERT", table, "")
        self.rows.add(rows, table)

    def failed(self, table: str, took_s: float, error: Exception) -> None:
        """Counts an insert that failed and is tried again."""
        self.inserts.observe(took_s, "INSERT", table, type(error).__name__)
        self.retries.add(1)

    def arrived(self, received_at: Iterable[int]) -> None:
        """Measures the latency of requests by the times of their receipt (µs, epoch)."""
        now = time.time()
        self.latency.observe_all(max(0.0, now - at / 1e6) for at in received_at)
