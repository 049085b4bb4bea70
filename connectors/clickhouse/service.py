"""The sink process: the sink, and a loopback port for queries while it runs.

chDB admits one process to its directory, so other processes query through the process that holds
it. The port is read-only and requires the token in ``<data_dir>/sql-token``.
"""

import asyncio
import gc
import hmac
import logging
import os
import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import msgspec
import uvicorn
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from connectors.clickhouse import kept_play
from connectors.clickhouse.client import connect, is_embedded
from connectors.clickhouse.erasure import Subject, erase
from connectors.clickhouse.metrics import SinkMetrics
from connectors.clickhouse.migrate import migrate
from connectors.clickhouse.questions import add_rows, ask, token_path
from connectors.clickhouse.rebuilding import Slice, rebuild
from connectors.clickhouse.sink import ClickHouseTables, Sink
from connectors.clickhouse.sink_health import SinkHealth
from connectors.local.ports import Ports
from streams.errors import NotReadOnly
from streams.kafka.admin import ensure_topics, wait_for_broker
from streams.kafka.input_watch import InputWatch
from streams.kafka.lag import SINK
from streams.kafka.schema_ids import frames
from streams.kafka.schemas import Schemas
from streams.runtime.fail_stop import end_with_status_0_on_signals, end_within, fail_stop
from streams.settings import Settings
from streams.telemetry.process_metrics import process_registry
from streams.telemetry.status_server import serving
from streams.telemetry.traces import open_traces

log = logging.getLogger(__name__)


_QUESTIONS_MAX = 2
"""Questions at one time: a long one does not keep a short one waiting."""


def create_app(clients: Sequence[Client], token: str) -> Starlette:
    """``POST /sql?format=…&within_s=…&threads=…`` with the query as body, ``POST /rows?table=…``,
    ``POST /erase`` with a :class:`connectors.clickhouse.erasure.Subject` as body, ``POST /rebuild``
    with a :class:`connectors.clickhouse.rebuilding.Slice`, and ``POST /rebuild-kpis`` with the setting
    ``kpis_settled_s``.

    Each client does one thing at a time. The sink's is none of them: in chDB an insert would wait until
    the client's question is answered.
    """
    taken = _free(clients)

    def answer(query: bytes, form: str, within_s: float | None, threads: int | None) -> bytes:
        with taken() as client:
            return ask(client, query.decode(errors="replace"), form, within_s, threads)

    async def answered(request: Request, work: Callable[[bytes], bytes]) -> Response:
        given = request.headers.get("x-token", "")
        if not hmac.compare_digest(given.encode(), token.encode()):
            return PlainTextResponse("wrong token\n", 403)
        try:
            return PlainTextResponse(await asyncio.to_thread(work, await request.body()))
        except (ClickHouseError, NotReadOnly) as error:
            return PlainTextResponse(f"{error}\n", 400)

    async def sql(request: Request) -> Response:
        form = request.query_params.get("format", "table")
        given, most = request.query_params.get("within_s"), request.query_params.get("threads")
        within_s = None if given is None else float(given)
        threads = None if most is None else int(most)
        return await answered(request, lambda query: answer(query, form, within_s, threads))

    async def changed(request: Request, change: Callable[[Client, bytes], bytes]) -> Response:
        def work(body: bytes) -> bytes:
            with taken() as client:
                return change(client, body)

        return await answered(request, work)

    async def erase_player(request: Request) -> Response:
        return await changed(request, _erase)

    async def rebuild_rounds(request: Request) -> Response:
        return await changed(request, _rebuild)

    async def rebuild_kpis(request: Request) -> Response:
        return await changed(request, _rebuild_kpis)

    async def add(request: Request) -> Response:
        table = request.query_params.get("table", "")
        return await changed(request, lambda client, body: add_rows(client, table, body))

    return Starlette(
        routes=[
            Route("/sql", sql, methods=["POST"]),
            Route("/rows", add, methods=["POST"]),
            Route("/erase", erase_player, methods=["POST"]),
            Route("/rebuild", rebuild_rounds, methods=["POST"]),
            Route("/rebuild-kpis", rebuild_kpis, methods=["POST"]),
        ]
    )


