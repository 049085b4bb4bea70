"""Measures the evaluation of campaigns, by form, over a long history in chDB: time, memory, bytes read.

ClickHouse itself generates the history: rounds of one tenant over a year, a third of them won, with a
skewed distribution of players and games, inserted in the order of time as the sink would. Then every
month is merged to one part, as ClickHouse does by itself a day later. For each form
the result also has the lower bound: the time it takes to read the same columns and only hash them. Each
measurement runs in a process of its own.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from chdb.session import Session
from clickhouse_connect.driver.client import Client

from benchmarks.machine import described, in_own_process, own_peak_mib
from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.sql.compiler import standings, totals
from connectors.clickhouse.client import connect
from connectors.clickhouse.kept_play import View, keep_all
from connectors.clickhouse.migrate import migrate
from streams.settings import Settings

AS_OF = datetime(2027, 1, 1, tzinfo=UTC)
PLAYERS, GAMES, SLICE = 200_000, 1_000, 5_000_000
BEGAN = "toDateTime64('2025-11-01 00:00:00', 6, 'UTC')"
LATE_PERCENT = 1
SHORT_S, AGAIN = 2.0, 9
BET, WON, WIN = "1 + cityHash64(n, 4) % 500", "cityHash64(n, 5) % 3 = 0", "1 + cityHash64(n, 6) % 1500"
_PRIZES = [{"ranks": "1-100", "amount": Decimal(10)}]
_YEAR = {"from": "2025-11-01", "to": "2026-11-01"}
_WEEK = {"from": "2026-03-02", "to": "2026-03-09"}


def _campaign(measure: str, form: dict[str, Any], period: dict[str, str], **counts: Any) -> Campaign:
    return Campaign.model_validate(
        {
            "name": measure.replace("_", "-"), "tenant": "acme", "period": period,
            "counts": counts, "measure": measure, "form": form,
        }
    )  # fmt: skip


_BOARD = {"kind": "leaderboard", "prizes": _PRIZES}
_STEPS = {"kind": "challenge", "steps": [{"target": Decimal(n), "prize": 1} for n in (10, 100, 200)]}
FORMS = {
    "leaderboard, turnover, a year": _campaign("turnover", _BOARD, _YEAR, currency="EUR"),
    "leaderboard, turnover, a week": _campaign("turnover", _BOARD, _WEEK, currency="EUR"),
    "leaderboard, wins in a row, a week": _campaign("wins_in_a_row", _BOARD, _WEEK),
    "challenge, rounds, a week": _campaign("rounds", _STEPS, _WEEK, minimum_bet=Decimal(1)),
    "deposit bonus, a year": _campaign(
        "deposits", {"kind": "deposit_bonus", "percent": 50, "cap": 100}, _YEAR, currency="EUR"
    ),
}
_BY_DAY = View("day", "tenant", "")
_COLUMNS = {
    "rounds": "player_id, bet_amount, rollback_bet_amount, first_bet_at, last_received_at, game_id, "
    "currency, counts, bet_count, rollback_bet_count",
    "deposits": "player_id, payment_id, amount, occurred_at, received_at, currency",
}


def bound(campaign: Campaign) -> str:
    """A query that only reads what an evaluation cannot do without, and hashes it."""
    begin, end = campaign.period.utc()
    table = "payments_rows WHERE tenant = 'acme'"
    if campaign.source == "rounds":
        days = f"BETWEEN '{begin:%Y-%m-%d}' AND '{end:%Y-%m-%d}'"
        table = f"rounds_by_day_rows WHERE tenant = 'acme' AND day {days}"
    return f"SELECT sum(cityHash64({_COLUMNS[campaign.source]})) FROM {table}"


SCANS = {
    "turnover and GGR by game, a year": "SELECT game_id, sum(stake), sum(ggr) FROM rounds "
    "WHERE tenant = 'acme' GROUP BY game_id",
    "the same of rounds_by_day_rows, without FINAL": "SELECT game_id, sum(bet_amount), sum(win_amount) "
    "FROM rounds_by_day_rows WHERE tenant = 'acme' GROUP BY game_id",
    "turnover and GGR, a week": "SELECT sum(stake), sum(ggr) FROM rounds WHERE tenant = 'acme' "
    "AND first_event_at >= '2026-03-02' AND first_event_at < '2026-03-09'",
    "all rounds of a player": "SELECT * FROM rounds WHERE tenant = 'acme' AND player_id = 'p7'",
    "active players by day": "SELECT toDate(first_event_at), uniq(player_id) FROM rounds "
    "WHERE tenant = 'acme' GROUP BY 1",
}
KPIS = f"SELECT * FROM kpi_play({_BY_DAY}) WHERE tenant = 'acme'"


def fill(home: Path, rounds: int) -> None:
    """Writes the history."""
    client = connect(Settings(clickhouse_dsn=f"chdb://{home}"))
    migrate(client, "roundhouse")
    lead = (
        "'acme' AS tenant, 'native' AS source, 'b' AS batch_id, true AS counts, toInt32(0) AS position"
    )
    player = f"concat('p', toString(intDiv(cityHash64(n) % {PLAYERS}, 1 + cityHash64(n, 1) % 4)))"
    game = f"concat('g', toString(intDiv(cityHash64(n, 2) % {GAMES}, 1 + cityHash64(n, 3) % 8)))"
    is_late = f"cityHash64(n, 7) % 100 < {LATE_PERCENT}"
    for start in range(0, rounds, SLICE):
        numbers = f"(SELECT number + {start} AS n FROM numbers({min(SLICE, rounds - start)}))"
        played = f"""(
            SELECT
                n,
                {player} AS player,
                {game} AS game,
                addSeconds({BEGAN}, intDiv(n * 31536000, {rounds})) AS bet_at,
                {WON} AS is_won,
                if({is_late}, addDays(bet_at, 1), addSeconds(bet_at, 5)) AS won_at,
                toDecimal128({BET}, 18) / 100 AS bet,
                toDecimal128(if(is_won, {WIN}, 0), 18) / 100 AS win
            FROM {numbers}
        )"""
        for kind, suffix, chosen, at in (
            ("bet", "b", "1", "bet_at"),
            ("win", "w", "is_won", "won_at"),
        ):
            client.command(
                "INSERT INTO game_transactions_rows (tenant, source, batch_id, counts, position, "
                "received_at, source_event, event_id, occurred_at, player_id, round_id, game_id, type, "
                f"amount, bonus_amount, currency) SELECT {lead}, {at}, 'gameround', "
                f"concat(toString(n), '{suffix}'), {at}, player, toString(n), game, "
                f"'{kind}', {kind}, toDecimal128(0, 18), 'EUR' FROM {played} WHERE {chosen}"
            )
        for revision, chosen, until in ((1, "1", "bet_at"), (2, "is_won", "won_at")):
            won = "win" if revision == 2 else "toDecimal128(0, 18)"
            client.command(
                "INSERT INTO rounds_rows (tenant, player_id, round_id, segment, revision, source, "
                "source_event, game_id, currency, counts, first_event_at, last_event_at, "
                "last_received_at, first_bet_at, bet_count, win_count, bet_amount, win_amount, "
                f"largest_win_amount) SELECT 'acme', player, toString(n), 0, {revision}, 'native', "
                f"'gameround', game, 'EUR', true, bet_at, {until}, {until}, bet_at, 1, {revision - 1}, "
                f"bet, {won}, {won} FROM {played} WHERE {chosen}"
            )
        client.command(
            "INSERT INTO payments_rows (tenant, source, batch_id, counts, position, received_at, "
            "source_event, event_id, occurred_at, player_id, payment_id, direction, type, status, "
            f"successful, amount, currency, method) SELECT {lead}, bet_at, 'deposit', toString(n), "
            "bet_at, player, toString(n), 'deposit', 'deposit', 'Approved', true, "
            f"toDecimal128(10, 18), 'EUR', 'card' FROM {played} WHERE n % 40 = 0"
        )
    wait_for_merges(client)
    client.close()


def _of(home: Path) -> Client:
    client = connect(Settings(clickhouse_dsn=f"chdb://{home}"))
    client.command("USE roundhouse")
    return client


def prepare(home: Path) -> None:
    """Merges each month of the rounds to one part, and forgets the KPIs that are kept."""
    client = _of(home)
    client.command(
        "OPTIMIZE TABLE rounds_by_day_rows FINAL SETTINGS optimize_skip_merged_partitions = 1"
    )
    client.command("TRUNCATE TABLE kept_play")
    client.close()


def keep_days(home: Path) -> None:
    """Keeps the KPIs of each day."""
    client = _of(home)
    keep_all(client, 0.0, [_BY_DAY])
    client.close()


def wait_for_merges(client: Client) -> None:
    """Returns when ClickHouse has no merge running."""
    while client.query("SELECT count() FROM system.merges").result_rows[0][0]:
        time.sleep(0.1)


def filled(home: Path, rounds: int) -> None:
    """Runs :func:`fill` in a process of its own, so that no merge of chDB continues in this one."""
    in_own_process("benchmarks.campaigns", "--fill", str(home), "--rounds", str(rounds))


def _seconds(*arguments: str) -> int:
    began = time.monotonic()
    in_own_process("benchmarks.campaigns", *arguments)
    return round(time.monotonic() - began)


def ask(home: Path, sql: str) -> dict[str, Any]:
    """Runs one query in a process of its own.

    Returns the seconds, the CPU seconds, the rows and bytes read, the rows of the result, the
    peak memory, and of a short query the median of further runs in the same process.
    """
    answer = in_own_process("benchmarks.campaigns", "--ask", str(home), given=sql)
    found: dict[str, Any] = json.loads(answer)
    return found


def _ask_here(home: Path) -> None:
    sql = sys.stdin.read()
    session: Any = Session(str(home))  # type: ignore[no-untyped-call]
    session.query("USE roundhouse")
    began, began_cpu = time.perf_counter(), time.process_time()
    result = session.query(sql, "TabSeparated")
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    found: dict[str, Any] = {
        "s": round(seconds, 2),
        "cpu_s": round(cpu_s, 2),
        "rows_read": result.storage_rows_read(),
        "mib_read": round(result.storage_bytes_read() / 2**20),
        "answer_rows": bytes(result.bytes() or b"").count(b"\n"),
        "peak_mib": own_peak_mib(),
    }
    if seconds < SHORT_S:
        again = []
        for _ in range(AGAIN):
            began = time.perf_counter()
            session.query(sql, "TabSeparated")
            again.append(time.perf_counter() - began)
        found["again_s"] = round(statistics.median(again), 2)
    print(json.dumps(found))


_PARTS = {"--ask": _ask_here, "--prepare": prepare, "--keep-days": keep_days}
"""What runs in a process of its own, with the directory of the history as its argument."""


def measured(home: Path) -> dict[str, Any]:
    """The figures of each question of the history in ``home``."""
    prepare_s = _seconds("--prepare", str(home))
    found: dict[str, Any] = {
        "prepare_s": prepare_s,
        "idle_peak_mib": ask(home, "SELECT 1")["peak_mib"],
        "disk_mib": round(sum(p.stat().st_size for p in home.rglob("*") if p.is_file()) / 2**20),
        "forms": {},
        "scans": {name: ask(home, sql) for name, sql in SCANS.items()},
    }
    for name, campaign in FORMS.items():
        without_order = totals(campaign, AS_OF, merges=False)
        sql = without_order or standings(campaign, AS_OF, merges=False)
        least = ask(home, bound(campaign))
        found["forms"][name] = ask(home, sql) | {
            "bound_s": least["s"], "bound_mib_read": least["mib_read"]
        }  # fmt: skip
    found["kpis by day, a year"] = {
        "computed": ask(home, KPIS),
        "keep_s": _seconds("--keep-days", str(home)),
        "kept": ask(home, KPIS),
    }
    return found


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50_000_000)
    parser.add_argument(
        "--home", type=Path, help="a history that --fill has written; default: a new one"
    )
    parser.add_argument("--fill", type=Path, help="only write the history, into this directory")
    for part in _PARTS:
        parser.add_argument(part, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fill:
        fill(arguments.fill, arguments.rounds)
        return
    for part, work in _PARTS.items():
        home = getattr(arguments, part[2:].replace("-", "_"))
        if home:
            work(home)
            return
    result: dict[str, Any] = {**described(), "rounds": arguments.rounds}
    if arguments.home:
        result |= measured(arguments.home)
    else:
        with tempfile.TemporaryDirectory(prefix="roundhouse-bench-") as temporary:
            home = Path(temporary) / "clickhouse"
            began = time.monotonic()
            filled(home, arguments.rounds)
            result["fill_s"] = round(time.monotonic() - began)
            result |= measured(home)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
