"""Schema migrations: numbered SQL files, applied once each, in order."""

import hashlib
from collections import defaultdict
from pathlib import Path

from clickhouse_connect.driver.client import Client

from connectors.clickhouse.cluster import Cluster
from connectors.clickhouse.literals import quoted
from streams.errors import ConfigurationError

HERE = Path(__file__).parent / "migrations"


_MIGRATIONS = (
    "CREATE TABLE IF NOT EXISTS schema_migrations "
    "(name String, sha256 String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3)) "
    "ENGINE = ReplacingMergeTree ORDER BY name"
)


def migrate(
    client: Client, database: str, directory: Path = HERE, cluster: str | None = None
) -> list[str]:
    """Applies the missing migrations and returns their names; ``client`` then uses ``database``.

    ``cluster``: the cluster on whose nodes all tables are made. Every statement can be repeated, so an
    interrupted run is simply repeated. Raises ``ConfigurationError`` if an applied file was changed, or
    if the database was made with another setting of the cluster.
    """
    nodes = Cluster(cluster, database) if cluster else None
    if nodes:
        nodes.check(client)
    _check_made_alike(client, database, nodes)
    client.command(nodes.database_statement() if nodes else f"CREATE DATABASE IF NOT EXISTS {database}")
    client.database = database
    for statement in _rendered(_MIGRATIONS, nodes):
        client.command(statement)
    rows = client.query("SELECT name, sha256 FROM schema_migrations FINAL").result_rows
    applied = {str(name): str(digest) for name, digest in rows}
    done = []
    for path in sorted(directory.glob("[0-9]*.sql")):
        text = path.read_text(encoding="utf-8")
        digest = hashlib.sha256(text.encode()).hexdigest()
        if path.name in applied:
            if applied[path.name] != digest:
                raise ConfigurationError(
                    f"migration {path.name} was changed after it was applied; add a new file instead"
                )
            continue
        for statement in statements(text, database):
            for each in _rendered(statement, nodes):
                client.command(each)
        client.command(f"INSERT INTO schema_migrations (name, sha256) SELECT '{path.name}', '{digest}'")
        done.append(path.name)
    if done:
        _comment_views(client, nodes)
    return done


def _rendered(statement: str, nodes: Cluster | None) -> list[str]:
    return nodes.rendered(statement) if nodes else [statement]


def _check_made_alike(client: Client, database: str, nodes: Cluster | None) -> None:
    rows = client.query(
        "SELECT engine FROM system.tables "
        f"WHERE database = {quoted(database)} AND name = 'schema_migrations'"
    ).result_rows
    if rows and str(rows[0][0]).startswith("Replicated") != bool(nodes):
        made = "without" if nodes else "with"
        raise ConfigurationError(
            f"the tables of {database} were made {made} ROUNDHOUSE_CLICKHOUSE_CLUSTER. Set it as it "
            "was, or choose a new ROUNDHOUSE_CLICKHOUSE_DATABASE."
        )


_UNCOMMENTED = """
SELECT v.table AS view, v.name AS column, s.comment AS comment
FROM system.columns AS v
INNER JOIN system.columns AS s
    ON s.database = v.database AND s.name = v.name
    AND s.table = transform(
        v.table,
        ['players', 'persons', 'rounds_by_person', 'games', 'reconciliation'],
        ['player_events_rows', 'player_events_rows', 'rounds_rows', 'game_events_rows', 'accounting'],
        concat(v.table, '_rows')
    )
WHERE v.database = currentDatabase() AND v.comment = '' AND s.comment != ''
ORDER BY v.table, v.position
"""


def _comment_views(client: Client, nodes: Cluster | None) -> None:
    """Copies comments to the columns that a view takes over from its source."""
    found: dict[str, list[str]] = defaultdict(list)
    for view, column, comment in client.query(_UNCOMMENTED).result_rows:
        found[str(view)].append(f"COMMENT COLUMN `{column}` {quoted(str(comment))}")
    for view, comments in found.items():
        for each in _rendered(f"ALTER TABLE {view} {', '.join(comments)}", nodes):
            client.command(each)


def statements(text: str, database: str) -> list[str]:
    """The statements of a file: each ends with a semicolon at the end of a line.

    ``$database`` in the file stands for the database. ClickHouse stores a view with the databases of
    the tables and views in it, but not with that of a view with parameters, which it would then look
    for in the database of the user who asks.
    """
    named = text.replace("$database", database)
    parts = (part.strip() for part in (named + "\n").split(";\n"))
    return [part for part in parts if part]
