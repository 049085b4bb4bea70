"""A ClickHouse user that reads the rows of one tenant: row policies and grants.

The user's policies are restrictive: ClickHouse joins them to all others with AND, and no role, grant or
other policy takes them away. They stand on tables and on views. The views run with the rights of the
user who asks (``SQL SECURITY INVOKER``, ClickHouse's default), so the policies of the tables hold in
them. Everybody else keeps reading all rows: a permissive policy for all stands beside them, because
ClickHouse may be configured so that a table with policies shows nothing to users without one.

A user has grants for single tables and views, never for the database: what a later migration adds is
closed to the user until the grant is repeated.
"""

import hashlib
import re
import secrets
from pathlib import Path
from typing import NamedTuple

from clickhouse_connect.driver.client import Client

from connectors.clickhouse.cluster import SHARDED_BY, TABLE, VIEW
from connectors.clickhouse.literals import quoted
from connectors.clickhouse.migrate import HERE
from connectors.clickhouse.targets import EMPTY
from streams.errors import ConfigurationError

OF_ALL = frozenset(("rates",))
"""Tables without tenants' data, which every reader sees whole. No reader sees ``schema_migrations``."""

_OF_RUNS = "run_id IN (SELECT run_id FROM {database}.campaign_runs WHERE tenant = {tenant})"
_CONDITIONS = {"campaign_results": _OF_RUNS}
"""Conditions of tables whose rows are a tenant's, and do not name it; all others have the column
``tenant``. A column would have to be filled for stored rows by a mutation that joins two tables, which
replicated tables refuse; a tenant's runs are few."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_EVERYONE = "roundhouse_everyone"


class Policy(NamedTuple):
    """The condition that a reader's rows of a table or view fulfil; None without a policy on it."""

    relation: str
    condition: str | None


def tables() -> list[str]:
    """The tables of the migrations that store rows, on one node."""
    return [table for table in _named(TABLE) if table not in EMPTY]


def views() -> list[str]:
    """The views of the migrations."""
    return _named(VIEW)


def _named(pattern: re.Pattern[str]) -> list[str]:
    text = "\n".join(Path(path).read_text(encoding="utf-8") for path in sorted(HERE.glob("[0-9]*.sql")))
    return list(dict.fromkeys(pattern.findall(text)))


class Reader(NamedTuple):
    """A user who reads one tenant in a database, on one node or on all of a cluster."""

    user: str
    database: str
    cluster: str | None = None

    @classmethod
    def named(cls, user: str, database: str, cluster: str | None = None) -> "Reader":
        """A reader. Raises ``ConfigurationError`` for a name that would need quoting."""
        if not _NAME.fullmatch(user):
            raise ConfigurationError(
                f"user name {user!r}: use 1 to 64 letters, digits and _, no digit first"
            )
        return cls(user, database, cluster)

    @property
    def policy(self) -> str:
        """The name of the user's policies."""
        return f"roundhouse_reader_{self.user}"

    def policies(self, tenant: str) -> list[Policy]:
        """The user's condition on every table and view.

        On a cluster the tables of the shards have it, and the distributed tables over them none:
        ClickHouse 26.9 refuses every query of a distributed table with a row policy.
        """
        found = []
        for relation in [*tables(), *views()]:
            form = _CONDITIONS.get(relation, "tenant = {tenant}")
            condition = form.format(database=self.database, tenant=quoted(tenant))
            if self.cluster and relation in SHARDED_BY:
                found += [Policy(relation, None), Policy(f"{relation}_local", condition)]
            else:
                found.append(Policy(relation, None if relation in OF_ALL else condition))
        return found

    def granted(self, tenant: str) -> list[str]:
        """The statements that limit the user to a tenant, then let it read. They can be repeated."""
        found = []
        for relation, condition in self.policies(tenant):
            at = f"{self.database}.{relation}"
            if condition is not None:
                found.append(
                    f"CREATE ROW POLICY OR REPLACE {self.policy}{self._on()} ON {at} "
                    f"USING {condition} AS RESTRICTIVE TO {self.user}"
                )
                found.append(
                    f"CREATE ROW POLICY IF NOT EXISTS {_EVERYONE}{self._on()} ON {at} "
                    "USING 1 AS PERMISSIVE TO ALL"
                )
        for relation, _ in self.policies(tenant):
            found.append(f"GRANT{self._on()} SELECT ON {self.database}.{relation} TO {self.user}")
        return found

    def created(self, password: str) -> str:
        """The statement that makes the user; it holds a salted hash, not the password."""
        return f"CREATE USER {self.user}{self._on()} {_identified(password)}"

    def changed(self, password: str) -> str:
        """The statement that gives the user another password."""
        return f"ALTER USER {self.user}{self._on()} {_identified(password)}"

    def revoked(self) -> list[str]:
        """The statements that remove the user, then its policies. They can be repeated."""
        policies = [
            f"DROP ROW POLICY IF EXISTS {self.policy}{self._on()} ON {self.database}.{relation}"
            for relation, condition in self.policies("")
            if condition is not None
        ]
        return [f"DROP USER IF EXISTS {self.user}{self._on()}", *policies]

    def _on(self) -> str:
        return f" ON CLUSTER {self.cluster}" if self.cluster else ""