def _erase(client: Client, body: bytes) -> bytes:
    subject = msgspec.json.decode(body, type=Subject)
    return msgspec.json.encode(erase(client, subject, cluster=None))


def _rebuild(client: Client, body: bytes) -> bytes:
    return msgspec.json.encode(rebuild(client, msgspec.json.decode(body, type=Slice)))


def _rebuild_kpis(client: Client, body: bytes) -> bytes:
    return msgspec.json.encode(kept_play.rebuild(client, msgspec.json.decode(body, type=float)))


def _free(clients: Sequence[Client]) -> Callable[[], AbstractContextManager[Client]]:
    """A context that has one of the clients to itself, and waits for one."""
    free: queue.SimpleQueue[Client] = queue.SimpleQueue()
    for client in clients:
        free.put(client)

    @contextmanager
    def taken() -> Iterator[Client]:
        client = free.get()
        try:
            yield client
        finally:
            free.put(client)

    return taken


def run_sink(settings: Settings) -> None:
    """Migrates, then runs the sink and the port until told to stop; ends the process if the sink
    fails.
    """
    with Ports() as ports:
        port = ports.hold("ROUNDHOUSE_SQL_PORT", port=settings.sql_port)
        registry, health = process_registry(settings.data_dir), SinkHealth(settings)
        with serving(settings, "sink", registry, health.report, "sink"):
            _run_sink(settings, port, registry, health)


def _run_sink(settings: Settings, port: int, registry: CollectorRegistry, health: SinkHealth) -> None:
    wait_for_broker(settings)
    ensure_topics(settings)
    client = connect(settings)
    applied = migrate(client, settings.clickhouse_database, cluster=settings.clickhouse_cluster)
    log.info("migrations applied: %s", applied or "none")
    metrics = SinkMetrics(registry)
    tables = ClickHouseTables(_reconnecting(settings, client))
    schemas = Schemas(settings, frames(settings))
    traces = open_traces(settings, "sink")
    sink = Sink(settings, tables, schemas.schema_of, metrics, traces)
    watch = InputWatch(
        settings, SINK, assigned=lambda: sink.assigned, show=metrics.lag.show, failed=fail_stop
    )
    questions = [_opened(settings) for _ in range(_QUESTIONS_MAX)]
    app = create_app(questions, _token(settings))
    health.begin(sink, watch)
    watch.start()
    thread = threading.Thread(target=_run_or_die, args=(sink.run,), name="sink")
    thread.start()
    keeper = kept_play.Keeper(lambda: _opened(settings), settings.kpis_settled_s, fail_stop)
    keeper.start()
    end_with_status_0_on_signals()
    gc.freeze()  # objects made so far live as long as the process; collections skip them
    try:
        uvicorn.run(
            app,
            host="127.0.0.1",
            port=port,
            log_config=None,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=max(1, int(settings.stop_within_s / 2)),
        )
    finally:
        end_within(settings.stop_within_s / 2)
        sink.stop()
        thread.join()
        keeper.stop()
        for each in (*questions, client):
            each.close()


def _reconnecting(settings: Settings, first: Client) -> Callable[[], Client]:
    """Returns ``first`` for chDB, which is in this process, and a new client for a server."""

    return lambda: first if is_embedded(settings) else _opened(settings)


def _token(settings: Settings) -> str:
    """A new token, in the file from which other processes of this machine read it."""
    path = token_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_urlsafe(24)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(token)
    return token


def _opened(settings: Settings) -> Client:
    client = connect(settings)
    client.database = settings.clickhouse_database
    return client


def _run_or_die(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception as error:
        fail_stop(error)
