"""Reads two shards with the filters that ``roundhouse tenant grant`` renders for a cluster.

``python -m tests.connectors.clickhouse.sharded_reader DIRECTORY`` prints as JSON the tenants that each
table and view shows, and the number of rows of each table beside that of the tenant on one node.
"""

import json
import os
import sys
from pathlib import Path

from connectors.clickhouse.cluster import SHARDED_BY
from connectors.clickhouse.targets import EMPTY
from connectors.clickhouse.tenant_access import Reader, views
from tests.connectors.clickhouse.shards import Shards
from tests.connectors.clickhouse.tenant_reader import PARAMETERS


def main(directory: Path) -> None:
    """Prints what the reader of tenant a sees."""
    policies = Reader.named("ann", "two", "two").policies("a")
    shards = Shards(directory, {name: condition for name, condition in policies if condition})
    seen, rows = {}, {}
    for table in sorted(SHARDED_BY.keys() - EMPTY):
        _, found = shards.answers(f"SELECT tenant FROM {table} FINAL GROUP BY tenant")
        seen[table] = found
        _, [counted] = shards.answers(f"SELECT count() FROM {table} FINAL")
        due = shards.ask("alone", f"SELECT count() FROM {table} FINAL WHERE tenant = 'a'")
        rows[table] = [int(counted), int(due)]
    for view in views():
        if not view.startswith("campaign"):
            sql = f"SELECT tenant FROM {view}{PARAMETERS.get(view, '')} GROUP BY tenant"
            seen[view] = shards.answers(sql)[1]
    print(json.dumps({"seen": seen, "rows": rows}), flush=True)
    os._exit(0)  # chDB 4.4 does not end by itself when it has run distributed queries


if __name__ == "__main__":
    main(Path(sys.argv[1]))
