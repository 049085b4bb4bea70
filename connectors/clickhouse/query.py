"""Queries ClickHouse, directly or through the process that holds it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import httpx
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from connectors.clickhouse.client import connect, is_embedded
from connectors.clickhouse.service import add_rows, ask, token_path
from connectors.local.stack import Running
from streams.errors import ConfigurationError, NotRunning, QueryFailed
from streams.settings import Settings


def query(settings: Settings, sql: str, form: str = "table") -> str:
    """The result in a format of :data:`connectors.clickhouse.service.FORMATS`.

    chDB is queried through the sink while a stack runs on the data directory, and opened directly
    otherwise.
    """
    port = _sink_port(settings)
    if port is not None:
        return _post(settings, port, "/sql", {"format": form}, sql.encode())
    with _opened(settings) as client:
        return ask(client, sql, form)


def insert(settings: Settings, table: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Adds rows to one of :data:`connectors.clickhouse.service.WRITABLE`."""
    lines = b"\n".join(json.dumps(row).encode() for row in rows)
    port = _sink_port(settings)
    if port is not None:
        _post(settings, port, "/rows", {"table": table}, lines)
        return
    with _opened(settings) as client:
        add_rows(client, table, lines)


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
    client = connect(settings)
    client.database = settings.clickhouse_database
    try:
        yield client
    except ClickHouseError as error:
        raise QueryFailed(str(error)) from None
    finally:
        client.close()


def _post(settings: Settings, port: int, path: str, parameters: dict[str, str], body: bytes) -> str:
    try:
        answer = httpx.post(
            f"http://127.0.0.1:{port}{path}",
            params=parameters,
            headers={"x-token": token_path(settings).read_text()},
            content=body,
            timeout=300.0,
        )
    except httpx.HTTPError as error:
        raise ConfigurationError(f"the running stack's sink does not answer: {error}") from None
    if answer.status_code != 200:
        raise QueryFailed(answer.text.strip())
    return answer.text
