"""A cluster of two shards in this process, made from the rendered migrations: chDB's engine asks itself
for each shard, and a filter before ``FINAL`` leaves to each the rows that its sharding key gives it.

The tables are not replicated: chDB has no Keeper. ``python -m tests.connectors.clickhouse.shards
DIRECTORY`` prints what it found as JSON. It runs in a process of its own because chDB takes its
configuration once for a process.
"""

import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Hashable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chdb.session import Session

from connectors.campaigns.model.definition import Campaign, load
from connectors.campaigns.model.parts import Period
from connectors.campaigns.sql import compiler, together
from connectors.clickhouse.cluster import SETTINGS, SHARDED_BY, Cluster
from connectors.clickhouse.migrate import HERE, statements
from connectors.clickhouse.targets import EMPTY, TARGETS, Target

ROOT = Path(__file__).parent.parent.parent.parent
EXAMPLES = sorted((ROOT / "connectors" / "campaigns" / "examples").glob("*.yaml"))


def configuration(directory: Path, reader: Mapping[str, str]) -> Path:
    """The file of two clusters, of two shards and of one, and of the rows that each shard has.

    ``reader``: further conditions by table or view of the database ``two``.
    """
    shard = (
        "<shard><internal_replication>true</internal_replication>"
        "<replica><host>127.0.0.1</host><port>9000</port></replica></shard>"
    )
    conditions = dict(reader)
    for table, columns in SHARDED_BY.items():
        if table in EMPTY:
            continue
        of_shard = f"shardNum() = 1 + cityHash64({', '.join(columns)}) % 2"
        name = f"{table}_local"
        conditions[name] = f"{of_shard} AND {reader[name]}" if name in reader else of_shard
    filters = "".join(
        f"<{name}><filter>{condition}</filter></{name}>" for name, condition in conditions.items()
    )
    path = directory / "config.xml"
    path.write_text(
        f"<clickhouse><tcp_port>9000</tcp_port><remote_servers><two>{shard}{shard}</two>"
        f"<one>{shard}</one></remote_servers>"
        "<users><default><password></password><profile>default</profile><quota>default</quota>"
        f"<networks><ip>::/0</ip></networks><databases><two>{filters}</two></databases></default></users>"
        "<profiles><default><apply_row_policy_after_final>0</apply_row_policy_after_final></default></profiles><quotas><default></default></quotas>"
        f"<users_config>{path}</users_config></clickhouse>"
    )
    return path


def unreplicated(statement: str) -> str:
    """A rendered statement for one node without Keeper."""
    engine = r"ENGINE = ReplicatedReplacingMergeTree\('[^']*', '[^']*'(?:, (\w+))?\)"
    alone = re.sub(engine, lambda at: f"ENGINE = ReplacingMergeTree({at[1] or ''})", statement)
    alone = re.sub(r" ON CLUSTER \w+", "", alone)
    window = r"\bSETTINGS replicated_(deduplication_window = \d+)(, replicated_\w+ = \d+)?"
    return re.sub(window, r"SETTINGS non_replicated_\1", alone)


def value(name: str, kind: str) -> str | None:
    """An expression for a column, by its name or its type; None where its default will do."""
    named = {
        "tenant": "if(number % 3 = 0, 'b', 'a')",
        "player_id": "toString(number % 17)",
        "game_id": "toString(number % 5)",
        "batch_id": "toString(number % 23)",
        "round_id": "toString(intDiv(number, 3))",
        "event_id": "toString(number % 300)",
        "type": "if(number % 2 = 0, 'bet', 'win')",
        "direction": "if(number % 2 = 0, 'deposit', 'withdrawal')",
        "currency": "if(number % 4 = 0, 'USD', 'EUR')",
        "occurred_at": "toDateTime64('2026-03-02', 6, 'UTC') + toIntervalMinute(number)",
        "first_event_at": "toDateTime64('2026-03-02', 6, 'UTC') + toIntervalMinute(number)",
        "received_at": "toDateTime64('2026-03-02', 6, 'UTC') + toIntervalMinute(number)",
        "counts": "true",
        "provider": "toString(number % 4)",
        "mobile": "concat('+358 40 ', toString(1000000 + intDiv(number % 17, 3)))",
        "email": "concat('Player', toString(number % 17), '@Example.com')",
    }
    inner = re.sub(r"^(LowCardinality\(|Nullable\()+|\)+$", "", kind)
    typed = {
        "String": "toString(number % 13)",
        "Bool": "number % 2 = 0",
        "Decimal": "toDecimal128(number % 19 + 1, 18)",
        "Int": "number % 7",
        "UInt": "number % 7",
    }
    return named.get(name) or next((typed[each] for each in typed if inner.startswith(each)), None)


