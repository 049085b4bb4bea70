"""What an edge process measures. docs/metrics.md lists the names for those who read them."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from connectors.edge.body import Room
from streams.telemetry.client_statistics import ClientStatistics
from streams.telemetry.instruments import BYTES, DURATION_S, ITEMS, Counter, Histogram

NOBODY = ""
"""The tenant of a request whose key is missing or unknown."""


class EdgeMetrics:
    """The instruments of one serving process. Tenants are those of the tenants file, and nobody."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.clients = ClientStatistics(registry)
        self.requests = Counter(
            registry,
            "roundhouse_edge_requests",
            "Answered posts. The tenant is empty where the key is missing or unknown, the error type "
            "where there is no error.",
            ["tenant", "http_response_status_code", "error_type"],
        )
        self.durations = Histogram(
            registry,
            "http_server_request_duration_seconds",
            "Time from the end of the headers to the answer.",
            DURATION_S,
            ["http_route", "http_response_status_code"],
        )
        self.body_bytes = Histogram(
            registry,
            "http_server_request_body_size_bytes",
            "Bodies that were read whole, after gunzip.",
            BYTES,
            ["http_route"],
        )
        self.batch_items = Histogram(
            registry,
            "roundhouse_edge_batch_items",
            "Items of a request whose outer form is right.",
            ITEMS,
            ["http_route"],
        )
        self.acknowledged = Histogram(
            registry,
            "messaging_client_operation_duration_seconds",
            "Time from the sending of a raw record to its acknowledgement by all in-sync replicas, or "
            "to its failure.",
            DURATION_S,
            ["messaging_operation_name", "messaging_destination_name", "error_type"],
        )

    def watch(self, room: Room) -> None:
        """Serves how much of the room for bodies is in use."""
        _Held(self._registry, room)


class _Held(Collector):
    """The bodies that are held at the moment."""

    def __init__(self, registry: CollectorRegistry, room: Room) -> None:
        self._room = room
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """The families without samples."""
        yield GaugeMetricFamily(
            "http_server_active_requests", "Posts whose body is being read or waits for Kafka."
        )
        yield GaugeMetricFamily("roundhouse_edge_held_bytes", "Bytes of the bodies that are held.")
        yield GaugeMetricFamily(
            "roundhouse_edge_held_bytes_limit", "Bytes at which the answer is 503 (`busy`)."
        )

    def collect(self) -> Iterator[Metric]:
        """The families with one sample each."""
        room = self._room
        for family, value in zip(
            self.describe(), (room.requests, room.held, room.bytes_max), strict=True
        ):
            family.add_metric([], value)  # type: ignore[attr-defined]
            yield family
