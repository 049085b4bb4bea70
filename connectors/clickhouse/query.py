"""Queries ClickHouse, directly or through the process that holds it."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import httpx
import msgspec
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from connectors.clickhouse import kept_play
from connectors.clickhouse.client import connect, is_embedded
from connectors.clickhouse.erasure import Subject, erase
from connectors.clickhouse.questions import add_rows, ask, token_path
from connectors.clickhouse.rebuilding import Slice, rebuild
from connectors.local.stack import Running
from streams.errors import ClickHouseUnavailable, ConfigurationError, NotRunning, QueryFailed
from streams.settings import Settings

if TYPE_CHECKING:
    from polars import DataFrame

_T = TypeVar("_T")


def query(settings: Settings, sql: str, form: str = "table") -> str:
    """The result in a text format of :data:`connectors.clickhouse.questions.FORMATS`.

    chDB is queried through the sink while a stack runs on the data directory, and opened directly
    otherwise.
    """
    return query_bytes(settings, sql, form).decode()


def query_bytes(settings: Settings, sql: str, form: str, threads: int | None = None) -> bytes:
    """The result in any format of :data:`connectors.clickhouse.questions.FORMATS`, asked as by
    :func:`query`. ``threads``: the most that ClickHouse uses."""
    port = _sink_port(settings)
    if port is not None:
        parameters = {"format": form} | ({} if threads is None else {"threads": str(threads)})
        with _client_of_the_sink() as sink:
            return _post(sink, settings, port, "/sql?" + urlencode(parameters), sql.encode())
    with _opened(settings) as client:
        return ask(client, sql, form, threads=threads)


def query_rows(settings: Settings, sql: str) -> list[dict[str, Any]]:
    """The rows of a query by column; numbers with a fraction are ``Decimal``."""
    return _rows(query_bytes(settings, sql, "json"))


def query_frame(settings: Settings, sql: str, threads: int | None = None) -> "DataFrame":
    """The rows of a query as a Polars frame, for results of many rows."""
    from polars import read_ipc_stream

    return read_ipc_stream(BytesIO(query_bytes(settings, sql, "arrow", threads)))


def _rows(text: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text, parse_float=Decimal)["data"]
    return found


def insert(settings: Settings, table: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Adds rows to one of :data:`connectors.clickhouse.questions.WRITABLE`."""
    insert_lines(settings, table, b"\n".join(json.dumps(row).encode() for row in rows))


def insert_lines(settings: Settings, table: str, lines: bytes) -> None:
    """The same for rows that are written already: one JSON object a line."""
    port = _sink_port(settings)
    if port is not None:
        with _client_of_the_sink() as sink:
            _post(sink, settings, port, f"/rows?table={table}", lines)
        return
    with _opened(settings) as client:
        add_rows(client, table, lines)


def erase_player(settings: Settings, subject: Subject) -> dict[str, int]:
    """Erases a player from ClickHouse: see :func:`connectors.clickhouse.erasure.erase`."""
    work = partial(erase, subject=subject, cluster=settings.clickhouse_cluster)
    return _changed(settings, "/erase", subject, work, dict[str, int])


def rebuild_rounds(settings: Settings, wanted: Slice) -> dict[str, int]:
    """Rebuilds rounds: see :func:`connectors.clickhouse.rebuilding.rebuild`."""
    return _changed(settings, "/rebuild", wanted, partial(rebuild, wanted=wanted), dict[str, int])


def rebuild_kpis(settings: Settings) -> kept_play.Rebuilt:
    """Computes anew what is kept of KPIs: see :func:`connectors.clickhouse.kept_play.rebuild`."""
    settled_s = settings.kpis_settled_s
    work = partial(kept_play.rebuild, settled_s=settled_s)
    return _changed(settings, "/rebuild-kpis", settled_s, work, kept_play.Rebuilt)


def _changed(
    settings: Settings, path: str, wanted: object, work: Callable[[Client], _T], answer: type[_T]
) -> _T:
    """What ``work`` returns; the process that holds chDB, if there is one, does it for ``path``."""
    port = _sink_port(settings)
    if port is None:
        with _opened(settings) as client:
            return work(client)
    with _client_of_the_sink(_LONG_S) as sink:
        found = _post(sink, settings, port, path, msgspec.json.encode(wanted))
    return msgspec.json.decode(found, type=answer)


