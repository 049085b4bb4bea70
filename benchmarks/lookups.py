"""What an operator's question reads in a large table with and without skip indexes, and their cost.

``python -m benchmarks.lookups --rows 3000000``. The table of game transactions is filled in blocks as
the sink fills it, once for each set of indexes, in chDB, in a process of its own each. A batch has 300
bets of 300 players; a question asks for an old batch (of the first tenth), the newest one, or an id.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import connect
from connectors.clickhouse.migrate import migrate
from streams.settings import Settings

BLOCK = 50_000
BATCH = 300
PLAYERS = 100_000
TENANTS = 2
TABLE = "game_transactions_rows"

INDEXES: dict[str, list[str]] = {
    "none": [],
    "batch": ["by_batch batch_id TYPE bloom_filter(0.01) GRANULARITY 1"],
    "receipt": ["by_receipt received_at TYPE minmax GRANULARITY 1"],
    "event": ["by_event event_id TYPE bloom_filter(0.01) GRANULARITY 1"],
    "batch and event": [
        "by_batch batch_id TYPE bloom_filter(0.01) GRANULARITY 1",
        "by_event event_id TYPE bloom_filter(0.01) GRANULARITY 1",
    ],
}


def block_sql(first: int) -> str:
    """An insert of one block; ids are as random as UUIDs, and the players of a batch too."""
    batch = f"intDiv(number, {BATCH})"
    batch_id, event_id = (f"lower(hex(sipHash128({each})))" for each in (batch, "number, 7"))
    return (
        "INSERT INTO generated (tenant, source, batch_id, received_at, counts, position, source_event, "
        "event_id, occurred_at, player_id, round_id, game_id, type, amount, bonus_amount, currency) "
        f"SELECT concat('tenant-', toString({batch} % {TENANTS})), 'native', "
        f"{batch_id}, toDateTime64('2026-03-01', 6, 'UTC') + {batch} / 100, true, "
        f"number % {BATCH}, 'gameround', {event_id}, "
        f"toDateTime64('2026-03-01', 6, 'UTC') + {batch} / 100, "
        f"concat('player-', toString(cityHash64(number) % {PLAYERS})), "
        f"concat('round-', toString(cityHash64(intDiv(number, 2)) % 1000000007)), "
        f"concat('game-', toString(cityHash64(number, 1) % 200)), if(number % 3 = 0, 'win', 'bet'), "
        f"toDecimal128(cityHash64(number, 2) % 10000 / 100, 18), 0, 'EUR' "
        f"FROM numbers({first}, {BLOCK})"
    )


def question(client: Client, where: str) -> dict[str, float]:
    """Rows, bytes and milliseconds of a lookup: the median of five after one.

    ClickHouse's cache of conditions is off: a question is rarely asked again.
    """
    sql = (
        f"SELECT groupUniqArray(position) AS positions FROM {TABLE} WHERE {where} "
        "FORMAT JSON SETTINGS use_query_condition_cache = 0"
    )
    runs = [json.loads(client.raw_query(sql))["statistics"] for _ in range(6)][1:]
    return {
        "rows_read": runs[0]["rows_read"],
        "bytes_read": runs[0]["bytes_read"],
        "ms": round(statistics.median(run["elapsed"] for run in runs) * 1000, 1),
    }


def measure(name: str, rows: int, home: Path) -> dict[str, Any]:
    """Fills a table with a set of indexes, and asks it."""
    client = connect(Settings(data_dir=home))
    migrate(client, "bench")
    existing = client.query(
        f"SELECT name FROM system.data_skipping_indices WHERE database = 'bench' AND table = '{TABLE}'"
    ).result_rows
    for (index,) in existing:
        client.command(f"ALTER TABLE {TABLE} DROP INDEX {index}")
    for index in INDEXES[name]:
        client.command(f"ALTER TABLE {TABLE} ADD INDEX {index}")
    client.command(f"CREATE TABLE generated AS {TABLE} ENGINE = Memory")
    cpu = resource.getrusage(resource.RUSAGE_SELF)
    inserts = []
    for first in range(0, rows, BLOCK):
        client.command("TRUNCATE TABLE generated")
        client.command(block_sql(first))
        start = time.monotonic()
        client.command(f"INSERT INTO {TABLE} SELECT * FROM generated")
        inserts.append(time.monotonic() - start)
    found = {"filling": questions(client, rows)}
    start = time.monotonic()
    client.command(f"OPTIMIZE TABLE {TABLE} FINAL")
    merged = time.monotonic()
    after = resource.getrusage(resource.RUSAGE_SELF)
    size = client.query(
        "SELECT sum(bytes_on_disk), sum(secondary_indices_compressed_bytes) FROM system.parts "
        f"WHERE active AND database = 'bench' AND table = '{TABLE}'"
    ).result_rows[0]
    found["merged"] = questions(client, rows)
    return {
        "indexes": name,
        "rows": rows,
        "insert_ms_median": round(statistics.median(inserts) * 1000, 1),
        "insert_s": round(sum(inserts), 1),
        "last_merge_s": round(merged - start, 1),
        "cpu_s": round(after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime, 1),
        "bytes_on_disk": int(size[0]),
        "index_bytes": int(size[1]),
        **found,
    }


def questions(client: Client, rows: int) -> dict[str, dict[str, float]]:
    """The questions; ``key`` names the columns that a question restricts."""
    found: dict[str, dict[str, float]] = {}
    for age, number in (("old", rows // 10), ("newest", rows - BATCH)):
        number -= number % BATCH
        [row] = client.query(
            "SELECT tenant, batch_id, toString(received_at), event_id, player_id "
            f"FROM {TABLE} WHERE received_at = toDateTime64('2026-03-01', 6, 'UTC') "
            f"+ {number // BATCH} / 100 LIMIT 1"
        ).result_rows
        tenant, batch, at, event, player = row
        own = f"tenant = '{tenant}'"
        received = f"received_at = toDateTime64('{at}', 6, 'UTC')"
        found |= {
            f"{age} batch by id": question(client, f"{own} AND batch_id = '{batch}'"),
            f"{age} batch by id and receipt": question(
                client, f"{own} AND {received} AND batch_id = '{batch}'"
            ),
            f"{age} event by id": question(client, f"{own} AND event_id = '{event}'"),
            f"{age} event by id and player": question(
                client, f"{own} AND player_id = '{player}' AND event_id = '{event}'"
            ),
        }
    return found


def main() -> None:
    """Measures each set of indexes in a process of its own, and prints a JSON line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--only", choices=INDEXES)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    if given.only:
        with tempfile.TemporaryDirectory(prefix="lookups") as home:
            print(json.dumps(measure(given.only, given.rows, Path(home))), flush=True)
        return
    for _ in range(given.rounds):
        for name in INDEXES:
            command = [sys.executable, "-m", "benchmarks.lookups", "--rows", str(given.rows)]
            subprocess.run([*command, "--only", name], check=True)


if __name__ == "__main__":
    main()
