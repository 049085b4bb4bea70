"""Writes raw batches to Kafka and waits for the acknowledgement, from asyncio."""

import asyncio
import threading
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, Message

from streams.canonical import Batch
from streams.errors import DeliveryFailed
from streams.failstop import fail_stop
from streams.kafka import idempotent_producer
from streams.settings import Settings
from streams.topics import RAW
from streams.translation import headers_of


class Writer(Protocol):
    """Where the edge puts raw batches."""

    async def write(self, batch: Batch, body: bytes, invalid: int) -> None:
        """Returns once the batch cannot be lost. Raises ``DeliveryFailed`` if that is not sure.

        ``invalid``: how many of its items the edge refused.
        """
        ...

    async def ready(self) -> bool:
        """Whether a write would likely succeed now."""
        ...

    def close(self) -> None:
        """Writes no more."""
        ...


class KafkaWriter:
    """Acknowledged by all in-sync replicas, each attempt written once (acks=all, idempotent).

    After ``DeliveryFailed`` the batch may still have been written: a client that posts it again is
    recognised by its event ids.
    """

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.topic_prefix + RAW
        self._timeout_s = settings.ack_timeout_s
        self._producer = idempotent_producer(
            settings,
            **{
                "message.timeout.ms": int(settings.ack_timeout_s * 1000),
                "enable.gapless.guarantee": False,  # requests do not depend on each other
            },
        )
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="edge-delivery", daemon=True)
        self._poller.start()

    async def write(self, batch: Batch, body: bytes, invalid: int) -> None:
        """See :class:`Writer`."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()

        def finish(error: KafkaError | None) -> None:
            if written.done():
                return
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(DeliveryFailed(error.str()))

        def delivered(error: KafkaError | None, message: Message) -> None:
            loop.call_soon_threadsafe(finish, error)

        try:
            self._producer.produce(
                self._topic,
                body,
                batch.batch_id.encode(),
                headers=list(headers_of(batch, invalid).items()),
                on_delivery=delivered,
            )
        except BufferError:
            raise DeliveryFailed("the queue to Kafka is full") from None
        except KafkaException as error:
            raise DeliveryFailed(str(error)) from None
        try:
            await asyncio.wait_for(written, self._timeout_s + 1.0)
        except TimeoutError:
            raise DeliveryFailed(f"no acknowledgement within {self._timeout_s} s") from None

    async def ready(self) -> bool:
        """See :class:`Writer`."""
        try:
            await asyncio.to_thread(self._producer.list_topics, self._topic, 2.0)
        except KafkaException:
            return False
        return True

    def close(self) -> None:
        """See :class:`Writer`."""
        self._producer.flush(self._timeout_s)
        self._stopping.set()
        self._poller.join()

    def _poll(self) -> None:
        while not self._stopping.is_set():
            try:
                self._producer.poll(0.1)
            except Exception as error:  # a dead poller would leave every request waiting
                fail_stop(error)