_LONG_S = 3600.0
"""An erasure may write the parts of every table anew; a rebuild reads all rounds some thirty times."""

_OUTAGES = {
    "159": "TIMEOUT_EXCEEDED",
    "202": "TOO_MANY_SIMULTANEOUS_QUERIES",
    "241": "MEMORY_LIMIT_EXCEEDED",
    "60": "UNKNOWN_TABLE",  # before the sink's first start
    "81": "UNKNOWN_DATABASE",
}
"""ClickHouse's errors that are no fault of the query, by code."""

_CODE = re.compile(r"Code: (\d+)")


class Reader:
    """Reads from a process that serves others: several threads may ask, and each question ends in time.

    chDB is asked through the sink's port and never opened here: the sink could not open it then. For a
    server, each thread keeps its own connection.
    """

    def __init__(self, settings: Settings, timeout_s: float) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._of_thread = threading.local()
        self._sink = _client_of_the_sink(timeout_s)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a query by column; numbers with a fraction are ``Decimal``.

        Raises :class:`ClickHouseUnavailable` if ClickHouse does not answer in time.
        """
        try:
            text = self._through_the_sink(sql) if is_embedded(self._settings) else self._by_thread(sql)
        except (ConfigurationError, OperationalError, OSError) as error:
            raise ClickHouseUnavailable(str(error)) from None
        except QueryFailed as error:
            code = _CODE.search(str(error))
            if code and code[1] in _OUTAGES:
                raise ClickHouseUnavailable(str(error)) from None
            raise
        return _rows(text)

    def _through_the_sink(self, sql: str) -> bytes:
        parameters = {"format": "json", "within_s": f"{self._timeout_s:g}"}
        port = self._settings.sql_port
        return _post(self._sink, self._settings, port, "/sql?" + urlencode(parameters), sql.encode())

    def _by_thread(self, sql: str) -> bytes:
        client: Client | None = getattr(self._of_thread, "client", None)
        if client is None:
            try:
                client = connect(self._settings, self._timeout_s)
            except ClickHouseError as error:
                raise ClickHouseUnavailable(str(error)) from None
            client.database = self._settings.clickhouse_database
            self._of_thread.client = client
        try:
            return ask(client, sql, "json", self._timeout_s)
        except ClickHouseError as error:
            self._of_thread.client = None  # the next question connects again
            client.close()
            if isinstance(error, OperationalError):
                raise
            raise QueryFailed(str(error)) from None


def _sink_port(settings: Settings) -> int | None:
    """The port of a running sink that holds chDB, which admits only one process; None if there is
    none.
    """
    if not is_embedded(settings):
        return None
    try:
        return Running(settings).sql_port
    except NotRunning:
        return None


@contextmanager
def _opened(settings: Settings) -> Iterator[Client]:
    try:
        client = connect(settings)
    except ClickHouseError as error:
        raise ClickHouseUnavailable(str(error)) from None
    client.database = settings.clickhouse_database
    try:
        yield client
    except ClickHouseError as error:
        raise QueryFailed(str(error)) from None
    finally:
        client.close()


def _client_of_the_sink(timeout_s: float = 300) -> httpx.Client:
    """A client of the sink's port, which closes idle connections before the sink does. It speaks plain
    HTTP on the loopback address, and reads no certificates: that would take 30 ms of CPU.
    """
    idle = httpx.Limits(keepalive_expiry=2)
    return httpx.Client(verify=False, timeout=timeout_s, limits=idle)  # noqa: S501


def _post(client: httpx.Client, settings: Settings, port: int, path: str, body: bytes) -> bytes:
    try:
        token = token_path(settings).read_text()
        answer = client.post(f"http://127.0.0.1:{port}{path}", headers={"x-token": token}, content=body)
    except httpx.HTTPError as error:
        raise ConfigurationError(f"the running stack's sink does not answer: {error}") from None
    if answer.status_code != 200:
        raise QueryFailed(answer.text.strip())
    return answer.content
