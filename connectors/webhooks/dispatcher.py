"""Delivers awards to the endpoints of their tenants, at least once and each player's in order.

The steps of a turn, and the state after a crash at the end of each:

1. Read awards, and take the failed deliveries that are due. Nothing is written.
2. Attempt them, several at once, those of one player one after another. The attempts are made
   again, with the same ``webhook-id``, by which the receiver recognises them.
3. Write those that failed to the topic ``webhooks``, and tombstones for those that had failed before
   and are delivered, and wait for Kafka. The same.
4. Commit the position in ``awards``: everything before it is delivered, or on the topic ``webhooks``.

An endpoint that has failed gets a pause, which grows with each failure, and after it one webhook as a
probe; the others wait on the topic ``webhooks`` without an attempt. So an endpoint that hangs holds up
the others by one time-out. One that has answered 410 gets no webhook until it is configured anew.
"""

import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.edge.tenants import Tenant, Webhook
from connectors.webhooks.delivery import GONE, Deliveries, Delivery
from connectors.webhooks.metrics import DEAD, DELIVERED, FAILED, NO_ENDPOINT, WebhookMetrics
from connectors.webhooks.poster import Answer, Poster
from streams.kafka.clients import METADATA_MS, committed_consumer, reporting
from streams.records.topics import AWARDS
from streams.settings import Settings

log = logging.getLogger(__name__)

AT_ONCE = 16
"""How many attempts are made at the same time."""

_READ_MAX = 200
_READ_S = 0.2
_PAUSE_S, _PAUSE_S_MAX = 5.0, 300.0

Post = Callable[[Webhook, Mapping[str, Any], datetime], Answer]


class _Pause(NamedTuple):
    """When an endpoint that has failed so often in sequence is probed again (µs, epoch)."""

    until: int
    failures: int


class _Chain(NamedTuple):
    """A player's deliveries in order; with ``may_try`` the first may be attempted now."""

    deliveries: list[Delivery]
    webhook: Webhook
    may_try: bool


class Attempted(NamedTuple):
    """A delivery after a turn: delivered, or failed as the delivery says."""

    delivery: Delivery
    is_delivered: bool


