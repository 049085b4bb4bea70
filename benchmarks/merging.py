"""Measures merged players in chDB: finding the persons, and a campaign and KPIs with and without them.

1,000,000 players of one tenant have sent five events with a mobile number and an e-mail address each;
every hundredth shares its number with its neighbour. The rounds are those of
:mod:`benchmarks.campaigns`. Each query runs in a process of its own, those that are compared
alternately; the figure is the median.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from benchmarks.campaigns import AS_OF, FORMS, ask, filled
from benchmarks.machine import described, in_own_process
from connectors.campaigns.sql.compiler import totals
from connectors.clickhouse.client import connect
from streams.settings import Settings

PLAYERS, EVENTS = 1_000_000, 5
CAMPAIGN = FORMS["leaderboard, turnover, a year"]
KPI = "SELECT * FROM kpi_play(grain = 'month', by = 'tenant', reporting = '') WHERE tenant = 'acme'"
MERGED = "SELECT count(), uniqExact(person_id) FROM merged_players_at(tenant = 'acme', as_of = '{at}')"


def add_contacts(home: Path) -> None:
    """Adds the events with contacts."""
    client = connect(Settings(clickhouse_dsn=f"chdb://{home}"))
    at = "toDateTime64('2025-11-01', 6, 'UTC') + toIntervalSecond(number % 86400)"
    shared = "1000000 + number - if(number % 100 = 7, 1, 0)"
    for event in range(EVENTS):
        client.command(
            "INSERT INTO roundhouse.custom_events_rows (tenant, source, received_at, source_event, "
            f"event_id, occurred_at, player_id, mobile, email, name) SELECT 'acme', 'gameball', {at}, "
            f"'event', concat('{event}-', toString(number)), {at}, concat('p', toString(number)), "
            f"concat('+358 40 ', toString({shared})), concat('P', toString(number), '@Example.com'), "
            f"'spin' FROM numbers({PLAYERS})"
        )
    client.close()


def measured(home: Path, queries: dict[str, str], times: int) -> dict[str, dict[str, float]]:
    """The median seconds and CPU seconds, and the peak memory of queries that are asked alternately."""
    runs = [{name: ask(home, sql) for name, sql in queries.items()} for _ in range(times)]
    return {
        name: {
            "s": statistics.median(run[name]["s"] for run in runs),
            "cpu_s": statistics.median(run[name]["cpu_s"] for run in runs),
            "peak_mib": max(run[name]["peak_mib"] for run in runs),
        }
        for name in queries
    }


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5_000_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--add", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.add:
        add_contacts(arguments.add)
        return
    campaigns = {
        "campaign without the step": totals(CAMPAIGN, AS_OF, merges=False) or "",
        "campaign with the step": totals(CAMPAIGN, AS_OF) or "",
        "KPIs of a month": KPI,
    }
    merged = {"merged players": MERGED.format(at=f"{AS_OF:%Y-%m-%d %H:%M:%S}")}
    with tempfile.TemporaryDirectory(prefix="roundhouse-bench-") as temporary:
        home = Path(temporary) / "clickhouse"
        filled(home, arguments.rounds)
        without = measured(home, campaigns | merged, arguments.times)
        in_own_process("benchmarks.merging", "--add", str(home))
        result = {
            **described(),
            "rounds": arguments.rounds,
            "players with contacts": PLAYERS,
            "events with contacts": PLAYERS * EVENTS,
            "a tenant without contacts": without,
            "a tenant with contacts": measured(home, campaigns | merged, arguments.times),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
