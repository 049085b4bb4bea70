"""Batches from a stream's channel, and the internals of Faust that they depend on."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import faust
import pytest
from aiokafka import ConsumerRecord  # type: ignore[import-untyped]
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from faust.types import TP, Message
from mode import Service

from streams.runtime.faust_channel import (
    BATCH_RECORDS_MAX,
    LOOK_S,
    REST_MAX_S,
    batches,
    seek_back,
)

ENOUGH_BYTES = 100
LINGER_S = 0.08
PARTITION = TP("raw", 3)


class Fed:
    """A stream of an app that is not started, whose channel is filled by hand."""

    def __init__(self) -> None:
        self.app = faust.App("test", broker="kafka://127.0.0.1:1", value_serializer="raw")
        self.app.flow_control.resume()
        self.stream = self.app.stream(self.app.channel(value_type=bytes))
        self.batches = batches(self.stream, ENOUGH_BYTES, LINGER_S)

    def put(self, *values: bytes) -> None:
        """Puts records on the queue from which the stream's own channel is read."""
        for offset, value in enumerate(values):
            message: Any = Message(*PARTITION, offset, 0.0, 0, None, None, value, None, tp=PARTITION)
            event: Any = self.app.create_event(None, value, None, message)
            self.stream.channel.queue.put_nowait(event)  # type: ignore[attr-defined]

    async def next(self) -> list[bytes | None]:
        return [event.message.value for event in await anext(self.batches)]


def run(check: Callable[[Fed], Awaitable[None]]) -> None:
    """Calls ``check`` on an event loop with a stream that is created there."""

    async def made() -> None:
        await check(Fed())

    asyncio.run(made())


def test_records_that_are_enough_are_one_batch_in_order() -> None:
    async def check(fed: Fed) -> None:
        fed.put(b"a" * 60, b"b" * 60, b"c")
        assert await fed.next() == [b"a" * 60, b"b" * 60, b"c"]

    run(check)


class Clock:
    """Time that passes in waits alone; ``meanwhile`` is called at each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.meanwhile: Callable[[], None] = lambda: None
        monkeypatch.setattr(asyncio, "sleep", self._sleep)
        monkeypatch.setattr("streams.runtime.faust_channel.time.monotonic", lambda: self.now)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_batch_of_too_few_bytes_waits_for_more(clock: Clock) -> None:
    async def check(fed: Fed) -> None:
        began = clock.now
        clock.meanwhile = lambda: fed.put(b"b" * 60)
        fed.put(b"a" * 60)
        assert await fed.next() == [b"a" * 60, b"b" * 60]
        assert clock.now - began == pytest.approx(LOOK_S)

    run(check)


def test_a_batch_of_too_few_bytes_begins_a_bounded_time_after_the_one_before(clock: Clock) -> None:
    async def check(fed: Fed) -> None:
        fed.put(b"a")
        assert await fed.next() == [b"a"]
        before = clock.now
        clock.now += LINGER_S / 2  # the work on the batch
        fed.put(b"b")
        assert await fed.next() == [b"b"]
        assert clock.now - before == pytest.approx(LINGER_S, abs=LOOK_S)

    run(check)


@pytest.mark.parametrize(
    ("worked", "rest"), [(LINGER_S, LINGER_S), (REST_MAX_S, REST_MAX_S), (9.0, REST_MAX_S)]
)
def test_a_batch_of_too_few_bytes_rests_as_long_as_the_one_before_took(
    clock: Clock, worked: float, rest: float
) -> None:
    async def check(fed: Fed) -> None:
        fed.put(b"a")
        await fed.next()
        clock.now += worked
        ended = clock.now
        fed.put(b"b")
        await fed.next()
        assert clock.now - ended == pytest.approx(rest, abs=LOOK_S)

    run(check)


def test_a_backlog_does_not_rest(clock: Clock) -> None:
    async def check(fed: Fed) -> None:
        fed.put(b"a")
        await fed.next()
        clock.now += REST_MAX_S  # the work on the batch
        began = clock.now
        fed.put(b"b" * ENOUGH_BYTES)
        assert await fed.next() == [b"b" * ENOUGH_BYTES]
        assert clock.now == began

    run(check)


def test_a_batch_after_a_pause_waits_for_what_was_written_with_it_alone(clock: Clock) -> None:
    async def check(fed: Fed) -> None:
        def end_of_pause() -> None:
            clock.now += 10 * LINGER_S
            fed.put(b"b")

        fed.put(b"a")
        await fed.next()
        began = clock.now
        clock.meanwhile = lambda: fed.put(b"c")
        asyncio.get_running_loop().call_soon(end_of_pause)
        assert await fed.next() == [b"b", b"c"]
        assert clock.now - began == pytest.approx(10 * LINGER_S + LOOK_S)

    run(check)


def test_a_batch_has_a_largest_number_of_records() -> None:
    async def check(fed: Fed) -> None:
        fed.put(*[b""] * (BATCH_RECORDS_MAX + 1))
        assert len(await fed.next()) == BATCH_RECORDS_MAX

    run(check)


def test_the_monitor_learns_of_a_batch_and_nothing_is_acknowledged() -> None:
    async def check(fed: Fed) -> None:
        fed.put(b"a" * ENOUGH_BYTES)
        [event] = await anext(fed.batches)
        assert PARTITION in fed.app.monitor.stream_inbound_time
        assert not event.message.acked

    run(check)


def test_a_stream_that_stops_ends_the_batches() -> None:
    async def check(fed: Fed) -> None:
        await fed.stream.throw(StopAsyncIteration())
        assert [batch async for batch in fed.batches] == []

    run(check)


# Going back ----------------------------------------------------------------------------------

OTHER = TP("raw", 4)
RECORDS = 10
FETCHED = 5
"""So many records of a partition are in a fetch."""


class Client:
    """aiokafka's consumer of two partitions with some records."""

    def __init__(self) -> None:
        self.at = {PARTITION: 0, OTHER: 0}
        self._max_poll_records = FETCHED

    def seek(self, partition: TP, offset: int) -> None:
        self.at[partition] = offset

    async def position(self, partition: TP) -> int:
        return self.at[partition]

    def fetch(self, partition: TP) -> list[ConsumerRecord[Any, Any]]:
        begin = self.at[partition]
        self.at[partition] = min(RECORDS, begin + FETCHED)
        return [
            ConsumerRecord(*partition, offset, 0, 0, b"", b"", None, 0, 0, ())
            for offset in range(begin, self.at[partition])
        ]


