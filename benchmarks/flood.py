"""Posts requests as fast as they are answered, over many connections, with little CPU in the client.

``http.client`` and similar clients use more CPU for a request than the edge, which is to be measured.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from typing import Any

import httptools
import uvloop

TAKEN = (204, 422)  # 422: some items were rejected, the others are accepted


class _Connection(asyncio.Protocol):
    """Sends the next request when the previous one is answered."""

    def __init__(
        self, coming: Iterator[bytes], taken: Collection[int], done: asyncio.Future[None]
    ) -> None:
        self._coming = coming
        self._taken = taken
        self._done = done
        self._transport: Any = None
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        request = next(self._coming, None)
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status in self._taken:
            self._send()
        else:
            self._done.set_exception(RuntimeError(f"the edge answered {status}"))
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


def request(path: str, key: str, body: bytes) -> bytes:
    """The bytes of a request."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: edge\r\nx-api-key: {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def flood(
    host: str,
    port: int,
    requests: Iterable[bytes],
    connections: int,
    taken: Collection[int] = TAKEN,
) -> None:
    """Sends every request. Raises ``RuntimeError`` if an answer has another status than ``taken``."""
    coming = iter(requests)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        ends = [loop.create_future() for _ in range(connections)]
        for end in ends:
            await loop.create_connection(partial(_Connection, coming, taken, end), host, port)
        await asyncio.gather(*ends)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    if next(coming, None) is not None:
        raise RuntimeError("the edge closed all connections")