class Dispatcher:
    """Reads ``awards`` and delivers webhooks; :meth:`run` returns after :meth:`stop`."""

    def __init__(
        self,
        settings: Settings,
        tenants: Callable[[], Mapping[str, Tenant]],
        deliveries: Deliveries,
        poster: Poster,
        metrics: WebhookMetrics,
    ) -> None:
        """``tenants``: the present ones, by name."""
        self._settings = settings
        self._tenants = tenants
        self._deliveries = deliveries
        self._post: Post = poster.post
        self._metrics = metrics
        self._stopping = threading.Event()
        self._waiting: dict[str, Delivery] = {}  # by award id, each player's in order
        self._gone_at: dict[str, int] = {}  # when a tenant's endpoint has answered 410
        self._pauses: dict[str, _Pause] = {}  # of tenants whose endpoint has failed last
        self.assigned: frozenset[tuple[str, int]] = frozenset()
        """The partitions that are read, as (topic with prefix, partition)."""
        self.turn_at: float | None = None
        """The time at which a turn last began (monotonic, s)."""
        self.delivered = 0

    @property
    def waiting(self) -> int:
        """How many webhooks have failed and are tried again."""
        return len(self._waiting)

    def run(self) -> None:
        """Runs until stopped. Raises every error other than those of endpoints."""
        prefix = self._settings.topic_prefix
        limits: dict[str, Any] = {
            **reporting(self._metrics.clients.of("webhooks")),
            "session.timeout.ms": int(self._settings.session_timeout_s * 1000),
            "max.poll.interval.ms": 3_600_000,  # a turn ends after its attempts have timed out
            "group.instance.id": f"{prefix}webhooks-{socket.gethostname()}",
            "enable.partition.eof": False,
            "topic.metadata.refresh.interval.ms": METADATA_MS,
        }
        consumer = committed_consumer(self._settings, f"{prefix}webhooks", **limits)
        consumer.subscribe(
            [prefix + AWARDS],
            on_assign=lambda c, places: self._assign(places),
            on_revoke=lambda c, places: self._revoke(places),
        )
        try:
            with ThreadPoolExecutor(AT_ONCE, "webhook") as pool:
                while not self._stopping.is_set():
                    self.turn_at = time.monotonic()
                    self._turn(consumer, consumer.consume(_READ_MAX, _READ_S), pool)
        finally:
            consumer.close()

    def stop(self) -> None:
        """Tells :meth:`run` to end its turn and return."""
        self._stopping.set()

    def _assign(self, places: Sequence[TopicPartition]) -> None:
        for delivery in self._deliveries.recorded([place.partition for place in places]):
            if delivery.next_at is not None:
                self._waiting[delivery.award_id] = delivery
            elif delivery.status == GONE:
                at = max(delivery.changed_at, self._gone_at.get(delivery.tenant, 0))
                self._gone_at[delivery.tenant] = at
        self.assigned |= {(place.topic, place.partition) for place in places}
        log.info("assigned %d partitions, %d webhooks wait", len(places), len(self._waiting))

    def _revoke(self, places: Sequence[TopicPartition]) -> None:
        numbers = {place.partition for place in places}
        self.assigned -= {(place.topic, place.partition) for place in places}
        self._waiting = {
            award_id: delivery
            for award_id, delivery in self._waiting.items()
            if delivery.partition not in numbers
        }

    def _turn(self, consumer: Consumer, messages: Sequence[Message], pool: ThreadPoolExecutor) -> None:
        ends: dict[int, int] = {}
        fresh = []
        for message in messages:
            error = message.error()
            if error is None:
                fresh.append(self._deliveries.of(message))
                ends[message.partition() or 0] = (message.offset() or 0) + 1
            elif error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART and not error.retriable():
                raise KafkaException(error)
        tenants = self._tenants()
        chains = self._due(fresh, tenants)
        for attempted in pool.map(self._attempt, chains):
            for each in attempted:
                self._keep(each)
        if chains:
            self._deliveries.flush()
        self._metrics.waiting(
            each for each in self._waiting.values() if _webhook(tenants, each.tenant) is not None
        )
        if ends:
            name = self._settings.topic_prefix + AWARDS
            places = [TopicPartition(name, number, end) for number, end in ends.items()]
            try:
                consumer.commit(offsets=places, asynchronous=False)
            except KafkaException as error:
                # after a rebalance: the new owner makes the attempts again
                log.warning("position not committed, webhooks may be sent again: %s", error)

    def _due(self, fresh: Sequence[Delivery], tenants: Mapping[str, Tenant]) -> list[_Chain]:
        """What can be attempted in this turn, and the fresh deliveries that have to wait."""
        now = _now()
        queues: dict[tuple[str, str], list[Delivery]] = {}
        for delivery in [*self._waiting.values(), *fresh]:
            if delivery.is_recorded or delivery.award_id not in self._waiting:
                queues.setdefault(delivery.player, []).append(delivery)
        chains, probed = [], set()
        for (tenant, _), queue in queues.items():
            webhook = _webhook(tenants, tenant)
            if webhook is None:
                for delivery in queue:
                    if not delivery.is_recorded:
                        self._metrics.attempted(tenant, NO_ENDPOINT)
                continue
            may_try = (queue[0].next_at or 0) <= now
            if may_try and (pause := self._pauses.get(tenant)):
                may_try = pause.until <= now and tenant not in probed
                probed.add(tenant)
            if may_try or not queue[-1].is_recorded:
                chains.append(_Chain(queue, webhook, may_try))
        return chains

    def _attempt(self, chain: _Chain) -> list[Attempted]:
        """Attempts a player's deliveries until one fails; those behind it wait for it."""
        done: list[Attempted] = []
        until: int | None = None
        for delivery in chain.deliveries:
            now = _now()
            if self._gone_at.get(delivery.tenant, 0) > chain.webhook.set_at.timestamp() * 1e6:
                self._metrics.attempted(delivery.tenant, DEAD)
                done.append(Attempted(delivery.refused(now), is_delivered=False))
                continue
            until = until or self._held_until(chain, delivery, now)
            if until is not None:
                if not delivery.is_recorded:
                    waits = delivery.postponed(until, now, "waits for an earlier one, or the endpoint")
                    done.append(Attempted(waits, is_delivered=False))
            else:
                done.append(self._tried(delivery, chain.webhook))
                if not done[-1].is_delivered:
                    until = done[-1].delivery.next_at
        return done

    def _held_until(self, chain: _Chain, delivery: Delivery, now: int) -> int | None:
        if (delivery.next_at or 0) > now:
            return delivery.next_at
        pause = self._pauses.get(delivery.tenant)
        if pause and (pause.until > now or not chain.may_try):
            return max(pause.until, now)
        return None

    def _tried(self, delivery: Delivery, webhook: Webhook) -> Attempted:
        began = time.monotonic()
        award = self._deliveries.award(delivery.value)
        answer = self._post(webhook, award, datetime.now(UTC))
        took_s = time.monotonic() - began
        if answer.is_success:
            self._pauses.pop(delivery.tenant, None)
            self._metrics.attempted(delivery.tenant, DELIVERED, took_s)
            return Attempted(delivery, is_delivered=True)
        jitter = random.random()  # it spreads attempts, and hides nothing
        failed = delivery.failed(answer.status, answer.error, _now(), jitter, answer.wait_s)
        if answer.status == GONE:
            self._gone_at[delivery.tenant] = failed.changed_at
        else:
            self._pause(delivery.tenant, failed.changed_at)
        outcome = DEAD if failed.next_at is None else FAILED
        self._metrics.attempted(delivery.tenant, outcome, took_s)
        log.warning(
            "webhook %s of %s, attempt %d: %s%s",
            delivery.award_id,
            delivery.tenant,
            failed.attempts,
            answer.error,
            "; it is not tried again" if failed.next_at is None else "",
        )
        return Attempted(failed, is_delivered=False)

    def _pause(self, tenant: str, now: int) -> None:
        before = self._pauses.get(tenant)
        if before is not None and before.until > now:
            return  # another attempt of this turn has failed as well
        failures = 1 if before is None else before.failures + 1
        pause_s = min(_PAUSE_S * 2 ** (failures - 1), _PAUSE_S_MAX)
        self._pauses[tenant] = _Pause(now + int(pause_s * 1e6), failures)

    def _keep(self, attempted: Attempted) -> None:
        """Records what became of a delivery, where a record has to change."""
        delivery, is_delivered = attempted
        if is_delivered:
            self.delivered += 1
            if delivery.is_recorded:
                self._deliveries.forget(delivery)
            self._waiting.pop(delivery.award_id, None)
            return
        self._deliveries.record(delivery)
        if delivery.next_at is None:
            self._waiting.pop(delivery.award_id, None)
        else:
            self._waiting[delivery.award_id] = delivery


def _webhook(tenants: Mapping[str, Tenant], name: str) -> Webhook | None:
    """The endpoint of a tenant, if there is one."""
    tenant = tenants.get(name)
    return None if tenant is None else tenant.webhook


def _now() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000