class Shards:
    """The tables of one node (database ``alone``) and of two shards (``two``), with the same rows."""

    def __init__(self, directory: Path, reader: Mapping[str, str] | None = None) -> None:
        config = configuration(directory, reader or {})
        opened: Any = Session(f"{directory}/data?config-file={config}")  # type: ignore[no-untyped-call]
        self.session: Any = opened
        for database in ("alone", "two"):
            self.session.query(f"CREATE DATABASE {database}")
            self.session.query(f"USE {database}")
            cluster = Cluster(database, database)
            for path in sorted(HERE.glob("[0-9]*.sql")):
                for statement in statements(path.read_text(), database):
                    rendered = [statement] if database == "alone" else cluster.rendered(statement)
                    for each in rendered:
                        self.session.query(unreplicated(each))
        for target in TARGETS.values():
            for block in (0, 1):
                self._fill(target, block)
        for database in ("alone", "two"):
            self.session.query(
                f"INSERT INTO {database}.rates (base, quote, day, rate, source, imported_at) "
                "VALUES ('USD', 'EUR', '2026-03-01', 0.9, 'x', '2026-03-01')"
            )
        for table in ("changed_days", "changed_tenants"):
            # the filters that divide the rows among the shards hide them from these materialized views
            self.session.query(f"INSERT INTO two.{table} SELECT * FROM alone.{table}")

    def _fill(self, target: Target, block: int) -> None:
        """Adds rows; those of block 1 replace half of block 0 and differ outside of the key."""
        table = target.table
        columns = json.loads(self.ask("alone", f"DESCRIBE TABLE {table}", "JSON"))["data"]
        given = {
            column["name"]: expression
            for column in columns
            if (expression := value(column["name"], column["type"]))
        }
        named = f"database = 'alone' AND name = '{target.stored}'"
        sql = f"SELECT sorting_key FROM system.tables WHERE {named}"
        key = self.ask("alone", sql).strip().split(", ")
        for name in given.keys() - set(key) if block else ():
            given[name] = given[name].replace("number", "(number + 1)")
        for at in (f"alone.{table}", f"two.{table}_local"):
            self.session.query(
                f"INSERT INTO {at} ({', '.join(given)}) SELECT {', '.join(given.values())} "
                f"FROM numbers({200 * block}, 400)"
            )

    def ask(self, database: str, sql: str, form: str = "TSV") -> str:
        """The answer to a query in one of the databases."""
        self.session.query(f"USE {database}")
        return str(self.session.query(sql, form))

    def answers(self, sql: str) -> tuple[list[str], list[str]]:
        """The sorted lines that one node and two shards answer."""
        settings = ", ".join(f"{name} = '{setting}'" for name, setting in SETTINGS.items())
        alone = self.ask("alone", sql)
        shards = self.ask("two", f"SELECT * FROM (\n{sql}\n) SETTINGS {settings}")
        return sorted(alone.splitlines()), sorted(shards.splitlines())


