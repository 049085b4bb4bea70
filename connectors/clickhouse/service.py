"""The sink process: the sink, and a loopback port for queries while it runs.

chDB admits one process to its directory, so other processes query through the process that holds
it. The port is read-only and requires the token in ``<data_dir>/sql-token``.
"""

import asyncio
import gc
import hmac
import logging
import os
import re
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

import uvicorn
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from connectors.clickhouse.client import connect, is_embedded
from connectors.clickhouse.metrics import SinkMetrics
from connectors.clickhouse.migrate import migrate
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

FORMATS = {
    "table": "PrettyCompactMonoBlock",
    "csv": "CSVWithNames",
    "tsv": "TabSeparatedWithNames",
    "json": "JSON",
}


_QUOTED_OR_COMMENT = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`|--[^\n]*|/\*.*?\*/""", re.DOTALL
)
_QUESTION = re.compile(r"\s*\(*\s*(?:select|with|show|describe|desc|explain|exists)\b", re.IGNORECASE)
_WRITES = re.compile(r";|\$|\binto\s+outfile\b|\bformat\b", re.IGNORECASE)


def ask(client: Client, query: str, form: str) -> str:
    """The result of a query, in one of :data:`FORMATS`.

    Raises ``ClickHouseError``, or :class:`NotReadOnly` for a statement that could write.
    ``readonly`` is set in the statement because chDB would otherwise keep it for the whole process.
    Only one thread at a time may query through a client.
    """
    if form not in FORMATS:
        raise NotReadOnly(f"format must be one of {', '.join(FORMATS)}")
    query = query.strip().rstrip(";")
    bare = _QUOTED_OR_COMMENT.sub(" ", query)
    if not _QUESTION.match(bare) or _WRITES.search(bare):
        raise NotReadOnly(
            "ask one question (SELECT, WITH, SHOW, DESCRIBE, EXPLAIN or EXISTS); the output format is "
            "chosen outside the query"
        )
    try:
        answer = client.raw_query(f"{query}\nFORMAT {FORMATS[form]} SETTINGS readonly = 1")
    except DatabaseError:
        # chDB 4.4 returns the partial output of a failed query before that of the client's next query
        client.raw_query("SELECT 1 FORMAT Null")
        raise
    return bytes(answer).decode()


WRITABLE = ("rates", "campaign_runs", "campaign_results", "replays")
"""Tables that commands write, not the sink."""


def add_rows(client: Client, table: str, lines: bytes) -> str:
    """Inserts rows, one JSON object a line, into one of :data:`WRITABLE`; the result is empty."""
    if table not in WRITABLE:
        raise NotReadOnly(f"{table} is not one of {', '.join(WRITABLE)}")
    client.raw_insert(table, insert_block=lines, fmt="JSONEachRow", settings={"async_insert": 0})
    return ""


def token_path(settings: Settings) -> Path:
    """The file of the token for the loopback port."""
    return settings.data_dir / "sql-token"


def create_app(client: Client, token: str) -> Starlette:
    """``POST /sql?format=…`` with the query as body, and ``POST /rows?table=…``."""
    asking = threading.Lock()

    def answer(query: bytes, form: str) -> str:
        with asking:
            return ask(client, query.decode(errors="replace"), form)

    async def answered(request: Request, work: Callable[[bytes], str]) -> Response:
        given = request.headers.get("x-token", "")
        if not hmac.compare_digest(given.encode(), token.encode()):
            return PlainTextResponse("wrong token\n", 403)
        try:
            return PlainTextResponse(await asyncio.to_thread(work, await request.body()))
        except (ClickHouseError, NotReadOnly) as error:
            return PlainTextResponse(f"{error}\n", 400)

    async def sql(request: Request) -> Response:
        form = request.query_params.get("format", "table")
        return await answered(request, lambda query: answer(query, form))

    async def add(request: Request) -> Response:
        table = request.query_params.get("table", "")
        return await answered(request, lambda body: add_rows(client, table, body))

    return Starlette(
        routes=[
            Route("/sql", sql, methods=["POST"]),
            Route("/rows", add, methods=["POST"]),
        ]
    )


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
    health.begin(sink, watch)
    watch.start()
    thread = threading.Thread(target=_run_or_die, args=(sink.run,), name="sink")
    thread.start()
    path = token_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_urlsafe(24)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(token)
    app = create_app(client, token)
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
        client.close()


def _reconnecting(settings: Settings, first: Client) -> Callable[[], Client]:
    """Returns ``first`` for chDB, which is in this process, and a new client for a server."""

    def open_client() -> Client:
        if is_embedded(settings):
            return first
        client = connect(settings)
        client.database = settings.clickhouse_database
        return client

    return open_client


def _run_or_die(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception as error:
        fail_stop(error)
