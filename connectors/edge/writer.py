"""Writes raw batches to Kafka and waits for the acknowledgement, from asyncio."""

import asyncio
import threading
import time
from functools import partial
from typing import NamedTuple, Protocol

from confluent_kafka import KafkaError, KafkaException, Message

from connectors.edge.metrics import EdgeMetrics
from streams.core.event import Batch
from streams.errors import DeliveryFailed
from streams.kafka.clients import idempotent_producer, reporting
from streams.kafka.probe import KafkaProbe
from streams.records.raw_batch import Headers, headers_of, join_requests
from streams.records.topics import RAW
from streams.runtime.fail_stop import fail_stop
from streams.settings import Settings

LINGER_S = 0.005
"""Longest wait of a small request for others to share its record."""

SMALL_BYTES = 65_536
SHARED_BYTES = 262_144
SHARED_REQUESTS = 500


class Writer(Protocol):
    """The destination of raw batches."""

    async def write(self, batch: Batch, body: bytes, invalid: int) -> None:
        """Returns when the batch is stored safely. Raises ``DeliveryFailed`` if that is not certain.

        The edge refused ``invalid`` of its items.
        """
        ...

    def kafka_away_s(self) -> float | None:
        """For how long Kafka does not answer; None if a write would likely succeed. Blocking."""
        ...

    def close(self) -> None:
        """Writes pending batches and closes the producer."""
        ...


class _Post(NamedTuple):
    headers: Headers
    body: bytes
    written: asyncio.Future[None]


class KafkaWriter:
    """Writes with acknowledgement by all in-sync replicas, each attempt once (acks=all, idempotent).

    Small requests that arrive within :data:`LINGER_S` share a record
    (:mod:`streams.records.raw_batch`): a record with one event costs the later stages nearly as
    much as one with many.

    After ``DeliveryFailed`` the batch may still have been written: if the client posts it again,
    its events are recognised by their ids.
    """

    def __init__(self, settings: Settings, metrics: EdgeMetrics) -> None:
        self._metrics = metrics
        self._topic = settings.topic_prefix + RAW
        self._timeout_s = settings.ack_timeout_s
        self._together: list[_Post] = []
        self._together_bytes = 0
        self._producer = idempotent_producer(
            settings,
            **reporting(metrics.clients.of("edge")),
            **{
                "message.timeout.ms": int(settings.ack_timeout_s * 1000),
                "enable.gapless.guarantee": False,  # requests do not depend on each other
                "linger.ms": 0,
            },
        )
        self._probe = KafkaProbe(partial(self._producer.list_topics, self._topic, 2.0))
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="edge-delivery", daemon=True)
        self._poller.start()

    async def write(self, batch: Batch, body: bytes, invalid: int) -> None:
        written = asyncio.get_running_loop().create_future()
        post = _Post(headers_of(batch, invalid), body, written)
        if len(body) > SMALL_BYTES:
            self._send([post])
        else:
            self._add(post)
        await written

    def _add(self, post: _Post) -> None:
        """Adds a request to the next shared record."""
        together = self._together
        together.append(post)
        self._together_bytes += len(post.body)
        if self._together_bytes > SHARED_BYTES or len(together) == SHARED_REQUESTS:
            self._send_together(together)
        elif len(together) == 1:
            asyncio.get_running_loop().call_later(LINGER_S, self._send_together, together)

    def _send_together(self, together: list[_Post]) -> None:
        if together is self._together:  # otherwise the record was already sent because it was full
            self._together, self._together_bytes = [], 0
            self._send(together)

    def _send(self, posts: list[_Post]) -> None:
        """Sends one record; librdkafka reports within the time limit whether it was acknowledged."""
        loop = asyncio.get_running_loop()
        began = time.monotonic()

        def finish(error: Exception | None) -> None:
            failed = "" if error is None else type(error).__name__
            self._metrics.acknowledged.observe(time.monotonic() - began, "send", RAW, failed)
            for post in posts:
                if post.written.done():  # the client has disconnected
                    continue
                if error is None:
                    post.written.set_result(None)
                else:
                    post.written.set_exception(error)

        def delivered(error: KafkaError | None, message: Message) -> None:
            failed = None if error is None else DeliveryFailed(error.str())
            loop.call_soon_threadsafe(finish, failed)

        try:
            headers, value = join_requests([(post.headers, post.body) for post in posts])
            key = dict(posts[0].headers)["batch-id"]
            self._producer.produce(
                self._topic,
                value,
                key,
                headers=headers,  # type: ignore[arg-type]  # a list of wider pairs, they say
                on_delivery=delivered,
            )
        except BufferError:
            finish(DeliveryFailed("the queue to Kafka is full"))
        except KafkaException as error:
            finish(DeliveryFailed(str(error)))
        except Exception as error:  # a bug; an exception in a timer's callback would only be logged
            finish(error)

    def kafka_away_s(self) -> float | None:
        return self._probe.away_s()

    def close(self) -> None:
        self._producer.flush(self._timeout_s)
        self._stopping.set()
        self._poller.join()

    def _poll(self) -> None:
        while not self._stopping.is_set():
            try:
                self._producer.poll(0.1)
            except Exception as error:  # without the poller every request would wait for ever
                fail_stop(error)
