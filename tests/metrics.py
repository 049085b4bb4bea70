"""Instruments that no process serves, for tests of the code that writes to them."""

from prometheus_client import CollectorRegistry

from connectors.clickhouse.metrics import SinkMetrics
from connectors.edge.metrics import EdgeMetrics
from streams.telemetry.worker_metrics import WorkerMetrics


def worker_metrics() -> WorkerMetrics:
    return WorkerMetrics(CollectorRegistry())


def edge_metrics() -> EdgeMetrics:
    return EdgeMetrics(CollectorRegistry())


def sink_metrics() -> SinkMetrics:
    return SinkMetrics(CollectorRegistry())
