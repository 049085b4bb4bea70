"""The page of metrics of a process, on a port and a thread of its own.

A thread of its own answers also while the process computes or waits for Kafka. Each process keeps a
file in ``<data_dir>/status`` that names its port, as Prometheus's file-based discovery reads it. A
process that is told to stop removes its file; one that is killed leaves it, so that it is missed.
"""

import fcntl
import itertools
import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streams.errors import PortInUse
from streams.settings import Settings

log = logging.getLogger(__name__)

_PORTS = 32
"""How many ports are tried from the configured one on: a machine runs several processes."""


@contextmanager
def serving(settings: Settings, job: str, registry: CollectorRegistry, name: str = "") -> Iterator[int]:
    """Serves ``/metrics`` within the block; yields the port.

    ``job`` is the kind of process and ``name`` its name on this machine; without one it is the first of
    ``<job>-0``, ``<job>-1``, ... that no running process has. Raises ``PortInUse`` if no port is free.
    """
    with _listening(settings) as listener, _claimed(settings, job, name) as (instance, file):
        port: int = listener.getsockname()[1]
        _announce(file, f"{settings.status_host}:{port}", job, instance)
        config = uvicorn.Config(
            _app(registry), loop="asyncio", log_config=None, access_log=False, server_header=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="status", daemon=True
        )
        thread.start()
        log.info("metrics of %s on http://%s:%d/metrics", instance, settings.status_host, port)
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join()


def _app(registry: CollectorRegistry) -> Starlette:
    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    return Starlette(routes=[Route("/metrics", metrics)])


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    first = settings.status_port
    for port in range(first, min(first + _PORTS, 65_536)) if first else [0]:
        with suppress(OSError):
            listener = socket.create_server((settings.status_host, port))
            break
    else:
        raise PortInUse(
            f"none of {_PORTS} ports from {first} on is free: set ROUNDHOUSE_STATUS_PORT to another (0 "
            "takes any that is free)"
        )
    with listener:
        yield listener


@contextmanager
def _claimed(settings: Settings, job: str, name: str) -> Iterator[tuple[str, IO[str]]]:
    """The name of this process, and its file, locked as long as it runs."""
    folder = settings.data_dir / "status"
    folder.mkdir(parents=True, exist_ok=True)
    for instance in [name] if name else (f"{job}-{number}" for number in itertools.count()):
        path = folder / f"{instance}.json"
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if name else fcntl.LOCK_NB))
            except BlockingIOError:
                continue
            failed = False
            try:
                yield instance, file
            except Exception:
                failed = True
                raise
            finally:
                if not failed:
                    path.unlink(missing_ok=True)
            return


def _announce(file: IO[str], target: str, job: str, instance: str) -> None:
    labels = {"job": job, "instance": f"{instance}@{socket.gethostname()}"}
    file.truncate(0)
    file.write(json.dumps([{"targets": [target], "labels": labels}]))
    file.flush()
