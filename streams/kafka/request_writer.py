"""Writes requests to ``raw.batches`` for programs other than the edge, one thread each."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaError, Message

from streams.core.event import Batch
from streams.errors import DeliveryFailed
from streams.kafka.clients import idempotent_producer
from streams.records.raw_batch import headers_of, join_requests
from streams.records.topics import RAW
from streams.settings import Settings

FLUSH_WITHIN_S = 30.0


class NewRequest(NamedTuple):
    """A request to be written; ``invalid`` of its items are known to be refused by translate."""

    batch: Batch
    body: bytes
    invalid: int = 0


class RawPosition(NamedTuple):
    """Where a raw record is."""

    partition: int
    offset: int


class RequestWriter:
    """Writes raw records, each once and in order, with the headers that the edge would write."""

    def __init__(self, settings: Settings) -> None:
        self._producer = idempotent_producer(settings)
        self._topic = settings.topic_prefix + RAW
        self._error: KafkaError | None = None

    def write(
        self,
        requests: Sequence[NewRequest],
        on_written: Callable[[RawPosition], None] = lambda position: None,
    ) -> None:
        """Begins to write one raw record; ``on_written`` is called once Kafka has it."""

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._error = self._error or error
            else:
                on_written(RawPosition(message.partition() or 0, message.offset() or 0))

        headers, value = join_requests(
            [(headers_of(batch, invalid), body) for batch, body, invalid in requests]
        )
        self._producer.produce(
            self._topic,
            value,
            requests[0].batch.batch_id,
            headers=headers,  # type: ignore[arg-type]  # as at the edge
            on_delivery=delivered,
        )
        self.poll()

    def poll(self) -> None:
        """Takes delivery reports. Raises ``DeliveryFailed`` if Kafka did not take a record."""
        self._producer.poll(0)
        if self._error is not None:
            raise DeliveryFailed(self._error.str())

    def flush(self) -> None:
        """Returns when Kafka has every record. Raises ``DeliveryFailed`` if it takes too long."""
        left = self._producer.flush(FLUSH_WITHIN_S)
        self.poll()
        if left:
            raise DeliveryFailed(f"no acknowledgement within {FLUSH_WITHIN_S:.0f} s")
