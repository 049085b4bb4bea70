"""The metrics of a worker. docs/metrics.md lists their names for users."""

import time
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from streams.core.accounting import Outcome
from streams.records.topics import RAW, STAGED
from streams.telemetry.client_statistics import ClientStatistics
from streams.telemetry.instruments import (
    DURATION_S,
    LATENCY_S,
    TOPIC,
    Counter,
    Gauge,
    Histogram,
    Tenants,
)
from streams.telemetry.lag_metrics import LagMetrics

TABLES = "window", "profiles"

_ITEM_COUNTS = ("received", "accepted", "duplicate", "conflict", "rejected")


class WorkerMetrics:
    """The instruments of one worker process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.clients = ClientStatistics(registry)
        self.stages = StageMetrics(registry)
        self.partitions = PartitionMetrics(registry)
        self.lag = LagMetrics(registry)


@dataclass
class Work:
    """The results of a stage for some records, counted when Kafka has acknowledged them.

    ``sent`` is the number of records by topic, without the prefix. ``refused`` is the number of items
    by code; the edge had accepted ``unexpected`` of them as valid.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    sent: Counts[str] = field(default_factory=Counts)
    refused: Counts[str] = field(default_factory=Counts)
    unexpected: int = 0


class StageMetrics:
    """The input, results and output of the stages; counted once per batch, not per item."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._consumed = Counter(
            registry,
            "messaging_client_consumed_messages",
            "Records that a stage has read, by topic.",
            [TOPIC],
        )
        self._sent = Counter(
            registry,
            "messaging_client_sent_messages",
            "Records that a stage has written and Kafka has acknowledged, by topic.",
            [TOPIC],
        )
        self._processed = Histogram(
            registry,
            "messaging_process_duration_seconds",
            "Time from the begin of work on records to Kafka's acknowledgement of the results, by "
            "topic of the records.",
            DURATION_S,
            [TOPIC],
        )
        self._waited = Histogram(
            registry,
            "roundhouse_chunk_wait_seconds",
            "Time from the writing of a record to the begin of work on it, for the oldest record of "
            "each batch, by topic.",
            LATENCY_S,
            [TOPIC],
        )
        self._committed = Histogram(
            registry,
            "roundhouse_transaction_commit_duration_seconds",
            "Time to commit a transaction: its records sent, acknowledged, and marked committed.",
            DURATION_S,
        )
        self._accounts = _Accounts(registry)
        self._latency = Histogram(
            registry,
            "roundhouse_edge_to_committed_seconds",
            "Time from the edge's receipt of a request to the commit of its items, once for each "
            "request and partition.",
            LATENCY_S,
        )

    def took(self, topic: str, written_s: Iterable[float]) -> None:
        """Measures the waiting time of a topic's records; ``written_s`` are their times (epoch)."""
        oldest = min(written_s, default=None)
        if oldest is not None:
            self._waited.observe(max(0.0, time.time() - oldest), topic)

    def translated(self, records: int, work: Work, took_s: float) -> None:
        """Counts the results of translate for a number of raw records."""
        self._done("translate", RAW, records, work, took_s)

    def applied(self, records: int, work: Work, took_s: float, committing_s: float) -> None:
        """Counts the results of one transaction of process for a number of staged records."""
        self._done("process", STAGED, records, work, took_s)
        self._committed.observe(committing_s)
        now = int(time.time() * 1e6)
        latencies = [now - outcome.received_at for outcome in work.outcomes]
        self._latency.observe_all([latency / 1e6 if latency > 0 else 0.0 for latency in latencies])

    def _done(self, stage: str, topic: str, records: int, work: Work, took_s: float) -> None:
        self._consumed.add(records, topic)
        self._processed.observe(took_s, topic)
        for name, count in work.sent.items():
            self._sent.add(count, name)
        self._accounts.add(stage, work)


