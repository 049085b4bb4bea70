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

from connectors.clickhouse.cluster import SETTINGS as CLUSTER_SETTINGS
from streams.errors import ConfigurationError
from streams.settings import Settings

_HELD = "Error initializing EmbeddedServer"
"""What chDB 4.4 raises for a directory that another process holds; it prints the reason itself."""


def is_embedded(settings: Settings) -> bool:
    """Whether ClickHouse is chDB in a process of this machine."""
    return settings.clickhouse_url.startswith("chdb:")


def connect(settings: Settings, timeout_s: float = 120) -> Client:
    """A client of the configured ClickHouse, with the settings of a cluster if one is configured.

    ``timeout_s`` is the longest silence of a server.

    Raises ``ClickHouseError`` if it does not answer.
    """
    dsn = settings.clickhouse_url
    scheme = urlsplit(dsn).scheme
    if scheme not in ("chdb", "http", "https"):
        raise ConfigurationError(
            f"ROUNDHOUSE_CLICKHOUSE_DSN begins with {scheme!r}; use chdb:///path or http(s)://host:port"
        )
    if scheme == "chdb" and settings.clickhouse_cluster:
        raise ConfigurationError(
            "ROUNDHOUSE_CLICKHOUSE_CLUSTER needs a server: chDB is one node. Set "
            "ROUNDHOUSE_CLICKHOUSE_DSN to http(s)://host:port of a node of the cluster, or leave the "
            "cluster out."
        )
    if scheme == "chdb":
        Path(dsn.removeprefix("chdb://")).mkdir(parents=True, exist_ok=True)
        try:
            return clickhouse_connect.get_client(dsn=dsn)
        except ClickHouseError as error:
            if _HELD not in str(error):
                raise
            raise ConfigurationError(
                f"{dsn} cannot be opened: another process holds it, or its files are not of chDB. chDB "
                "allows one process: stop the running stack, or ask it with `roundhouse sql`."
            ) from None
    # clickhouse-connect ignores the scheme: without this, an https server would be sent plain http
    more: dict[str, Any] = {"interface": scheme}
    if settings.clickhouse_cluster:
        more["settings"] = CLUSTER_SETTINGS
    if settings.clickhouse_ca_file:
        more["ca_cert"] = str(settings.clickhouse_ca_file)
    return clickhouse_connect.get_client(
        dsn=dsn, connect_timeout=min(10, timeout_s), send_receive_timeout=timeout_s, **more
    )
