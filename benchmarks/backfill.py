"""``python -m benchmarks.backfill``: what a backfill costs live traffic, and how fast it is.

On a whole line (edge, worker, sink with chDB, Kafka), a live tenant posts small batches at a fixed
rate. In turn it is alone and beside ``roundhouse backfill`` with several numbers of items in flight.
The benchmark prints the latency of the live tenant's answers and of its rows in ClickHouse, and the
items a second that the backfill settled meanwhile.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.fair_use import quantiles, wait_until_drained
from benchmarks.line import POLL_S, Answered, Body, Poster, Rows, requests, verify, warm_up, watch
from benchmarks.machine import described, fresh_home
from benchmarks.yardstick import BATCH_ITEMS, TENANTS
from connectors.clickhouse.query import query
from connectors.edge.tenants import Registry
from connectors.local.stack import Stack, on_any_ports
from streams.formats.bulk_body import texts_of
from streams.settings import Settings

LIVE, HISTORY = "live", "history"
LIVE_ITEMS = 10
FILE_ITEMS_PER_S = 20_000
"""More than a backfill settles, so that no file ends within its phase."""

STARTED_WITHIN_S = 60.0


def measure(
    seconds: float, rounds: int, rate: float, in_flight: Sequence[int]
) -> dict[str, list[dict[str, Any]]]:
    """Latencies in milliseconds by items in flight ("0": no backfill): one entry a round.

    ``rate``: requests a second of the live tenant.
    """
    settings = on_any_ports(Settings(data_dir=fresh_home()))
    registry = Registry(settings.tenants_path)
    key, _ = (registry.add(name, False, campaigns_enabled=True) for name in (LIVE, HISTORY))
    found: dict[str, list[dict[str, Any]]] = {str(items): [] for items in (0, *in_flight)}
    per_phase = int(seconds * rate)
    made = iter(requests((len(found) * rounds + 1) * per_phase * LIVE_ITEMS, LIVE_ITEMS))
    with (
        Stack(settings) as stack,
        closing(Poster(stack, dict.fromkeys(TENANTS, key))) as poster,
    ):
        warm_up(stack, poster, list(islice(made, per_phase)), rate * LIVE_ITEMS)
        for turn in range(rounds):
            for items, phases in found.items():
                bodies = list(islice(made, per_phase))
                file = _file(int(seconds * FILE_ITEMS_PER_S), seed=100 + turn * 100 + len(phases))
                with _backfill(stack, file, int(items)):
                    phases.append(_phase(stack, poster, bodies, rate))
                wait_until_drained(stack)
        verify(stack.settings)
    return found


def _file(items: int, seed: int) -> Path:
    path = fresh_home() / "history.ndjson"
    with open(path, "wb") as file:
        for body in requests(items, BATCH_ITEMS, seed):
            file.writelines(text + b"\n" for text in texts_of(body.data))
    return path


@contextmanager
def _backfill(stack: Stack, file: Path, items: int) -> Iterator[None]:
    """Runs a backfill of the file within the block, which begins when something of it is settled."""
    if not items:
        yield
        return
    before = _settled(stack)
    command = [sys.executable, "-m", "connectors.cli", "backfill", str(file), "--tenant", HISTORY]
    options = ["--source", "native", "--in-flight", str(items), "--state", f"{file}.state"]
    with subprocess.Popen([*command, *options], env=stack.environment) as process:
        deadline = time.monotonic() + STARTED_WITHIN_S
        while _settled(stack) == before:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the backfill settles nothing; it ended with {process.poll()}")
            time.sleep(POLL_S)
        try:
            yield
            if process.poll() is not None:
                raise RuntimeError(f"the backfill ended within its phase with {process.poll()}")
        finally:
            process.terminate()


def _phase(stack: Stack, poster: Poster, bodies: list[Body], rate: float) -> dict[str, Any]:
    answered: Answered = {}
    rows = Rows(stack.settings)
    before, began = _settled(stack), time.monotonic()
    for number, body in enumerate(bodies):
        poster.post(body, began + number / rate, answered)
    waits = watch(stack, poster, rows, answered, len(bodies))
    settled, seconds = _settled(stack) - before, time.monotonic() - began
    return {
        "answer_ms": quantiles([answer.at - answer.began for answer in answered.values()]),
        "in_clickhouse_ms": quantiles(waits),
        "backfill_items_per_s": round(settled / seconds),
    }


def _settled(stack: Stack) -> int:
    """The items of the backfill whose outcome is in ClickHouse."""
    sql = (
        "SELECT sum(accepted + duplicate + conflict + rejected) AS n FROM outcomes_rows "
        f"WHERE tenant = '{HISTORY}'"
    )
    return int(json.loads(query(stack.settings, sql, "json"))["data"][0]["n"] or 0)


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each phase")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=40.0, help="requests of 10 items a second")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[250, 1_000, 4_000])
    given = parser.parse_args()
    phases = measure(given.seconds, given.rounds, given.rate, given.in_flight)
    print(json.dumps({**described(), **vars(given), "phases": phases}, indent=2))


if __name__ == "__main__":
    main()
