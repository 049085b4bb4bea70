"""The metrics of the service of webhooks. docs/metrics.md lists their names for users."""

from collections import Counter as Count
from collections.abc import Iterable

from prometheus_client import CollectorRegistry

from connectors.webhooks.delivery import Delivery
from streams.telemetry.client_statistics import ClientStatistics
from streams.telemetry.instruments import DURATION_S, Counter, Gauge, Histogram, Tenants
from streams.telemetry.lag_metrics import LagMetrics

DELIVERED, FAILED, DEAD, NO_ENDPOINT = "delivered", "failed", "dead", "no_endpoint"


class WebhookMetrics:
    """The instruments of the process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.clients = ClientStatistics(registry)
        self.lag = LagMetrics(registry)
        self._tenants = Tenants()
        self._attempts = Counter(
            registry,
            "roundhouse_webhooks",
            "Attempts to deliver webhooks, by outcome: delivered, failed (tried again later), dead "
            "(not tried again), no_endpoint (the tenant has none: not sent).",
            ["tenant", "outcome"],
        )
        self._took = Histogram(
            registry, "roundhouse_webhook_duration_seconds", "Time of an attempt.", DURATION_S
        )
        self._waiting = Gauge(
            registry,
            "roundhouse_webhooks_waiting",
            "Webhooks that have failed and are tried again.",
            ["tenant"],
        )

    def attempted(self, tenant: str, outcome: str, took_s: float | None = None) -> None:
        """Counts an attempt, or that there was none."""
        self._attempts.add(1, self._tenants.label(tenant), outcome)
        if took_s is not None:
            self._took.observe(took_s)

    def waiting(self, deliveries: Iterable[Delivery]) -> None:
        """Shows the deliveries that are tried again."""
        count = Count(self._tenants.label(delivery.tenant) for delivery in deliveries)
        self._waiting.replace({(tenant,): number for tenant, number in count.items()})
