"""Renders the migrations for a ClickHouse cluster: replicated tables, and distributed tables over them.

The files in ``migrations/`` are the only source of tables and views. On a cluster

- a table of events becomes ``<table>_local``, replicated within each shard, and a ``Distributed`` table
  of the plain name. Its sharding key is part of the replacing key, so all rows that replace each other
  stand on one shard: ``FINAL`` is done by each shard alone and is exact;
- a materialized view reads and fills tables of its own shard, so both must have the same sharding key;
- a small table (:data:`SHARED`) has its rows on every node under its plain name;
- a view stays as it is. It reads the distributed tables, so the node that is asked finishes groups,
  joins and windows over the rows of all shards.

The sink inserts through the distributed tables. The shard of a row follows from the row alone; the
partition of Kafka would not do, because ``roundhouse repartition`` changes it and later revisions of a
row would go to another shard. ClickHouse cuts a block by shard and hands each piece to its shard with
the block's token. A block that is inserted again after a partial failure is cut the same way, so the
shards that have their piece skip it.
"""

import re
from typing import NamedTuple

from clickhouse_connect.driver.client import Client

from connectors.clickhouse.literals import quoted
from streams.errors import ConfigurationError

BY_PLAYER = "tenant", "player_id"

SHARDED_BY = {
    "game_transactions_rows": BY_PLAYER,
    "payments_rows": BY_PLAYER,
    "player_events_rows": BY_PLAYER,
    "game_events_rows": ("tenant", "game_id"),
    "logins_rows": BY_PLAYER,
    "sports_bets_rows": BY_PLAYER,
    "custom_events_rows": BY_PLAYER,
    "rounds_rows": BY_PLAYER,
    "rounds_by_day_rows": BY_PLAYER,
    "rejects_rows": ("tenant", "reject_id"),
    "outcomes_rows": ("tenant", "batch_id"),
    "awards_rows": BY_PLAYER,
    "settlements_rows": ("tenant", "campaign"),
}
"""The columns that determine the shard of a row. A table of events never changes them: the rows that
stand in it would be on other shards than their later revisions."""

SHARED = frozenset(
    (
        "schema_migrations",
        "rates",
        "campaign_runs",
        "campaign_results",
        "replays",
        "corrections",
        "erasures",
        "merge_corrections",
        "changed_days",
        "changed_tenants",
        "kept_play",
    )
)
"""Tables with all rows on every node."""

SETTINGS: dict[str, str | int] = {
    # an insert ends when the shards have the rows, not when the node that was asked has queued them
    "distributed_foreground_insert": 1,
    # of each shard's replicas more than half have the rows before the sink commits the offsets
    "insert_quorum": "auto",
    # a subquery over a distributed table within another one is sent to all shards with all of its rows
    "distributed_product_mode": "global",
    # shorter than the client's own timeout, which would hide the name of the node that does not answer
    "distributed_ddl_task_timeout": 60,
}
"""Settings of every connection to a cluster."""

TABLE = re.compile(r"^CREATE TABLE IF NOT EXISTS (\w+)", re.MULTILINE)
VIEW = re.compile(r"^CREATE OR REPLACE VIEW (\w+)", re.MULTILINE)
_MATERIALIZED = re.compile(
    r"^CREATE MATERIALIZED VIEW IF NOT EXISTS (\w+) TO (\w+) AS\n(.*\nFROM )(\w+)(.*)\Z",
    re.MULTILINE | re.DOTALL,
)
_DROP = re.compile(r"^DROP TABLE IF EXISTS (\w+)$", re.MULTILINE)
_INSERT = re.compile(r"^INSERT INTO (\w+)(?: [^\n]*)?\nSELECT", re.MULTILINE)
_ALTER = re.compile(r"^ALTER TABLE (\w+)", re.MULTILINE)
_MUTATION = re.compile(r"^ALTER TABLE \w+ (?:DELETE WHERE|UPDATE) ")
_ENGINE = re.compile(r"(?<=[\n ])ENGINE = ReplacingMergeTree(?:\((\w+)\))?(?=[\n ])")
_STORES_NOTHING = "\nENGINE = Null\n"
_WINDOW = re.compile(r"^SETTINGS non_replicated_deduplication_window = (\d+)$", re.MULTILINE)
_COMMENT = re.compile(r"\n(?=COMMENT ')|\Z")
_WINDOW_S = 604_800


