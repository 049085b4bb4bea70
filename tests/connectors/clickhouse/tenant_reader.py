"""Reads a database as the user that ``roundhouse tenant grant`` renders, in chDB.

chDB has no storage for users, so its only user gets the rendered filters and grants through a
configuration file. ``python -m tests.connectors.clickhouse.tenant_reader DIRECTORY`` prints as JSON
what the user may read and sees. It runs in a process of its own: chDB takes its configuration once.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from chdb.session import Session

from connectors.clickhouse.tenant_access import Reader, tables, views

DATABASE, TENANT = "roundhouse", "a"
POLICY = re.compile(
    r"CREATE ROW POLICY OR REPLACE \w+ ON (\w+)\.(\w+) USING (.*) AS RESTRICTIVE TO ann"
)
BETWEEN = (
    "(grain = 'day', by = 'country', reporting = 'EUR', first = '2020-01-01', last = '2030-01-01')"
)
PARAMETERS = {
    "kpi_play_between": BETWEEN,
    "kept_play_at": BETWEEN,
    "kpi_play": "(grain = 'day', by = 'country', reporting = 'EUR')",
    "kpi_cash": "(grain = 'day', by = 'country', reporting = '')",
    "player_contacts_at": "(tenant = '', as_of = '2026-12-31 00:00:00')",
    "merged_players_at": "(tenant = '', as_of = '2026-12-31 00:00:00')",
}


def configuration(directory: Path) -> Path:
    """The file of a user with the rendered filters and grants."""
    statements = Reader.named("ann", DATABASE).granted(TENANT)
    policies = [found for text in statements if (found := POLICY.fullmatch(text))]
    filters = "".join(f"<{at[2]}><filter>{at[3]}</filter></{at[2]}>" for at in policies)
    grants = "".join(
        f"<query>{text.removesuffix(' TO ann')}</query>"
        for text in statements
        if text.startswith("GRANT")
    )
    path = directory / "config.xml"
    path.write_text(
        "<clickhouse><users><default><password></password><profile>default</profile>"
        "<quota>default</quota><networks><ip>::/0</ip></networks>"
        f"<grants>{grants}</grants><databases><{DATABASE}>{filters}</{DATABASE}></databases>"
        "</default></users><profiles><default/></profiles><quotas><default></default></quotas>"
        f"<users_config>{path}</users_config></clickhouse>"
    )
    return path


def main(directory: Path) -> None:
    """Prints the tenants that the user sees in each table and view, and the refused statements."""
    config = configuration(directory)
    session: Any = Session(f"{directory}/data?config-file={config}")  # type: ignore[no-untyped-call]

    def asked(sql: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(str(session.query(sql, "JSON")))["data"]
        return found

    seen = {}
    for relation in [*tables(), *views()]:
        final = " FINAL" if relation.endswith("_rows") else ""
        column = {"rates": "base", "campaign_results": "player_id"}.get(relation, "tenant")
        rows = asked(
            f"SELECT {column} AS one FROM {DATABASE}.{relation}{PARAMETERS.get(relation, '')}{final} "
            "GROUP BY one ORDER BY one"
        )
        seen[relation] = [row["one"] for row in rows]
    merged = f"SELECT DISTINCT tenant AS one FROM merge('{DATABASE}', '^(rounds|payments)_rows$')"
    seen["the table function merge"] = [row["one"] for row in asked(merged)]
    refused = []
    for sql in (
        f"SELECT * FROM {DATABASE}.schema_migrations",
        f"INSERT INTO {DATABASE}.rates (base) SELECT 'x'",
        f"CREATE VIEW {DATABASE}.mine AS SELECT 1",
    ):
        try:
            session.query(sql)
        except RuntimeError as error:
            refused += [sql] if "ACCESS_DENIED" in str(error) else []
    print(json.dumps({"seen": seen, "refused": len(refused)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
