"""The adapter to Faust's internals: a channel's queue, the monitor's times, the group's coordinator,
and the loop that fetches.

None is public. ``pyproject.toml`` pins Faust to the release that was tried, and
``tests/streams/runtime/test_faust_channel.py`` fails when one of them changes.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from aiokafka.errors import IllegalStateError  # type: ignore[import-untyped]
from faust.transport.consumer import CONSUMER_FETCHING
from faust.types import TP, EventT, StreamT

BATCH_RECORDS_MAX = 1000
BATCH_BYTES_MAX = 8_000_000

REST_MAX_S = 0.2
"""A batch of less than enough bytes begins no sooner after the end of the one before than that one
took, up to this time. So work that is slow, because the machine is busy, makes larger batches, which
cost less an event.
"""

LOOK_S = 0.005
"""Between two reads of the queue: Faust puts few records into it at once. A batch of less than enough
bytes waits for one such time at least, for records that were written at the same time.
"""


async def batches(
    stream: StreamT[bytes], enough_bytes: int, linger_s: float
) -> AsyncIterator[list[EventT[Any]]]:
    """Batches of at least one event, until the stream stops. The caller acknowledges.

    A batch is yielded when it has ``enough_bytes`` or has reached a maximum, and with less no sooner
    than ``linger_s`` after the last one and its rest (:data:`REST_MAX_S`). The caller asks for the next
    after its work.

    Reads the channel of the stream, not the stream: the iteration over a stream acknowledges in
    ``finally``, also an event whose processing raised, and ``noack_take`` waits its whole time-out if
    fewer events arrive than it was asked for.
    """
    channel: Any = aiter(stream.channel)
    inbound: Any = stream.app.monitor.stream_inbound_time
    due = time.monotonic()
    while True:
        try:
            events: list[EventT[Any]] = [await channel.queue.get()]
        except StopAsyncIteration:  # Faust throws it into the channel when the stream stops
            return
        due = max(due, time.monotonic() + LOOK_S)
        while not _fill(channel.queue, events, enough_bytes) and time.monotonic() < due:
            await asyncio.sleep(LOOK_S)
        began = time.monotonic()
        for event in events:  # without this time, Faust reports the partition as stuck
            inbound[event.message.tp] = began
        yield events
        ended = time.monotonic()
        due = max(began + linger_s, ended + min(ended - began, REST_MAX_S))


def _fill(queue: Any, events: list[EventT[Any]], enough_bytes: int) -> bool:
    """Moves events from the queue to ``events``, up to a maximum; returns whether they are enough."""
    size = sum(len(event.message.value or b"") for event in events)
    while size < BATCH_BYTES_MAX and len(events) < BATCH_RECORDS_MAX and not queue.empty():
        events.append(queue.get_nowait())
        size += len(events[-1].message.value or b"")
    return size >= enough_bytes or len(events) >= BATCH_RECORDS_MAX


async def seek_back(app: Any, partition: TP, offset: int) -> None:
    """Has the records of a partition delivered again from an offset on. Nothing happens if the
    partition is revoked meanwhile.

    Must not run in a task that reads the stream, which Faust may be waiting for. ``Consumer.seek``
    alone can lose its effect: it sets aiokafka's position from another thread than aiokafka's, where
    a fetch that is being handed over sets it too. And Faust delivers what it has fetched before, counts
    each record as read, and drops what then comes again. Therefore the partition is paused until Faust
    fetches anew; then nothing of it is on its way.
    """
    consumer, generation = app.consumer, app.consumer_generation_id
    consumer.pause_partitions({partition})
    try:
        fetches = consumer.diag.last_transition
        before = fetches.get(CONSUMER_FETCHING)
        while fetches.get(CONSUMER_FETCHING) == before and not app.should_stop:
            await asyncio.sleep(LOOK_S)
        if app.consumer_generation_id == generation:
            await consumer.seek_wait({partition: offset})
    except IllegalStateError:
        pass  # aiokafka has the partition no more
    finally:
        consumer.resume_partitions({partition})


def rejoin(app: Any) -> None:
    """Has the worker join its group again, which gives all members another assignment."""
    thread = app.consumer._thread
    thread.thread_loop.call_soon_threadsafe(thread._consumer._coordinator.request_rejoin)
