"""Checks of ClickHouse: whether it answers, its version, its schema, its clock."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from clickhouse_connect.driver.exceptions import ClickHouseError

from connectors.clickhouse import migrate
from connectors.doctor.findings import Finding, error, ok, warning
from streams.errors import RoundhouseError

OLDEST_TRIED = (25, 8)
"""The oldest release of ClickHouse's engine on which the migrations were tested."""

SKEW_S_MAX = 2.0


Ask = Callable[[str], str]
"""The answer to a query, in ClickHouse's format JSON."""


def check_clickhouse(database: str, ask: Ask) -> Iterator[Finding]:
    """All checks of ClickHouse; only the first if ClickHouse does not answer."""
    try:
        before = time.time()
        text = ask("SELECT version() AS version, toFloat64(now64(6)) AS now")
        now = (before + time.time()) / 2
    except (RoundhouseError, ClickHouseError, OSError) as problem:
        yield error(
            "clickhouse",
            f"ClickHouse does not answer: {problem}",
            "Start it, or correct ROUNDHOUSE_CLICKHOUSE_DSN and ROUNDHOUSE_CLICKHOUSE_CA_FILE.",
        )
        return
    [answer] = json.loads(text)["data"]
    yield version_finding(answer["version"])
    yield clock_finding(float(answer["now"]) - now)
    yield from _check_schema(database, ask)


def version_finding(version: str) -> Finding:
    """The finding for the server's version, like ``25.8.2.29``."""
    release = tuple(int(part) for part in version.split(".")[:2])
    if release < OLDEST_TRIED:
        oldest = ".".join(map(str, OLDEST_TRIED))
        return warning(
            "clickhouse.version",
            f"ClickHouse {version} is older than the oldest tested release ({oldest})",
            f"Upgrade ClickHouse to {oldest} or newer.",
        )
    return ok("clickhouse.version", f"ClickHouse {version}")


def clock_finding(ahead_s: float) -> Finding:
    """The finding for the difference between ClickHouse's clock and this machine's."""
    if abs(ahead_s) > SKEW_S_MAX:
        return warning(
            "clickhouse.clock",
            f"ClickHouse's clock differs from this machine's by {ahead_s:+.1f} s",
            "Run NTP on both machines: latencies and `as of` results depend on their clocks.",
        )
    return ok("clickhouse.clock", f"ClickHouse's clock differs by {ahead_s:+.3f} s")


def _check_schema(database: str, ask: Ask) -> Iterator[Finding]:
    try:
        text = ask(f"SELECT name, sha256 FROM {database}.schema_migrations FINAL")
    except (RoundhouseError, ClickHouseError) as problem:
        yield error(
            "clickhouse.schema",
            f"the schema of database {database} cannot be read: {problem}",
            "`roundhouse migrate` makes it (the sink does so when it starts). If it exists, "
            "grant SELECT on it to the user of ROUNDHOUSE_CLICKHOUSE_DSN.",
        )
        return
    applied = {row["name"]: row["sha256"] for row in json.loads(text)["data"]}
    yield schema_finding(applied)


def schema_finding(applied: Mapping[str, str], directory: Path = migrate.HERE) -> Finding:
    """The finding for the applied migrations (name to SHA-256), compared with those of this version."""
    shipped = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.glob("[0-9]*.sql")
    }
    if changed := sorted(name for name in applied if shipped.get(name, applied[name]) != applied[name]):
        return error(
            "clickhouse.schema",
            f"migrations were applied in another form than this version has: {', '.join(changed)}",
            "Deploy the version that applied them; migrations are added, never changed.",
        )
    if newer := sorted(applied.keys() - shipped.keys()):
        return warning(
            "clickhouse.schema",
            f"a newer version has migrated ClickHouse: {', '.join(newer)}",
            "Deploy that version here too.",
        )
    if missing := sorted(shipped.keys() - applied.keys()):
        return error(
            "clickhouse.schema",
            f"migrations are not applied: {', '.join(missing)}",
            "`roundhouse migrate`, or restart the sink, which does so when it starts.",
        )
    return ok("clickhouse.schema", f"{len(applied)} migrations applied")
