"""The edge as a process: uvicorn, with a bound on what a client may take over a request's headers.

uvicorn bounds neither the time nor the size of headers; many clients that never finish theirs would use
up the connections. The body's bounds are in :mod:`connectors.edge.body`.
"""

import asyncio
import logging
import resource
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from connectors.edge.app import create_app
from connectors.edge.writer import KafkaWriter
from connectors.local.ports import Ports
from streams.kafka.clients import ensure_topics, wait_for_broker
from streams.settings import Settings

log = logging.getLogger(__name__)

HEADERS_BYTES_MAX = 65_536
_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose headers must come within ``timeout_s`` and :data:`HEADERS_BYTES_MAX`."""

    timeout_s = 60.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_bytes = 0
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection without a request is one whose headers are awaited."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Counts what comes until the headers are complete."""
        super().data_received(data)
        if self._waiting is not None:
            self._header_bytes += len(data)
            if self._header_bytes > HEADERS_BYTES_MAX:
                self._refuse(_TOO_LONG)

    def on_message_begin(self) -> None:
        """The first byte of a request on a connection that is kept alive."""
        super().on_message_begin()
        if self._waiting is None:
            self._wait()

    def on_headers_complete(self) -> None:
        self._wait_no_more()
        super().on_headers_complete()

    def _wait(self) -> None:
        self._header_bytes = 0
        self._waiting = self.loop.call_later(self.timeout_s, self._refuse, _TOO_SLOW)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _refuse(self, answer: bytes) -> None:
        self._wait_no_more()
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()


def from_environment() -> Starlette:
    """The app in each serving process."""
    settings = Settings.load()
    BoundedProtocol.timeout_s = settings.request_timeout_s
    wait_for_broker(settings)
    ensure_topics(settings)
    return create_app(settings, KafkaWriter(settings))


def serve(settings: Settings, processes: int) -> None:
    """Serves until told to stop; several processes share the port."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection is a file
    with Ports() as ports:
        port = ports.hold("ROUNDHOUSE_EDGE_PORT", settings.edge_host, settings.edge_port)
        log.info("listening on http://%s:%d", settings.edge_host, port)
        uvicorn.run(
            "connectors.edge.server:from_environment",
            factory=True,
            host=settings.edge_host,
            port=port,
            workers=processes,
            http=BoundedProtocol,
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
        )