def _identified(password: str) -> str:
    salt = secrets.token_hex(16)
    digest = hashlib.sha256((password + salt).encode()).hexdigest()
    return f"IDENTIFIED WITH sha256_hash BY {quoted(digest)} SALT {quoted(salt)}"


def exists(client: Client, reader: Reader, tenant: str | None = None) -> bool:
    """Whether ClickHouse has the user. Raises ``ConfigurationError`` if the user was not made by
    :func:`grant`, or reads another tenant than ``tenant``."""
    if not client.query(f"SELECT 1 FROM system.users WHERE name = {quoted(reader.user)}").result_rows:
        return False
    filters = client.query(
        "SELECT select_filter FROM system.row_policies WHERE "
        f"database = {quoted(reader.database)} AND short_name = {quoted(reader.policy)} "
        f"AND `table` = 'campaign_runs' AND has(apply_to_list, {quoted(reader.user)})"
    ).result_rows
    if not filters:
        raise ConfigurationError(
            f"ClickHouse has a user {reader.user} that `roundhouse tenant grant` has not made, or not "
            "to its end: choose another name, DROP USER, or apply what `--print` shows by hand"
        )
    [(shown,)] = filters
    if tenant is not None and str(shown) != f"tenant = {quoted(tenant)}":
        raise ConfigurationError(
            f"the user {reader.user} reads another tenant ({shown}). A user reads one tenant: choose "
            "another name, or `roundhouse tenant revoke-user` first"
        )
    return True


def check_database(client: Client, database: str) -> None:
    """Raises ``ConfigurationError`` if views run with the rights of their maker, or if there are row
    policies that a policy for everyone would widen."""
    definers = client.query(
        f"SELECT name FROM system.tables WHERE database = {quoted(database)} AND engine = 'View' "
        "AND match(create_table_query, 'SQL SECURITY (DEFINER|NONE)') ORDER BY name"
    ).result_rows
    if definers:
        names = ", ".join(str(name) for (name,) in definers)
        raise ConfigurationError(
            f"views run with the rights of their maker, so row policies do not hold in them: {names}. "
            "`ALTER TABLE … MODIFY SQL SECURITY INVOKER` changes a view"
        )
    policies = client.query(
        f"SELECT name FROM system.row_policies WHERE database = {quoted(database)} "
        f"AND NOT is_restrictive AND short_name != {quoted(_EVERYONE)} ORDER BY name"
    ).result_rows
    if policies:
        names = ", ".join(str(name) for (name,) in policies)
        raise ConfigurationError(
            f"{database} has permissive row policies of its own, which `{_EVERYONE}` would widen: "
            f"{names}. Apply the statements that `--print` shows by hand, without that policy"
        )


def grant(client: Client, reader: Reader, tenant: str, password: str | None) -> None:
    """Makes the user, or brings its policies up to date. ``password``: None keeps that of a user who
    exists. Raises ``ConfigurationError``."""
    check_database(client, reader.database)
    there = exists(client, reader, tenant)
    if password is not None:
        client.command(reader.changed(password) if there else reader.created(password))
    for statement in reader.granted(tenant):
        client.command(statement)


def revoke(client: Client, reader: Reader) -> None:
    """Removes a user and its policies. Raises ``ConfigurationError`` for a user that :func:`grant` has
    not made."""
    exists(client, reader)
    for statement in reader.revoked():
        client.command(statement)


def seen_of_others(client: Client, reader: Reader, tenant: str) -> dict[str, int]:
    """The number of rows by table that the user, who asks with ``client``, sees of other tenants.

    The shards of a cluster count by themselves, so this also finds shards that are asked under another
    name than the user's. Raises ``ClickHouseError`` if the user may not read a table.
    """
    found = {}
    for relation in tables():
        if relation in OF_ALL:
            continue
        form = _CONDITIONS.get(relation, "tenant = {tenant}")
        condition = form.format(database=reader.database, tenant=quoted(tenant))
        sql = f"SELECT count() FROM {reader.database}.{relation} WHERE NOT ({condition})"
        [(rows,)] = client.query(sql).result_rows
        if rows:
            found[relation] = int(rows)
    return found
