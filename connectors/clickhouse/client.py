"""Opens ClickHouse with one code path: ``chdb:///path`` in this process, or ``http(s)://`` to a
server.

chDB allows one process per directory: the sink holds it while the line runs, and other processes
query through the sink (:mod:`connectors.clickhouse.service`).
"""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from streams.errors import ConfigurationError
from streams.settings import Settings


def is_embedded(settings: Settings) -> bool:
    """Whether ClickHouse is chDB in a process of this machine."""
    return settings.clickhouse_url.startswith("chdb:")


def connect(settings: Settings) -> Client:
    """A client of the configured ClickHouse. Raises ``ClickHouseError`` if it does not answer."""
    dsn = settings.clickhouse_url
    scheme = urlsplit(dsn).scheme
    if scheme not in ("chdb", "http", "https"):
        raise ConfigurationError(
            f"ROUNDHOUSE_CLICKHOUSE_DSN begins with {scheme!r}; use chdb:///path or http(s)://host:port"
        )
    if scheme == "chdb":
        Path(dsn.removeprefix("chdb://")).mkdir(parents=True, exist_ok=True)
        try:
            return clickhouse_connect.get_client(dsn=dsn)
        except ClickHouseError as error:
            if "lock" in str(error).lower():
                raise ConfigurationError(
                    f"{dsn} is held by another process. chDB allows one: stop the running stack, or "
                    "ask it with `roundhouse sql`."
                ) from None
            raise
    # clickhouse-connect ignores the scheme: without this, an https server would be sent plain http
    more: dict[str, Any] = {"interface": scheme}
    if settings.clickhouse_ca_file:
        more["ca_cert"] = str(settings.clickhouse_ca_file)
    return clickhouse_connect.get_client(dsn=dsn, send_receive_timeout=120, **more)