def questions() -> dict[str, str]:
    """Queries by name: every view, the documented ones, and campaigns alone and together."""
    text = "".join(path.read_text() for path in sorted(HERE.glob("[0-9]*.sql")))
    found = {}
    for view in re.findall(r"^CREATE OR REPLACE VIEW (\w+)", text, re.MULTILINE):
        between = "first = '2026-01-01', last = '2026-12-31'"
        arguments = {
            "kept_play_at": f"(grain = 'day', by = 'provider', reporting = 'EUR', {between})",
            "kpi_play_between": f"(grain = 'day', by = 'provider', reporting = 'EUR', {between})",
            "kpi_play": "(grain = 'day', by = 'provider', reporting = 'EUR')",
            "kpi_cash": "(grain = 'day', by = 'country', reporting = '')",
            "player_contacts_at": "(tenant = 'a', as_of = '2026-03-02 03:00:00')",
            "merged_players_at": "(tenant = 'a', as_of = '2026-03-02 03:00:00')",
        }
        columns = "tenant, period, arraySort(days), holds" if view == "kept_play_at" else "*"
        found[view] = f"SELECT {columns} FROM {view}{arguments.get(view, '')}"
    documented = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "analysts.md").read_text(), re.DOTALL)
    found |= {f"analysts.md {number}": sql for number, sql in enumerate(documented)}
    period = Period.model_validate(
        {"from": "2026-03-01T00:00:00", "to": "2026-04-01T00:00:00", "time_zone": "UTC"}
    )
    as_of = datetime(2026, 4, 2, tzinfo=UTC)
    groups: dict[Hashable, list[Campaign]] = defaultdict(list)
    for path in EXAMPLES:
        campaign = load(path).campaign.model_copy(update={"tenant": "a", "period": period})
        found[path.name] = compiler.left_out(campaign, as_of)
        if (alike := together.shared(campaign)) is not None:
            groups[alike].append(campaign)
    for group in groups.values():
        if len(group) > 1:
            names = ", ".join(campaign.name for campaign in group)
            found[names] = together.totals(group, as_of, merges=True, once=False)
    found["a subquery"] = (
        "SELECT count() FROM game_transactions_rows FINAL WHERE player_id IN "
        "(SELECT player_id FROM game_transactions_rows WHERE game_id = '1' AND type = 'bet')"
    )
    found["a right join"] = (
        "SELECT p.player_id, count() AS n, countIf(r.round_id = '') AS none FROM rounds AS r "
        "RIGHT JOIN players AS p ON p.tenant = r.tenant AND p.player_id = concat(r.player_id, '1') "
        "GROUP BY p.player_id"
    )
    return found


def main(directory: Path) -> None:
    """Prints which answers differ, which are empty, and how many rows are left of three blocks of ten
    of which the second has the token of the first."""
    shards = Shards(directory)
    differ, empty = [], []
    for name, sql in questions().items():
        alone, two = shards.answers(sql)
        differ += [name] if alone != two else []
        empty += [] if alone else [name]
    spread = shards.ask(
        "two", "SELECT shardNum() AS shard, count() FROM rounds_by_day_rows GROUP BY shard"
    )
    shards.session.query(
        "CREATE TABLE posted AS alone.logins_rows "
        "ENGINE = Distributed('one', 'alone', 'logins_rows', cityHash64(tenant, player_id))"
    )
    for token in ("first", "first", "second"):
        shards.session.query(
            "INSERT INTO posted (tenant, player_id) SELECT 'c', toString(number) FROM numbers(10) "
            f"SETTINGS insert_deduplication_token = '{token}', distributed_foreground_insert = 1"
        )
    kept = shards.ask("alone", "SELECT count() FROM logins_rows WHERE tenant = 'c'")
    print(
        json.dumps(
            {"differ": differ, "empty": empty, "shards": len(spread.split()) // 2, "kept": int(kept)}
        ),
        flush=True,
    )
    os._exit(0)  # chDB 4.4 does not end by itself when it has run distributed queries


if __name__ == "__main__":
    main(Path(sys.argv[1]))
