"""librdkafka's own statistics: selected fields of the reports that each client makes every few seconds.

The fields are described in librdkafka's STATISTICS.md. A report waits in the client until it is polled,
so a client that reports must be polled even while it has nothing to do.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

EVERY_MS = 10_000

OnStatistics = Callable[[str], None]
"""The callback that a client calls with each report, a JSON text."""


class _Window(msgspec.Struct):
    """Round-trip times of the requests since the previous report, in µs."""

    avg: int = 0
    p99: int = 0


class _Broker(msgspec.Struct):
    """The statistics of a client for one broker. ``nodeid`` is -1 until the id is known."""

    nodeid: int = -1
    req_timeouts: int = 0
    txretries: int = 0
    disconnects: int = 0
    rtt: _Window = msgspec.field(default_factory=_Window)


class Report(msgspec.Struct):
    """The fields of a report that are served."""

    msg_cnt: int = 0
    msg_size: int = 0
    msg_size_max: int = 0
    tx_bytes: int = 0
    rx_bytes: int = 0
    txmsgs: int = 0
    rxmsgs: int = 0
    brokers: dict[str, _Broker] = {}


_decode = msgspec.json.Decoder(Report).decode

Read = Callable[[Report], float]


def _of_brokers(read: Callable[[_Broker], float]) -> Read:
    return lambda report: sum(read(broker) for broker in report.brokers.values())


def _worst(read: Callable[[_Broker], float]) -> Read:
    return lambda report: max(map(read, report.brokers.values()), default=0)


@dataclass(frozen=True)
class _Field:
    name: str
    documentation: str
    read: Read
    family: type[CounterMetricFamily] | type[GaugeMetricFamily] = CounterMetricFamily


_FIELDS = (
    _Field(
        "librdkafka_queue_messages",
        "Records that wait in the client to be sent or acknowledged.",
        lambda report: report.msg_cnt,
        GaugeMetricFamily,
    ),
    _Field(
        "librdkafka_queue_bytes",
        "Bytes of the records that wait in the client.",
        lambda report: report.msg_size,
        GaugeMetricFamily,
    ),
    _Field(
        "librdkafka_queue_bytes_limit",
        "Bytes at which the client takes no more records.",
        lambda report: report.msg_size_max,
        GaugeMetricFamily,
    ),
    _Field(
        "librdkafka_broker_round_trip_seconds",
        "99th percentile of the time from request to answer, of the slowest broker.",
        lambda report: _worst(lambda broker: broker.rtt.p99)(report) / 1e6,
        GaugeMetricFamily,
    ),
    _Field("librdkafka_sent_bytes", "Bytes sent to brokers.", lambda report: report.tx_bytes),
    _Field("librdkafka_received_bytes", "Bytes received from brokers.", lambda report: report.rx_bytes),
    _Field("librdkafka_sent_messages", "Records sent to brokers.", lambda report: report.txmsgs),
    _Field(
        "librdkafka_received_messages", "Records received from brokers.", lambda report: report.rxmsgs
    ),
    _Field(
        "librdkafka_request_timeouts",
        "Requests that a broker did not answer in time.",
        _of_brokers(lambda broker: broker.req_timeouts),
    ),
    _Field(
        "librdkafka_request_retries",
        "Requests that were sent again.",
        _of_brokers(lambda broker: broker.txretries),
    ),
    _Field(
        "librdkafka_broker_disconnects",
        "Connections to brokers that ended.",
        _of_brokers(lambda broker: broker.disconnects),
    ),
)


class ClientStatistics(Collector):
    """The newest report of each client of a process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._reports: dict[str, Report] = {}
        registry.register(self)

    def of(self, client: str) -> OnStatistics:
        """Returns the callback for the reports of a client; ``client`` is its label."""

        def take(text: str) -> None:
            self._reports = {**self._reports, client: _decode(text)}

        return take

    def forget(self, client: str) -> None:
        """Removes the report of a client that is closed."""
        self._reports = {name: kept for name, kept in self._reports.items() if name != client}

    def describe(self) -> Iterator[Metric]:
        """The families without samples."""
        for field in _FIELDS:
            yield field.family(field.name, field.documentation, labels=["client"])

    def collect(self) -> Iterator[Metric]:
        """The families with a sample for each client that has reported."""
        reports = self._reports
        for field, family in zip(_FIELDS, self.describe(), strict=True):
            for client, report in reports.items():
                family.add_metric([client], field.read(report))  # type: ignore[attr-defined]
            yield family
