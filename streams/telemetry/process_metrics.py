"""The metrics of every process: memory, CPU time, open files, disk, version."""

import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from streams.telemetry.instruments import Gauge


def process_registry(folder: Path) -> CollectorRegistry:
    """The registry of a process that keeps its data in ``folder``."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    _Disk(registry, folder)
    build = Gauge(registry, "roundhouse_build_info", "The version that runs; always 1.", ["version"])
    build.set(1, version("roundhouse"))
    return registry


class _Disk(Collector):
    """The size and free space of a folder's disk; no samples while the folder does not exist."""

    def __init__(self, registry: CollectorRegistry, folder: Path) -> None:
        self._folder = folder
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """The families without samples."""
        yield GaugeMetricFamily("roundhouse_disk_free_bytes", "Free bytes where the data is.")
        yield GaugeMetricFamily("roundhouse_disk_size_bytes", "Size of the disk where the data is.")

    def collect(self) -> Iterator[Metric]:
        """The families with one sample each."""
        free, size = self.describe()
        try:
            usage = shutil.disk_usage(self._folder)
        except OSError:
            return
        for family, value in ((free, usage.free), (size, usage.total)):
            family.add_metric([], value)  # type: ignore[attr-defined]
            yield family
