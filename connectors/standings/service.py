"""The process of ``roundhouse standings run``, and its health.

One thread evaluates (:mod:`connectors.campaigns.live`), writes each result, and between two evaluations
asks for the last one of campaigns that are over, and removes those that ended long ago.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from connectors.campaigns.folder import Definitions
from connectors.campaigns.live import Live, Snapshot, is_running
from connectors.campaigns.model.definition import Campaign
from connectors.standings.metrics import StandingsMetrics
from connectors.standings.pace import interval_s
from connectors.standings.publisher import Publisher
from streams.kafka.admin import ensure_topics, wait_for_broker
from streams.kafka.schema_ids import frames
from streams.kafka.schemas import Schemas, publish
from streams.runtime.fail_stop import end_within, fail_stop
from streams.settings import Settings
from streams.telemetry.health import Health, judged
from streams.telemetry.process_metrics import process_registry
from streams.telemetry.status_server import serving

log = logging.getLogger(__name__)

KEPT = timedelta(days=30)
"""How long the topic has the standings of a campaign that is over."""

_TICK_S = 1.0
_FORGET_EVERY_S = 600.0


class Service:
    """Evaluates the campaigns of a folder and writes what changes."""

    def __init__(
        self, settings: Settings, folder: Path, publisher: Publisher, metrics: StandingsMetrics
    ) -> None:
        self._share = settings.live_share
        self._folder = folder
        self._definitions = Definitions(folder)
        self._publisher = publisher
        self._metrics = metrics
        self._began = datetime.now(UTC)
        self._present: list[Campaign] = []
        self._told: set[str] = set()
        self._took_s: dict[str, float] = {}
        """The last evaluation of each campaign, with the writing of it."""
        self._forgot_at = float("-inf")
        self.live = Live(settings, self._turn, self._write)
        self.busy_since: float | None = None
        """When the work in hand began (monotonic, s); None between two evaluations."""

    def take(self) -> None:
        """Takes the topic: see :meth:`Publisher.take`. Names the running campaigns of the topic that
        are not in the folder: perhaps another service evaluates them, which this one now fences.
        """
        now, campaigns = datetime.now(UTC), self._definitions.campaigns()
        self._publisher.take(each for each in campaigns if is_running(each, now))
        if strangers := self._publisher.running_without(campaigns, now):
            log.warning(
                "%s are on the topic, run, and are not in the folder %s: this service does not "
                "evaluate them. If another `roundhouse standings run` does, the two take the topic "
                "from each other again and again: stop one, and put the files of both into one folder.",
                *(", ".join(strangers), self._folder),
            )

    def run(self, stop: threading.Event) -> None:
        """Evaluates and writes until ``stop`` is set; ends the process if it cannot go on."""
        with _fatal():
            self.live.run(stop)

    def running(self, now: datetime) -> list[Campaign]:
        """The campaigns that run."""
        return [each for each in self._present if is_running(each, now)]

    def _turn(self) -> list[Campaign]:
        """The present campaigns, for the next evaluation; and what is due between two of them."""
        began, now = time.monotonic(), datetime.now(UTC)
        self.busy_since = began
        self._present = self._definitions.campaigns()
        for campaign in self._present:
            if self._needs_the_last(campaign, now):
                self.live.snapshot(campaign.name)  # it asks for an evaluation
        self._publisher.release(
            each for each in self._present if is_running(each, now) or self.live.peek(each.name)
        )
        if began - self._forgot_at > _FORGET_EVERY_S:
            with _fatal():
                self._publisher.forget(now - KEPT)
            self._forgot_at = began
        self._show(now)
        return self._present

    def _needs_the_last(self, campaign: Campaign, now: datetime) -> bool:
        """Whether a campaign is over and the topic does not have its last evaluation."""
        end, known = campaign.period.utc()[1], self._publisher.evaluation(campaign)
        return end <= now < end + KEPT and not (known and known.is_last)

    def _write(self, snapshot: Snapshot) -> None:
        self.busy_since = began = time.monotonic()
        with _fatal():
            changes = self._publisher.write(snapshot.result)
        wrote_s = time.monotonic() - began
        self._took_s[snapshot.result.campaign.name] = snapshot.cost_s + wrote_s
        if changes is not None:
            self._metrics.written(changes, snapshot.cost_s, wrote_s)
        self.busy_since = None

    def _show(self, now: datetime) -> None:
        as_of = {}
        for campaign in self.running(now):
            known = self._publisher.evaluation(campaign)
            at = known.as_of if known else max(self._began, campaign.period.utc()[0])
            as_of[campaign.name] = at.timestamp()
        wrong = set(self._definitions.wrong())
        for text in wrong - self._told:
            log.error("%s", text)
        self._told = wrong
        due = {each.name for each in self._present if self._needs_the_last(each, now)} | as_of.keys()
        self._took_s = {name: took_s for name, took_s in self._took_s.items() if name in due}
        self._metrics.show(as_of, interval_s(due, self._took_s, self._share), wrong)


@contextmanager
def _fatal() -> Iterator[None]:
    """Ends the process on an error. ``Live`` would try again, but what the topic has is not known."""
    try:
        yield
    except Exception as error:
        fail_stop(error)


class _HealthOf:
    """The health of the process; it exists before the service."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: Service | None = None

    def begin(self, service: Service) -> None:
        self._running = service

    def report(self) -> Health:
        """The health, computed without asking anybody."""
        service = self._running
        if service is None:
            return judged(
                {}, waiting=["the service is starting: it looks for Kafka and reads the topic"]
            )
        problem, since = service.live.problem, service.busy_since
        still_s = 0.0 if since is None else time.monotonic() - since
        waiting = [problem] if problem else []
        is_stuck = not waiting and still_s >= self._settings.stuck_after_s
        return judged(
            {"campaigns_running": len(service.running(datetime.now(UTC)))},
            waiting=waiting,
            stuck=[f"an evaluation has taken {still_s:.0f} s"] if is_stuck else [],
        )


def run(settings: Settings, folder: Path, stopping: threading.Event) -> None:
    """Writes standings until ``stopping`` is set; ends the process if it cannot go on."""
    registry, health = process_registry(settings.data_dir), _HealthOf(settings)
    with serving(settings, "standings", registry, health.report, "standings"):
        wait_for_broker(settings)
        ensure_topics(settings)
        publish(settings)
        metrics = StandingsMetrics(registry)
        schemas = Schemas(settings, frames(settings))
        publisher = Publisher(settings, schemas, metrics.clients.of("standings"))
        service = Service(settings, folder, publisher, metrics)
        service.take()
        health.begin(service)
        thread = threading.Thread(target=service.run, args=(stopping,), name="standings")
        thread.start()
        while not stopping.wait(_TICK_S):
            publisher.poll()  # it serves the client's statistics
        end_within(settings.stop_within_s)
        thread.join()