class Thread(AIOKafkaConsumerThread):
    """Faust's thread around the client, which is not started: what it is asked for is done at once."""

    def __init__(self, consumer: Any) -> None:
        super().__init__(consumer, thread_loop=asyncio.get_running_loop())
        self.client = Client()

    def _ensure_consumer(self) -> Any:
        return self.client

    async def call_thread(self, fun: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return await fun(*args, **kwargs)

    async def _fetch_records(
        self, consumer: Any, active_partitions: Any, *limits: Any, **more: Any
    ) -> Any:
        return {
            partition: consumer.fetch(partition)
            for partition in (PARTITION, OTHER)
            if partition in active_partitions
        }

    def highwater(self, partition: TP) -> int:
        return RECORDS


class Consuming(Consumer):
    """Faust's consumer, which is not started either."""

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return Thread(self)


Going = Callable[[faust.App, TP, int], Coroutine[Any, Any, None]]


async def read(at: int, back_to: int, going: Going) -> list[int]:
    """The offsets that Faust delivers of a partition if its reader goes back when it reads the offset
    ``at`` of the other one. One record fits the reader's queue.
    """
    app = faust.App("test", broker="kafka://127.0.0.1:1", value_serializer="raw")
    queue: asyncio.Queue[Any] = asyncio.Queue(1)
    ignored: Any = None
    consumer = Consuming(
        app.transport, queue.put, on_partitions_revoked=ignored, on_partitions_assigned=ignored
    )
    app.consumer = consumer
    consumer._set_active_tps({PARTITION, OTHER})
    fetcher = Service()
    draining = asyncio.create_task(consumer._drain_messages(fetcher))
    seeking: asyncio.Task[None] | None = None
    offsets: list[int] = []
    while True:
        try:
            message = await asyncio.wait_for(queue.get(), 0.5)
        except TimeoutError:
            break
        if message.tp == PARTITION:
            offsets.append(message.offset)
        elif message.offset == at:
            seeking = asyncio.create_task(going(app, PARTITION, back_to))
    assert seeking is not None
    await seeking
    consumer._stopped.set()
    await draining
    return offsets


def test_going_back_delivers_each_record_from_there_also_if_others_were_fetched() -> None:
    offsets = asyncio.run(read(6, 4, seek_back))
    again = offsets.index(4, 6)
    assert offsets[:again] == list(range(again))
    assert offsets[again:] == list(range(4, RECORDS))


def test_faust_alone_does_not_go_back_behind_what_it_has_fetched() -> None:
    """If this fails, Faust is mended, and ``seek_back`` may be its own ``Consumer.seek``."""

    async def seek(app: faust.App, partition: TP, offset: int) -> None:
        await app.consumer.seek(partition, offset)

    assert asyncio.run(read(6, 4, seek)).count(4) == 1
