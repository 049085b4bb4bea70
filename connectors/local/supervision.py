"""The status page of a supervisor: health and metrics of the processes that it keeps running."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from connectors.local.supervisor import Child, Supervisor
from streams.settings import Settings
from streams.telemetry.process_metrics import process_registry
from streams.telemetry.status_server import serving


def supervision(settings: Settings, supervisor: Supervisor, name: str) -> AbstractContextManager[int]:
    """Serves the status page of a supervisor, as :func:`serving` does, named ``supervisor-<name>``.

    If the settings name a port, the first ones from there on are left to the processes that the
    supervisor has started, one for each.
    """
    first = settings.status_port
    if first:
        settings = settings.model_copy(update={"status_port": first + len(supervisor.pids())})
    registry = process_registry(settings.data_dir)
    _SupervisedProcesses(registry, supervisor.children)
    return serving(settings, "supervisor", registry, supervisor.health, f"supervisor-{name}")


class _SupervisedProcesses(Collector):
    """The supervised processes, read at each scrape."""

    def __init__(self, registry: CollectorRegistry, children: Callable[[], Sequence[Child]]) -> None:
        self._children = children
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """The families without samples."""
        labels = ["process"]
        yield GaugeMetricFamily(
            "roundhouse_supervised_up",
            "1 while the supervised process runs, 0 from its end to its next start.",
            labels=labels,
        )
        yield CounterMetricFamily(
            "roundhouse_supervised_restarts",
            "Starts of the supervised process after its first start.",
            labels=labels,
        )
        yield GaugeMetricFamily(
            "roundhouse_supervised_consecutive_ends",
            "Ends in a row, each within 30 s of a start; 0 after the process has run for 30 s.",
            labels=labels,
        )
        yield GaugeMetricFamily(
            "roundhouse_supervised_pause_seconds",
            "Time until the next start of the supervised process; 0 while it runs.",
            labels=labels,
        )

    def collect(self) -> Iterator[Metric]:
        """The families with a sample for each process."""
        families = list(self.describe())
        for child in self._children():
            values = (
                child.starts_in_s is None,
                child.restarts,
                child.ends,
                child.starts_in_s or 0.0,
            )
            for family, value in zip(families, values, strict=True):
                family.add_metric([child.name], value)  # type: ignore[attr-defined]
        yield from families
