"""TCP ports of this machine, held for processes that are started, or started again, later.

Another process may take a port as soon as it is released: the kernel assigns it to the next socket that
binds port 0 or connects. So a port is held by a socket that is bound and does not listen. Linux lets
another process listen on the port (with ``SO_REUSEADDR``, as Java, asyncio and :mod:`socketserver` set
it) and does not assign the port to sockets that request any port. Other systems do not let the process
listen; there a port is chosen outside the kernel's ephemeral range, and is not held.
"""

import errno
import random
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Self

import psutil

from streams.errors import ConfigurationError, PortInUse

_OUTSIDE_EPHEMERAL = range(20_000, 32_768)
_TRIES = 100


class Ports:
    """Ports held until :meth:`close`."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def hold(self, setting: str, host: str = "127.0.0.1", port: int = 0) -> int:
        """Holds ``port`` of ``host`` and returns it; 0 requests any free port.

        Raises :class:`PortInUse` if another process listens on it; the message names ``setting``,
        the environment variable to change.
        """
        if port == 0 and sys.platform != "linux":
            return self._hold_any(host, random.sample(_OUTSIDE_EPHEMERAL, _TRIES), setting)
        try:
            return self._bind(host, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(_in_use(setting, port)) from None
            raise ConfigurationError(f"{setting}: cannot listen on {host}:{port}: {error}") from None

    def _hold_any(self, host: str, candidates: Iterable[int], setting: str) -> int:
        for candidate in candidates:
            with suppress(OSError):
                return self._bind(host, candidate)
        raise PortInUse(f"{setting}: none of {_TRIES} ports that were tried is free")

    def _bind(self, host: str, port: int) -> int:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        held = socket.socket(family, kind)
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(address)
        except OSError:
            held.close()
            raise
        number: int = held.getsockname()[1]
        if sys.platform == "linux":
            self._sockets.append(held)
        else:
            held.close()
        return number

    def close(self) -> None:
        """Releases the ports."""
        for held in self._sockets:
            held.close()
        self._sockets.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _in_use(setting: str, port: int) -> str:
    by = _listener(port)
    return (
        f"port {port} is in use{f' by {by}' if by else ''}: end that process, or set {setting} to "
        "another port (0 takes any that is free)"
    )


def _listener(port: int) -> str | None:
    """The process that listens on a port, if this user may see it."""
    try:
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr[1:2] == (port,) and found.pid:
                return f"process {found.pid} ({psutil.Process(found.pid).name()})"
    except psutil.Error:
        pass
    return None
