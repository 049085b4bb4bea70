"""Deliveries that have failed: records of the topic ``webhooks``, and when each is tried again."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, Message, TopicPartition

from streams.core.identity import key_of
from streams.errors import DeliveryFailed
from streams.kafka.clients import committed_consumer, idempotent_producer, produce
from streams.kafka.reading import to_the_ends
from streams.kafka.schemas import Schemas
from streams.records.topics import AWARDS, CONTRACTS, WEBHOOKS
from streams.settings import Settings
from streams.wire.avro import Reader, Record, codec

SCHEDULE_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""The pause after each failed attempt: the schedule of the Standard Webhooks specification. The attempt
after the last one is the last.
"""

RETRY_AFTER_S_MAX = 86_400.0
GONE = 410
_FLUSH_WITHIN_S = 30.0


class Delivery(NamedTuple):
    """The webhook of an award. ``value`` is the award as on its topic, and ``partition`` and ``offset``
    are where it is there.

    ``next_at`` and ``changed_at`` are microseconds since the epoch; ``next_at`` is None when the
    delivery is not tried again, and 0 before its first attempt, when it also is in no record.
    """

    award_id: str
    tenant: str
    player_id: str
    value: bytes
    partition: int
    offset: int
    attempts: int = 0
    next_at: int | None = 0
    changed_at: int = 0
    status: int = 0
    error: str = ""

    @property
    def player(self) -> tuple[str, str]:
        """Whose webhooks are delivered in order."""
        return self.tenant, self.player_id

    @property
    def is_recorded(self) -> bool:
        """Whether the topic has a record of it."""
        return bool(self.changed_at)

    def failed(self, status: int, error: str, now: int, jitter: float, wait_s: float = 0) -> "Delivery":
        """The delivery after a failed attempt; ``jitter`` is from 0 to 1, and ``wait_s`` asked for."""
        attempts = self.attempts + 1
        next_at = None
        if status != GONE and attempts <= len(SCHEDULE_S):
            pause_s = SCHEDULE_S[attempts - 1] * (1 + jitter / 10)
            next_at = now + int(max(pause_s, min(wait_s, RETRY_AFTER_S_MAX)) * 1e6)
        return self._replace(
            attempts=attempts, next_at=next_at, changed_at=now, status=status, error=error
        )

    def postponed(self, until: int, now: int, error: str) -> "Delivery":
        """The delivery that waits without an attempt of its own."""
        return self._replace(next_at=until, changed_at=now, error=error)

    def refused(self, now: int) -> "Delivery":
        """The delivery to an endpoint that wants no webhooks any more."""
        return self._replace(
            next_at=None, changed_at=now, status=GONE, error="the endpoint has answered 410 before"
        )


class Deliveries:
    """Reads and writes the topics ``awards`` and ``webhooks``. One thread writes."""

    def __init__(self, settings: Settings, schemas: Schemas) -> None:
        self._settings = settings
        self._frame = schemas.frames[CONTRACTS[WEBHOOKS]]
        awards, webhooks = CONTRACTS[AWARDS], CONTRACTS[WEBHOOKS]
        self._awards = Reader(awards, schemas.frames[awards], schemas.schema_of)
        self._reader = Reader(webhooks, self._frame, schemas.schema_of)
        self._producer = idempotent_producer(settings)
        self._failed: KafkaError | None = None

    def award(self, value: bytes) -> Record:
        """The award of a delivery."""
        return self._awards.read(value)

    def of(self, message: Message) -> Delivery:
        """The delivery of a record of ``awards``."""
        value = message.value() or b""
        award = self.award(value)
        return Delivery(
            award["award_id"],
            award["tenant"],
            award["player_id"],
            value,
            message.partition() or 0,
            message.offset() or 0,
        )

    def recorded(self, partitions: Sequence[int]) -> list[Delivery]:
        """The deliveries in some partitions that have failed, in the order of their awards."""
        found: dict[bytes, Delivery] = {}
        for message in self._read(WEBHOOKS, partitions):
            key, value = message.key() or b"", message.value()
            if value is None:
                found.pop(key, None)
            else:
                found[key] = _delivery(self._reader.read(value), message.partition() or 0)
        return sorted(found.values(), key=lambda each: (each.partition, each.offset))

    def awarded(self) -> Iterator[Delivery]:
        """A delivery for each award on the topic."""
        for message in self._read(AWARDS, range(self._settings.partitions)):
            yield self.of(message)

    def _read(self, topic: str, partitions: Sequence[int]) -> Iterator[Message]:
        name = self._settings.topic_prefix + topic
        places = [TopicPartition(name, number, 0) for number in partitions]
        consumer = committed_consumer(self._settings, f"{self._settings.topic_prefix}webhooks-state")
        with closing(consumer):
            yield from to_the_ends(consumer, places) if places else ()

    def record(self, delivery: Delivery) -> None:
        """Begins to write that a delivery has failed."""
        record = {
            "award_id": delivery.award_id,
            "tenant": delivery.tenant,
            "player_id": delivery.player_id,
            "award": delivery.value,
            "award_offset": delivery.offset,
            "attempts": delivery.attempts,
            "next_attempt_at": delivery.next_at,
            "changed_at": delivery.changed_at,
            "status": delivery.status,
            "error": delivery.error,
        }
        self._write(delivery, self._frame + codec(CONTRACTS[WEBHOOKS]).encode(record))

    def forget(self, delivery: Delivery) -> None:
        """Begins to write that a delivery which had failed is delivered."""
        self._write(delivery, None)

    def flush(self) -> None:
        """Returns when Kafka has every record. Raises ``DeliveryFailed``."""
        if self._producer.flush(_FLUSH_WITHIN_S) or self._failed:
            raise DeliveryFailed(f"{WEBHOOKS}: {self._failed or 'no acknowledgement in time'}")

    def _write(self, delivery: Delivery, value: bytes | None) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            self._failed = self._failed or error

        topic = self._settings.topic_prefix + WEBHOOKS
        key = key_of(delivery.tenant, delivery.player_id, delivery.award_id)
        produce(self._producer, topic, value, key, delivery.partition, on_delivery=delivered)


def _delivery(record: Mapping[str, Any], partition: int) -> Delivery:
    return Delivery(
        record["award_id"],
        record["tenant"],
        record["player_id"],
        record["award"],
        partition,
        record["award_offset"],
        record["attempts"],
        record["next_attempt_at"],
        record["changed_at"],
        record["status"],
        record["error"],
    )
