"""The edge as a process: uvicorn with one or more serving processes on one port."""

import contextlib
import logging
import resource
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette

from connectors.edge.app import create_app
from connectors.edge.bounded_protocol import BoundedProtocol
from connectors.edge.metrics import EdgeMetrics
from connectors.edge.writer import KafkaWriter
from connectors.local.ports import Ports
from streams.kafka.admin import ensure_topics, wait_for_broker
from streams.settings import Settings
from streams.telemetry.process_metrics import process_registry
from streams.telemetry.status_server import serving
from streams.telemetry.traces import open_traces

log = logging.getLogger(__name__)


def from_environment() -> Starlette:
    """The app in each serving process."""
    settings = Settings.load()
    wait_for_broker(settings)
    ensure_topics(settings)
    registry = process_registry(settings.data_dir)
    metrics = EdgeMetrics(registry)
    app = create_app(
        settings, KafkaWriter(settings, metrics), metrics, traces=open_traces(settings, "edge")
    )
    inner = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with serving(settings, "edge", registry, app.state.edge.health):
            async with inner(app):
                yield

    app.router.lifespan_context = lifespan
    return app


def serve(settings: Settings, processes: int, logging_config: dict[str, Any]) -> None:
    """Serves until told to stop; several processes share the port.

    ``logging_config`` is for :func:`logging.config.dictConfig` in each.
    """
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
            http=partial(BoundedProtocol, timeout_s=settings.request_timeout_s),  # type: ignore[arg-type]
            ws="none",
            log_config=logging_config,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, int(settings.stop_within_s - settings.ack_timeout_s)),
        )