class _Accounts:
    """The numbers of items by outcome."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._items = Counter(
            registry,
            "roundhouse_items",
            "Items by outcome; those received come to one of accepted, duplicate, conflict, rejected. "
            "Work that is repeated after a crash is counted again.",
            ["outcome", "tenant"],
        )
        self._rejects = Counter(
            registry,
            "roundhouse_rejects",
            "Items that a stage refused (rejected or conflict), by the code of their first error.",
            ["stage", "code"],
        )
        self._unexpected = Counter(
            registry,
            "roundhouse_unexpected_rejects",
            "Items that the edge took as valid and translate refused.",
        )
        self._tenants = Tenants()

    def add(self, stage: str, work: Work) -> None:
        for code, count in work.refused.items():
            self._rejects.add(count, stage, code)
        self._unexpected.add(work.unexpected)
        for tenant, counts in _by_tenant(work.outcomes).items():
            label = self._tenants.label(tenant)
            for name, count in zip(_ITEM_COUNTS, counts, strict=True):
                if count:
                    self._items.add(count, name, label)


def _by_tenant(outcomes: Iterable[Outcome]) -> dict[str, list[int]]:
    """The numbers of items by tenant, in the order of :data:`_ITEM_COUNTS`."""
    sums: dict[str, list[int]] = {}
    for outcome in outcomes:
        counts = sums.get(outcome.tenant)
        if counts is None:
            counts = sums[outcome.tenant] = [0] * len(_ITEM_COUNTS)
        counts[0] += outcome.received
        counts[1] += outcome.accepted
        counts[2] += outcome.duplicate
        counts[3] += outcome.conflict
        counts[4] += outcome.rejected
    return sums


class TableSize(NamedTuple):
    """The size of a table: RocksDB's estimate of its keys, bytes of its files, and bytes of memory of
    their filters and indexes."""

    keys: int
    file_bytes: int
    index_bytes: int


class MemoryUsage(NamedTuple):
    """The usage of the block cache that a worker's tables share: bytes of blocks and write buffers, and
    the numbers of blocks since the start that were in the cache and that were read from files."""

    cache_bytes: int
    cache_hits: int
    cache_misses: int


_OF_TABLES = {
    "roundhouse_table_keys": "Keys in a table of an open partition: ids and rounds, or profiles. "
    "RocksDB estimates them.",
    "roundhouse_table_file_bytes": "Bytes of a table's files.",
    "roundhouse_table_index_bytes": "Bytes of memory of the filters and indexes of a table's files.",
}
"""Names and descriptions in the order of the fields of :class:`TableSize`."""


class _BlockCache(Collector):
    """RocksDB's block cache, measured at each scrape."""

    def __init__(self, registry: CollectorRegistry, usage: Callable[[], MemoryUsage]) -> None:
        self._usage = usage
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """The families without samples."""
        yield GaugeMetricFamily(
            "roundhouse_block_cache_bytes", "Bytes of RocksDB's block cache, write buffers included."
        )
        yield CounterMetricFamily(
            "roundhouse_block_cache_hits",
            "Blocks that were in the cache when they were asked for.",
        )
        yield CounterMetricFamily("roundhouse_block_cache_misses", "Blocks that were read from files.")

    def collect(self) -> Iterator[Metric]:
        """The families with one sample each."""
        for family, value in zip(self.describe(), self._usage(), strict=True):
            family.add_metric([], value)  # type: ignore[attr-defined]
            yield family


class PartitionMetrics:
    """The staged partitions of a worker and their tables."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.configured = Gauge(registry, "roundhouse_partitions", "Staged partitions of the line.")
        self._open = Gauge(
            registry,
            "roundhouse_partition_open",
            "1 for a staged partition that is open, 0 while its tables are built.",
            ["partition"],
        )
        self._recovered = Gauge(
            registry,
            "roundhouse_recovery_progress_ratio",
            "Share of the changelogs that is read, of an open or opening partition.",
            ["partition"],
        )
        self._registry = registry
        self._tables = [
            Gauge(registry, name, documentation, ["partition", "table"])
            for name, documentation in _OF_TABLES.items()
        ]

    def watch(self, usage: Callable[[], MemoryUsage]) -> None:
        """Serves the metrics of the shared block cache."""
        _BlockCache(self._registry, usage)

    def assigned(self, is_open: dict[int, bool], recovered: dict[int, float]) -> None:
        """Sets whether each partition of this worker is open, and its recovery progress."""
        self._open.replace({(str(partition),): value for partition, value in is_open.items()})
        self._recovered.replace({(str(partition),): value for partition, value in recovered.items()})

    def measure(self, partition: int, table: str, size: TableSize) -> None:
        """Sets the size of a table of an open partition."""
        for gauge, value in zip(self._tables, size, strict=True):
            gauge.set(value, str(partition), table)

    def closed(self, partition: int) -> None:
        """Removes the table sizes of a partition that was closed."""
        for gauge in self._tables:
            for table in TABLES:
                gauge.remove(str(partition), table)
