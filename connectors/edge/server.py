"""The edge as a process: uvicorn on a socket that several processes may share."""

import logging
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn

from connectors.edge.app import create_app
from connectors.edge.bounded_protocol import BoundedProtocol
from connectors.edge.metrics import EdgeMetrics
from connectors.edge.writer import KafkaWriter
from connectors.local.ports import Ports
from streams.kafka.admin import ensure_topics, wait_for_broker
from streams.runtime.fail_stop import end_with_status_0_on_signals
from streams.settings import Settings
from streams.telemetry.process_metrics import process_registry
from streams.telemetry.status_server import serving
from streams.telemetry.traces import open_traces

log = logging.getLogger(__name__)


@contextmanager
def bound(settings: Settings) -> Iterator[socket.socket]:
    """A socket bound to the edge's port, on which nobody listens yet. Raises ``PortInUse``."""
    host = settings.edge_host
    with Ports() as ports:
        port = ports.hold("ROUNDHOUSE_EDGE_PORT", host, settings.edge_port)
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            log.info("the edge's address is http://%s:%d", host, port)
            yield listener


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serves on a socket of :func:`bound` until told to stop."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection is a file
    wait_for_broker(settings)
    ensure_topics(settings)
    registry = process_registry(settings.data_dir)
    metrics = EdgeMetrics(registry)
    traces = open_traces(settings, "edge")
    app = create_app(settings, KafkaWriter(settings, metrics), metrics, traces=traces)
    config = uvicorn.Config(
        app,
        http=partial(BoundedProtocol, timeout_s=settings.request_timeout_s),  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, int(settings.stop_within_s - settings.ack_timeout_s)),
    )
    with serving(settings, "edge", registry, app.state.edge.health):
        end_with_status_0_on_signals()
        uvicorn.Server(config).run(sockets=[listener])
