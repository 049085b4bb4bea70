"""The process of ``roundhouse webhooks run``, its health, and the replay of deliveries by a command."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import NamedTuple

from connectors.edge.tenants import Registry
from connectors.webhooks.delivery import Deliveries, Delivery
from connectors.webhooks.dispatcher import Dispatcher
from connectors.webhooks.metrics import WebhookMetrics
from connectors.webhooks.poster import Answer, Poster
from streams.errors import ConfigurationError
from streams.kafka.admin import ensure_topics, wait_for_broker
from streams.kafka.input_watch import InputWatch
from streams.kafka.lag import DELIVERY
from streams.kafka.schema_ids import frames
from streams.kafka.schemas import Schemas, publish
from streams.runtime.fail_stop import end_within, fail_stop
from streams.settings import Settings
from streams.telemetry.health import Health, judged
from streams.telemetry.process_metrics import process_registry
from streams.telemetry.status_server import serving

log = logging.getLogger(__name__)


class _HealthOf:
    """The health of the service; it exists before the dispatcher."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: tuple[Dispatcher, InputWatch] | None = None

    def begin(self, dispatcher: Dispatcher, watch: InputWatch) -> None:
        self._running = dispatcher, watch

    def report(self) -> Health:
        """The health, computed without asking Kafka."""
        if self._running is None:
            return judged({}, waiting=["the service is starting: it looks for Kafka"])
        dispatcher, watch = self._running
        at = watch.now()
        facts = {
            "partitions": len(dispatcher.assigned),
            "delivered": dispatcher.delivered,
            "webhooks_waiting": dispatcher.waiting,
            "lag": at.lag,
            "kafka_away_s": at.kafka_away_s,
        }
        waiting, stuck = [], []
        if at.kafka_away_s is not None:
            waiting.append(f"Kafka has not answered for {at.kafka_away_s:.0f} s")
        if not dispatcher.assigned:
            waiting.append("the service has not been assigned partitions by its group yet")
        still_s = 0.0 if dispatcher.turn_at is None else time.monotonic() - dispatcher.turn_at
        if not waiting and still_s >= self._settings.stuck_after_s:
            stuck.append(f"a turn has taken {still_s:.0f} s")
        return judged(facts, waiting=waiting, stuck=stuck)


def run(settings: Settings, stopping: threading.Event) -> None:
    """Delivers webhooks until ``stopping`` is set; ends the process if it cannot go on."""
    registry, health = process_registry(settings.data_dir), _HealthOf(settings)
    with serving(settings, "webhooks", registry, health.report, "webhooks"):
        wait_for_broker(settings)
        ensure_topics(settings)
        publish(settings)
        metrics = WebhookMetrics(registry)
        with closing(Poster(settings.webhook_timeout_s)) as poster:
            dispatcher = Dispatcher(
                settings,
                Registry(settings.tenants_path).all,
                Deliveries(settings, Schemas(settings, frames(settings))),
                poster,
                metrics,
            )
            watch = InputWatch(
                settings,
                DELIVERY,
                assigned=lambda: dispatcher.assigned,
                show=metrics.lag.show,
                failed=fail_stop,
            )
            health.begin(dispatcher, watch)
            watch.start()
            thread = threading.Thread(target=_run_or_die, args=(dispatcher,), name="webhooks")
            thread.start()
            stopping.wait()
            end_within(settings.stop_within_s)
            dispatcher.stop()
            thread.join()


def _run_or_die(dispatcher: Dispatcher) -> None:
    try:
        dispatcher.run()
    except Exception as error:
        fail_stop(error)


class Chosen(NamedTuple):
    """Which webhooks: of a tenant, of some awards, of awards written in a period; ``delivered`` ones
    too, or only those that are not tried again.
    """

    tenant: str | None
    award_ids: tuple[str, ...]
    since: datetime | None
    before: datetime | None
    delivered: bool = False


class Replayed(NamedTuple):
    """The answer to a webhook that was sent again."""

    delivery: Delivery
    answer: Answer


def failed(settings: Settings) -> list[Delivery]:
    """Every webhook that has failed and is not delivered yet."""
    deliveries = Deliveries(settings, Schemas(settings, frames(settings)))
    return deliveries.recorded(range(settings.partitions))


def replay(settings: Settings, chosen: Chosen) -> Iterator[Replayed]:
    """Sends webhooks again, now, one after another; those that wait are left to the service.

    Raises ``ConfigurationError`` if a tenant among them has no webhook.
    """
    deliveries = Deliveries(settings, Schemas(settings, frames(settings)))
    recorded = deliveries.recorded(range(settings.partitions))
    dead = {delivery.award_id: delivery for delivery in recorded if delivery.next_at is None}
    waiting = {delivery.award_id for delivery in recorded} - dead.keys()
    found = [*dead.values()]
    if chosen.delivered:
        found += [
            delivery
            for delivery in deliveries.awarded()
            if delivery.award_id not in dead and delivery.award_id not in waiting
        ]
    tenants = Registry(settings.tenants_path).all()
    with closing(Poster(settings.webhook_timeout_s)) as poster:
        for delivery in found:
            award = deliveries.award(delivery.value)
            if not _is_chosen(chosen, delivery, award["settled_at"]):
                continue
            tenant = tenants.get(delivery.tenant)
            if tenant is None or tenant.webhook is None:
                raise ConfigurationError(f"tenant {delivery.tenant} has no webhook")
            answer = poster.post(tenant.webhook, award, datetime.now(UTC))
            if answer.is_success and delivery.award_id in dead:
                deliveries.forget(delivery)
                deliveries.flush()
            yield Replayed(delivery, answer)


def _is_chosen(chosen: Chosen, delivery: Delivery, settled_at: int) -> bool:
    at = settled_at / 1e6
    return (
        (chosen.tenant in (None, delivery.tenant))
        and (not chosen.award_ids or delivery.award_id in chosen.award_ids)
        and (chosen.since is None or at >= chosen.since.timestamp())
        and (chosen.before is None or at < chosen.before.timestamp())
    )
