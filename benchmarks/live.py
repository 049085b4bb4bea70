"""Measures the console's live standings: answer times and age with many players while events arrive,
and what campaigns on the wall cost the process that inserts.

A process holds chDB and answers questions as the sink does. It inserts bets of one tenant at a rate,
with their rounds and outcomes, each second as blocks that ClickHouse makes itself: no Avro is read, so
its CPU is that of inserts and merges, and of the questions of the console. The console is the real one.
Three phases of equal length: no console, a console with one campaign of all players, and one with many
campaigns, each of a share of the players.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
import uvicorn
from clickhouse_connect.driver.client import Client

from benchmarks.machine import cpu_s, described, fresh_home, peak_mib
from connectors.clickhouse.client import connect
from connectors.clickhouse.literals import moment
from connectors.clickhouse.migrate import migrate
from connectors.clickhouse.questions import token_path
from connectors.clickhouse.service import create_app
from connectors.local.ports import Ports
from streams.settings import Settings

TENANT = "acme"
SLICE = 1_000_000
_LEAD = f"'{TENANT}' AS tenant, 'native' AS source, 'b' AS batch_id"
_CENTS = "1 + cityHash64(n, 4) % 5000"


def insert(client: Client, first: int, count: int, players: int, at: str) -> None:
    """Bets ``first`` to ``first + count``, one a round, at a time in SQL; the n-th is of player n."""
    numbers = f"(SELECT number + {first} AS n FROM numbers({count}))"
    player = f"concat('p', toString(n % {players})) AS player_id"
    game = f"concat('g', toString(n % {players} % 100)) AS game_id"
    amount = f"toDecimal128({_CENTS}, 18) / 100"
    client.command(
        "INSERT INTO game_transactions_rows (tenant, source, batch_id, received_at, counts, position, "
        "source_event, event_id, occurred_at, player_id, round_id, game_id, type, amount, "
        f"bonus_amount, currency) SELECT {_LEAD}, {at} AS received_at, true, toInt32(0), 'gameround', "
        f"toString(n), received_at, {player}, toString(n), {game}, 'bet', {amount}, 0, 'EUR' "
        f"FROM {numbers}"
    )
    client.command(
        "INSERT INTO rounds_rows (tenant, player_id, round_id, segment, revision, source, "
        "source_event, game_id, currency, counts, first_event_at, last_event_at, last_received_at, "
        f"bet_count, win_count, bet_amount, win_amount, largest_win_amount) SELECT '{TENANT}', "
        f"{player}, toString(n), 0, 1, 'native', 'gameround', {game}, 'EUR', true, "
        f"{at} AS first_event_at, first_event_at, first_event_at, 1, 0, {amount}, 0, 0 FROM {numbers}"
    )
    for stage, received, accepted in (("translate", 100, 0), ("process", 0, 100)):
        client.command(
            "INSERT INTO outcomes_rows (outcome_id, tenant, source, batch_id, received_at, "
            "raw_partition, raw_offset, stage, received, accepted, duplicate, conflict, rejected) "
            f"SELECT concat('{stage}', toString(n)), '{TENANT}', 'native', toString(n), {at}, 0, n, "
            f"'{stage}', {received}, {accepted}, 0, 0, 0 FROM {numbers} WHERE n % 100 = 0"
        )


def hold(home: Path, players: int, rounds: int, rate: int) -> None:
    """Fills chDB, says so, then inserts and answers until its input ends; prints each insert."""
    settings = Settings(data_dir=home)
    writer = connect(settings)
    migrate(writer, settings.clickhouse_database)
    past = f"{moment(datetime.now(UTC) - timedelta(days=6))} + INTERVAL n * 400000 / {rounds} SECOND"
    for first in range(0, rounds, SLICE):
        insert(writer, first, min(SLICE, rounds - first), players, past)
    clients = [connect(settings) for _ in range(2)]
    for client in clients:
        client.database = settings.clickhouse_database
    token_path(settings).write_text("benchmark")
    stop = threading.Event()
    took: list[float] = []

    def write() -> None:
        first, due = rounds, time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            began = time.monotonic()
            insert(writer, first, rate, players, "now64(6, 'UTC') - INTERVAL 300 MILLISECOND")
            took.append(time.monotonic() - began)
            print(json.dumps({"insert_s": took[-1], "behind_s": max(0.0, began - due)}), flush=True)
            first, due = first + rate, due + 1

    async def answer(port: int) -> None:
        config = uvicorn.Config(
            create_app(clients, "benchmark"), port=port, log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        await asyncio.to_thread(sys.stdin.read)
        server.should_exit = True
        await serving

    with Ports() as ports:
        port = ports.hold("ROUNDHOUSE_SQL_PORT", port=0)
        state = {"pid": os.getpid(), "edge_url": "", "sql_port": port}
        (home / "run.json").write_text(json.dumps(state))
        print("filled", flush=True)
        thread = threading.Thread(target=write)
        thread.start()
        asyncio.run(answer(port))
    stop.set()
    thread.join()
    for client in (*clients, writer):
        client.close()


def definitions(folder: Path, campaigns: int) -> Path:
    """One campaign of all players, or so many, each of its games and therefore of its players."""
    folder.mkdir()
    now = datetime.now(UTC)
    period = f"{{from: {now - timedelta(days=7):%Y-%m-%d}, to: {now + timedelta(days=2):%Y-%m-%d}}}"
    for index in range(campaigns):
        games = "" if campaigns == 1 else f"counts: {{games: [g{index % 100}]}}\n"
        (folder / f"c{index}.yaml").write_text(
            f"name: c{index}\ntenant: {TENANT}\nperiod: {period}\n{games}measure: turnover\n"
            "form: {kind: leaderboard, prizes: [{ranks: 1-100, amount: 10}]}\n"
        )
    return folder


@contextmanager
def console(home: Path, folder: Path) -> Iterator[tuple[str, int]]:
    """A console, as its address and its process."""
    environment = os.environ | {"ROUNDHOUSE_DATA_DIR": str(home), "ROUNDHOUSE_CONSOLE_PORT": "0"}
    command = [sys.executable, "-m", "connectors.cli", "console", "--campaigns", str(folder)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.terminate()


class Holder:
    """The process that holds chDB, and what it has printed since it was last asked."""

    def __init__(self, home: Path, *numbers: int) -> None:
        arguments = ["--hold", str(home), *map(str, numbers)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.live", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout
        if self.process.stdout.readline() != "filled\n":
            raise RuntimeError("the process that holds chDB has failed")
        self._lines: list[dict[str, float]] = []
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, output: Iterator[str]) -> None:
        for text in output:
            self._lines.append(json.loads(text))

    @contextmanager
    def measured(self, result: dict[str, Any]) -> Iterator[None]:
        """Adds the CPU of the block and its inserts to a result."""
        self._lines.clear()
        began, began_cpu = time.monotonic(), cpu_s(self.process.pid)
        yield
        seconds, lines = time.monotonic() - began, list(self._lines)
        result |= {
            "seconds": round(seconds, 1),
            "holder_cores": round((cpu_s(self.process.pid) - began_cpu) / seconds, 3),
            "inserts": len(lines),
            **_spread([line["insert_s"] for line in lines], "insert"),
            "behind_s_max": round(max((line["behind_s"] for line in lines), default=0.0), 2),
        }

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(120)
        self._reader.join()
        self.process.stdout.close()


def _spread(seconds: list[float], name: str) -> dict[str, float]:
    if len(seconds) < 2:
        return {}
    cuts = quantiles(seconds, n=100)
    return {f"{name}_ms_p50": round(cuts[49] * 1000, 1), f"{name}_ms_p99": round(cuts[98] * 1000, 1)}


def watch(home: Path, holder: Holder, campaigns: int, seconds: float, pages_per_s: float) -> Any:
    """A phase with a console: pages of standings are asked for, and their time and age are kept."""
    result: dict[str, Any] = {"campaigns": campaigns}
    answers: list[float] = []
    ages: list[float] = []
    evaluated: dict[int, int] = {}
    folder = definitions(home / f"campaigns-{campaigns}", campaigns)
    with console(home, folder) as (url, pid), httpx.Client(base_url=url, timeout=60) as client:
        began = time.monotonic()
        for number in range(campaigns):
            _wait_for(client, number, until=began + 900)
            if number in (0, campaigns - 1):
                result["last_s" if number else "first_s"] = round(time.monotonic() - began, 1)
        began_cpu = cpu_s(pid)
        with holder.measured(result):
            end, number = time.monotonic() + seconds, 0
            while time.monotonic() < end:
                path = f"/api/campaigns/c{number % campaigns}?offset={number * 7919 % 9000}&limit=50"
                asked = time.monotonic()
                found = client.get(path).json()["standings"]
                answers.append(time.monotonic() - asked)
                if found:
                    as_of = datetime.fromisoformat(found["as_of"])
                    ages.append((datetime.now(UTC) - as_of).total_seconds())
                    evaluated[number % campaigns] = found["players"]
                number += 1
                time.sleep(1 / pages_per_s)
        result |= {
            "evaluated": len(evaluated),
            "players_max": max(evaluated.values()),
            "answers": len(answers),
            **_spread(answers, "answer"),
            "age_s_p50": round(sorted(ages)[len(ages) // 2], 1),
            "age_s_max": round(max(ages), 1),
            "console_cores": round((cpu_s(pid) - began_cpu) / result["seconds"], 3),
            "console_peak_mib": round(peak_mib(pid)),
        }
    return result


def _wait_for(client: httpx.Client, number: int, until: float) -> None:
    """Waits until a campaign has standings."""
    while time.monotonic() < until:
        try:
            if client.get(f"/api/campaigns/c{number}?limit=1").json()["standings"]:
                return
        except httpx.TransportError:  # the console is starting
            pass
        time.sleep(0.2)
    raise RuntimeError("no standings after 15 minutes")


def run(players: int, rounds: int, rate: int, seconds: float, wall: int) -> dict[str, Any]:
    """All phases. Each is also written to standard error when it is over: a wall may take long."""
    home = fresh_home()
    holder = Holder(home, players, rounds, rate)
    found: dict[str, Any] = {
        **described(),
        "load_average": round(os.getloadavg()[0], 1),
        "players": players,
        "rounds": rounds,
        "events_per_s": rate,
    }
    try:
        alone: dict[str, Any] = {}
        with holder.measured(alone):
            time.sleep(seconds)
        found["without_console"] = alone
        for name, campaigns in (("one_campaign", 1), ("wall", wall)):
            print(json.dumps(found), file=sys.stderr, flush=True)
            found[name] = watch(home, holder, campaigns, seconds, pages_per_s=20)
        return found
    finally:
        holder.close()


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--players", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2_000_000)
    parser.add_argument("--rate", type=int, default=10_000, help="events a second")
    parser.add_argument("--seconds", type=float, default=60, help="of each of the three phases")
    parser.add_argument("--wall", type=int, default=100, help="campaigns of the last phase")
    parser.add_argument("--hold", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.hold:
        hold(Path(given.hold[0]), *map(int, given.hold[1:]))
        return
    found = run(given.players, given.rounds, given.rate, given.seconds, given.wall)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
