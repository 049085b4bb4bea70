"""Server-sent events: what a reader gets first, after a pause, and when it is slow."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from connectors.console.stream import Stream


async def taken(events: AsyncIterator[bytes], count: int) -> list[bytes]:
    """The next events, without what only keeps the connection."""
    found: list[bytes] = []
    while len(found) < count:
        part = await anext(events)
        if part.startswith(b"id:"):
            found.append(part)
    return found


def data_of(events: list[bytes]) -> list[bytes]:
    return [event.split(b"data: ")[1].strip() for event in events]


def id_of(event: bytes) -> str:
    return event.split(b"\n")[0].removeprefix(b"id: ").decode()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def test_a_reader_gets_the_newest_of_each_key_and_then_each_change() -> None:
    async def work() -> None:
        stream = Stream()
        stream.publish("a", "campaign", 1)
        stream.publish("b", "campaign", 2)
        stream.publish("a", "campaign", 3)
        reader = stream.events(None)
        assert data_of(await taken(reader, 2)) == [b"2", b"3"]
        waiting = asyncio.create_task(taken(reader, 1))
        await asyncio.sleep(0)
        stream.publish("a", "campaign", 3)  # says the same
        stream.publish("b", "line", 4)
        [event] = await waiting
        assert event.endswith(b"event: line\ndata: 4\n\n")

    run(work())


def test_a_slow_reader_skips_what_was_replaced_meanwhile() -> None:
    async def work() -> None:
        stream = Stream()
        stream.publish("a", "campaign", 0)
        reader = stream.events(None)
        await taken(reader, 1)
        for number in range(1, 10_000):
            stream.publish("a", "campaign", number)
        assert data_of(await taken(reader, 1)) == [b"9999"]

    run(work())


def test_a_reader_that_comes_back_gets_what_has_changed_since() -> None:
    async def work() -> None:
        stream = Stream()
        stream.publish("a", "campaign", 1)
        stream.publish("b", "campaign", 2)
        [_, last] = await taken(stream.events(None), 2)
        stream.publish("a", "campaign", 3)
        assert data_of(await taken(stream.events(id_of(last)), 1)) == [b"3"]
        for other in ("other-99", "nonsense", ""):  # of another process: everything
            assert data_of(await taken(stream.events(other), 2)) == [b"2", b"3"]
        stream.forget("a")
        assert data_of(await taken(stream.events(None), 1)) == [b"2"]

    run(work())


def test_all_readers_end_when_the_server_stops() -> None:
    async def work() -> None:
        stream = Stream()

        async def read() -> None:
            async for _ in stream.events(None):
                pass

        readers = [asyncio.create_task(read()) for _ in range(3)]
        while stream.readers < 3:
            await asyncio.sleep(0)
        stream.close()
        await asyncio.gather(*readers)
        assert stream.readers == 0

    run(work())


def test_a_quiet_stream_says_that_it_is_still_there() -> None:
    async def work() -> None:
        reader = Stream(heartbeat_s=0.001).events(None)
        assert [await anext(reader) for _ in range(3)][1:] == [b": still here\n\n"] * 2

    run(work())