class Cluster(NamedTuple):
    """A cluster by its name in ClickHouse's ``remote_servers``, and the database of all tables."""

    name: str
    database: str

    def rendered(self, statement: str) -> list[str]:
        """The statements that do on the cluster what a statement of a migration does on one node.

        Raises ``ValueError`` for a form of statement or a table that this module does not know.
        """
        if found := TABLE.search(statement):
            return self._tables(statement, found[1])
        if found := VIEW.search(statement):
            return [self._everywhere(statement, found)]
        if found := _ALTER.search(statement):
            return self._altered(statement, found)
        if found := _MATERIALIZED.search(statement):
            return [self._materialized(*found.groups())]
        if (found := _DROP.search(statement)) and found[1] in SHARDED_BY:
            return [f"DROP TABLE IF EXISTS {self.database}.{found[1]}_local {self._on()} SYNC"]
        if (found := _INSERT.search(statement)) and found[1] in SHARDED_BY.keys() | SHARED:
            return [statement]  # a distributed table hands the rows to their shards
        raise ValueError(f"no form for a cluster: {statement[:80]!r}")

    def _tables(self, statement: str, table: str) -> list[str]:
        if table in SHARED:
            # the same rates may be imported again after others: no block is skipped here
            windowed = _COMMENT.sub(
                "\nSETTINGS replicated_deduplication_window = 0\n", statement, count=1
            )
            return [self._replicated(windowed, table, "all", "{shard}-{replica}")]
        if table not in SHARDED_BY:
            raise ValueError(f"{table} is neither in SHARDED_BY nor in SHARED")
        if _STORES_NOTHING in statement:
            head = f"CREATE TABLE IF NOT EXISTS {self.database}.{table}_local {self._on()}"
            return [_once(TABLE, head, statement), self._distributed(statement, table)]
        settings = (
            r"SETTINGS replicated_deduplication_window = \1, "
            f"replicated_deduplication_window_seconds = {_WINDOW_S}"
        )
        local = self._replicated(
            _once(_WINDOW, settings, statement), f"{table}_local", "{shard}", "{replica}"
        )
        return [local, self._distributed(statement, table)]

    def _distributed(self, statement: str, table: str) -> str:
        columns = ", ".join(SHARDED_BY[table])
        comment = statement[statement.rindex("\nCOMMENT '") + 1 :]
        return (
            f"CREATE TABLE IF NOT EXISTS {self.database}.{table} {self._on()} "
            f"AS {self.database}.{table}_local\n"
            f"ENGINE = Distributed({quoted(self.name)}, {quoted(self.database)}, "
            f"{quoted(f'{table}_local')}, cityHash64({columns}))\n{comment}"
        )

    def _materialized(self, view: str, target: str, select: str, source: str, rest: str) -> str:
        at = self.database
        local = {name: f"{name}_local" if name in SHARDED_BY else name for name in (target, source)}
        return (
            f"CREATE MATERIALIZED VIEW IF NOT EXISTS {at}.{view} {self._on()} "
            f"TO {at}.{local[target]} AS\n{select}{at}.{local[source]}{rest}"
        )

    def _replicated(self, statement: str, table: str, shard: str, replica: str) -> str:
        version = _ENGINE.search(statement)
        more = f", {version[1]}" if version and version[1] else ""
        path = f"/clickhouse/tables/{shard}/{{database}}/{{table}}"
        engine = f"ENGINE = ReplicatedReplacingMergeTree('{path}', '{replica}'{more})"
        head = f"CREATE TABLE IF NOT EXISTS {self.database}.{table} {self._on()}"
        return _once(TABLE, head, _once(_ENGINE, engine, statement))

    def _altered(self, statement: str, found: re.Match[str]) -> list[str]:
        table, settings_only = found[1], "MODIFY SETTING" in statement
        # a distributed table has no indexes, and no rows of its own
        local_only = settings_only or "ADD INDEX" in statement or _MUTATION.search(statement)
        if table in SHARED:
            # the replicas take a change of columns from one another, but not one of settings
            return [self._everywhere(statement, found)] if settings_only else [statement]
        if table not in SHARDED_BY:
            return [self._everywhere(statement, found)]  # a view
        local = self._everywhere(statement, found, "_local")
        return [local] if local_only else [local, self._everywhere(statement, found)]

    def _everywhere(self, statement: str, found: re.Match[str], suffix: str = "") -> str:
        words = found[0].removesuffix(found[1])
        name = f"{words}{self.database}.{found[1]}{suffix} {self._on()}"
        return statement[: found.start()] + name + statement[found.end() :]

    def _on(self) -> str:
        return f"ON CLUSTER {self.name}"

    def database_statement(self) -> str:
        """The statement that makes the database on every node."""
        return f"CREATE DATABASE IF NOT EXISTS {self.database} {self._on()}"

    def check(self, client: Client) -> None:
        """Raises ``ConfigurationError`` if ClickHouse does not know the cluster, or would write each
        row to every replica by itself."""
        rows = client.query(
            "SELECT min(internal_replication) FROM system.clusters "
            f"WHERE cluster = {quoted(self.name)} HAVING count() > 0"
        ).result_rows
        if not rows:
            raise ConfigurationError(
                f"ROUNDHOUSE_CLICKHOUSE_CLUSTER: ClickHouse has no cluster {self.name}. Add it to "
                "`remote_servers` in the configuration of every node."
            )
        if not rows[0][0]:
            raise ConfigurationError(
                f"ROUNDHOUSE_CLICKHOUSE_CLUSTER: a shard of {self.name} has no "
                "`<internal_replication>true</internal_replication>`: ClickHouse would insert each row "
                "once for each replica. Set it on every node."
            )


def _once(pattern: re.Pattern[str], replacement: str, text: str) -> str:
    found, count = pattern.subn(replacement, text)
    if count != 1:
        raise ValueError(f"{count} times {pattern.pattern!r} instead of once in {text[:80]!r}")
    return found
