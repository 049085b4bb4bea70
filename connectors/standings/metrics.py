"""The metrics of the service of standings. docs/metrics.md lists their names for users."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry

from streams.telemetry.client_statistics import ClientStatistics
from streams.telemetry.instruments import Counter, Gauge, Histogram

_EVALUATION_S = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class StandingsMetrics:
    """The instruments of the process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.clients = ClientStatistics(registry)
        self._changes = Counter(
            registry,
            "roundhouse_standings_changes",
            "Changes of players' standings that were written to the topic.",
        )
        self._took = Histogram(
            registry,
            "roundhouse_standings_evaluation_duration_seconds",
            "Time of an evaluation by ClickHouse.",
            _EVALUATION_S,
        )
        self._wrote = Histogram(
            registry,
            "roundhouse_standings_write_duration_seconds",
            "Time to compare an evaluation with the topic and to write what has changed.",
            _EVALUATION_S,
        )
        self._as_of = Gauge(
            registry,
            "roundhouse_standings_as_of_timestamp_seconds",
            "What the newest evaluation of a running campaign on the topic is as of (epoch); until the "
            "first, when the campaign or the process began.",
            ["campaign"],
        )
        self._interval = Gauge(
            registry,
            "roundhouse_standings_interval_seconds",
            "Longest time between two evaluations of a running campaign while all goes well, as the "
            "share of time and the last evaluations make it.",
        )
        self._wrong = Gauge(
            registry,
            "roundhouse_standings_wrong_files",
            "Files in the folder that are no definitions, whose campaigns are not evaluated.",
        )

    def written(self, changes: int, evaluated_s: float, wrote_s: float) -> None:
        """Counts an evaluation that was written."""
        self._changes.add(changes)
        self._took.observe(evaluated_s)
        self._wrote.observe(wrote_s)

    def show(self, as_of: Mapping[str, float], interval_s: float, wrong: Iterable[str]) -> None:
        """Shows the running campaigns, by name, how often they are evaluated, and the wrong files."""
        self._as_of.replace({(name,): at for name, at in as_of.items()})
        self._interval.set(interval_s)
        self._wrong.set(len(list(wrong)))
