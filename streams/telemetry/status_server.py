"""The status page of a process: health and metrics over HTTP, on its own port and thread.

A separate thread answers also while the process computes or waits for Kafka. Each process keeps a
file in ``<data_dir>/status`` with its address, in the format of Prometheus's file-based discovery. A
process that is told to stop removes its file; a killed process leaves it, so that its end is noticed.

``/livez`` and ``/readyz`` answer 200 or 503 for the probes of an orchestrator, ``/healthz`` 200 only if
the process is both live and ready. All three have the same JSON (:meth:`Health.document`).
"""

import fcntl
import itertools
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from streams.errors import ConfigurationError, PortInUse
from streams.settings import Settings
from streams.telemetry.health import Report

log = logging.getLogger(__name__)

_PORTS = 32
"""The number of ports that are tried, beginning with the configured one."""

_PREDECESSOR_S = 5.0
"""How long a process waits for an earlier process of its name to end."""


@contextmanager
def serving(
    settings: Settings, job: str, registry: CollectorRegistry, report: Report, name: str = ""
) -> Iterator[int]:
    """Serves health and metrics within the block; yields the port.

    ``job`` is the kind of process and ``name`` its name on this machine; the default is the first of
    ``<job>-0``, ``<job>-1``, ... that no running process has. Raises ``PortInUse`` if no port is free,
    and ``ConfigurationError`` if another process has the name.
    """
    with _listening(settings) as listener, _claimed(settings, job, name) as (instance, file):
        port: int = listener.getsockname()[1]
        _announce(file, f"{settings.status_host}:{port}", job, instance)
        config = uvicorn.Config(
            _app(registry, report),
            loop="asyncio",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="status", daemon=True
        )
        thread.start()
        log.info("status of %s on http://%s:%d/healthz", instance, settings.status_host, port)
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join()


def health_routes(report: Report) -> list[Route]:
    """The routes ``/livez``, ``/readyz`` and ``/healthz``; other servers may include them."""

    def livez(request: Request) -> Response:
        health = report()
        return JSONResponse(health.document(), 200 if health.live else 503)

    def readyz(request: Request) -> Response:
        health = report()
        return JSONResponse(health.document(), 200 if health.ready else 503)

    def healthz(request: Request) -> Response:
        health = report()
        return JSONResponse(health.document(), 200 if health.live and health.ready else 503)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/healthz", healthz)]


class _HealthMetrics(Collector):
    """The health of the process as a metric, computed at each scrape."""

    def __init__(self, registry: CollectorRegistry, report: Report) -> None:
        self._report = report
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """The family without samples."""
        yield GaugeMetricFamily(
            "roundhouse_health",
            "1 if the process is in the state: live, ready, stuck.",
            labels=["state"],
        )

    def collect(self) -> Iterator[Metric]:
        """The family with a sample for each state."""
        health = self._report()
        [family] = self.describe()
        for state in ("live", "ready", "stuck"):
            family.add_metric([state], getattr(health, state))  # type: ignore[attr-defined]
        yield family


def _app(registry: CollectorRegistry, report: Report) -> Starlette:
    _HealthMetrics(registry, report)

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    return Starlette(routes=[Route("/metrics", metrics), *health_routes(report)])


def status_folder(settings: Settings) -> Path:
    """The folder with the status files of this machine's processes."""
    return settings.data_dir / "status"


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
    """The name and the status file of this process; the file is locked while the process runs."""
    folder = status_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _PREDECESSOR_S
    for instance in itertools.repeat(name) if name else (f"{job}-{n}" for n in itertools.count()):
        path = folder / f"{instance}.json"
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if name and time.monotonic() > deadline:
                    raise ConfigurationError(
                        f"a process named {name} runs on {settings.data_dir} already: end it, or "
                        "choose another --name"
                    ) from None
                if name:
                    time.sleep(0.1)
                continue
            if not _is_at(path, file):  # an earlier process removed it between the two lines above
                continue
            try:
                yield instance, file
            finally:
                if not isinstance(sys.exception(), Exception):  # the process was told to stop
                    path.unlink(missing_ok=True)
            return


def _is_at(path: Path, file: IO[str]) -> bool:
    try:
        return path.stat().st_ino == os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False


def _announce(file: IO[str], target: str, job: str, instance: str) -> None:
    labels = {"job": job, "instance": f"{instance}@{socket.gethostname()}"}
    file.truncate(0)
    file.write(json.dumps([{"targets": [target], "labels": labels}]))
    file.flush()
