"""The metrics of an edge process. docs/metrics.md lists their names for users."""

import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from connectors.edge.body import Room
from streams.telemetry.client_statistics import ClientStatistics
from streams.telemetry.instruments import BYTES, DURATION_S, ITEMS, Counter, Histogram

_T = TypeVar("_T")

NOBODY = ""
"""The tenant of a request whose key is missing or unknown."""


_TOGETHER = 1000
"""The number of posts that are counted together; a scrape counts fewer. Counting each post takes 2.5 of
the 190 µs that a post of one event costs the edge; counting them together takes 0.8 µs."""

_FAILURES = ("503", "not_acknowledged"), ("503", "busy"), ("500", "bug")
"""Counters that begin at 0 with a tenant's first post: Prometheus sees no increase in a counter's first
value."""

Answer = tuple[str, str, int, str]
"""The labels of an answered post: route, tenant, status, and error type (empty without an error)."""


class EdgeMetrics:
    """The metrics of one edge process. Tenants are those of the tenants file, and :data:`NOBODY`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._answers: deque[tuple[Answer, float]] = deque()
        self._bodies: deque[tuple[str, int, int]] = deque()
        self._counting = threading.Lock()
        self._known: set[str] = set()
        _Count(registry, self)  # is collected first
        self.clients = ClientStatistics(registry)
        self._requests = Counter(
            registry,
            "roundhouse_edge_requests",
            "Answered posts. The tenant is empty where the key is missing or unknown, the error type "
            "where there is no error.",
            ["tenant", "http_response_status_code", "error_type"],
        )
        self._durations = Histogram(
            registry,
            "http_server_request_duration_seconds",
            "Time from the end of the headers to the answer, of posts and of questions about batches "
            "and events.",
            DURATION_S,
            ["http_route", "http_response_status_code"],
        )
        self._body_bytes = Histogram(
            registry,
            "http_server_request_body_size_bytes",
            "Bodies that were read whole, after gunzip.",
            BYTES,
            ["http_route"],
        )
        self._batch_items = Histogram(
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

    def answered(self, answer: Answer, took_s: float) -> None:
        """Queues an answer for the next :meth:`count`."""
        self._answers.append((answer, took_s))
        if len(self._answers) >= _TOGETHER:
            self.count()

    def looked_up(self, route: str, status: int, took_s: float) -> None:
        """Observes an answered lookup. Lookups are few, and not among the posts."""
        self._durations.observe_all([took_s], route, str(status))

    def read(self, route: str, body_bytes: int, items: int) -> None:
        """Queues a body that was read and has a valid outer form for the next :meth:`count`."""
        self._bodies.append((route, body_bytes, items))

    def count(self) -> None:
        """Counts the queued answers and bodies. Any thread may call it."""
        answers: dict[Answer, list[float]] = defaultdict(list)
        bodies: dict[str, list[tuple[int, int]]] = defaultdict(list)
        with self._counting:  # answers that arrive meanwhile wait for the next call
            for answer, took_s in _taken(self._answers):
                answers[answer].append(took_s)
            for route, body_bytes, items in _taken(self._bodies):
                bodies[route].append((body_bytes, items))
        for (route, tenant, code, error_type), seconds in answers.items():
            status = str(code)
            if tenant not in self._known:
                self._known.add(tenant)
                for failure in _FAILURES:
                    self._requests.add(0, tenant, *failure)
            self._requests.add(len(seconds), tenant, status, error_type)
            self._durations.observe_all(seconds, route, status)
        for route, sizes in bodies.items():
            self._body_bytes.observe_all([body_bytes for body_bytes, _ in sizes], route)
            self._batch_items.observe_all([items for _, items in sizes], route)

    def watch(self, room: Room) -> None:
        """Serves the bytes of bodies that are held, and their limit."""
        _Held(self._registry, room)


def _taken(waiting: deque[_T]) -> list[_T]:
    """Removes and returns the entries of a queue to which another thread may append meanwhile."""
    return [waiting.popleft() for _ in range(len(waiting))]


class _Count(Collector):
    """Has no metrics; counts the queued answers before the metrics after it are collected."""

    def __init__(self, registry: CollectorRegistry, metrics: EdgeMetrics) -> None:
        self._metrics = metrics
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        yield from ()

    def collect(self) -> Iterator[Metric]:
        self._metrics.count()
        yield from ()


class _Held(Collector):
    """The bodies that the edge currently holds."""

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
