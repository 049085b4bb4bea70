"""``make soak``: runs a line at its maximum rate for some time and measures the memory of each process.

The feeder's rate is held at the rate at which the line settles items. The command prints a table of
resident memory: the mean of the second quarter of the time (in the first, caches fill), the mean of the
last quarter, and the maximum.
"""

import argparse
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.machine import resident_mib
from connectors.demo.run import accounts, is_balanced
from tests.faults.harness import Line, line

BACKLOG_ITEMS = 20_000
EVERY_S = 5.0
GROWTH_MAX = 1.2


def hold_at_the_limit(target: Line, minutes: float) -> dict[str, list[float]]:
    """Feeds as fast as the line settles; returns each process's memory, measured every few seconds."""
    found: dict[str, list[float]] = defaultdict(list)
    end = time.monotonic() + minutes * 60
    while time.monotonic() < end:
        time.sleep(EVERY_S)
        target.check()
        settled = target.ask(
            "SELECT sum(accepted + duplicate + conflict + rejected) FROM outcomes_rows"
        )
        behind = target.feeder.items - int(settled or 0) > BACKLOG_ITEMS
        target.feeder.items_per_s *= 0.9 if behind else 1.05
        for name, pid in target.stack.supervisor.pids().items():
            found[name].append(resident_mib(pid))
    return found


def table(found: dict[str, list[float]]) -> list[tuple[str, float, float, float]]:
    """By process: the mean of the second quarter, the mean of the last quarter, and the maximum."""
    rows = []
    for name, values in found.items():
        quarter = len(values) // 4
        early, late = statistics.mean(values[quarter : 2 * quarter]), statistics.mean(values[-quarter:])
        rows.append((name, early, late, max(values)))
    return rows


def main() -> None:
    """Exits with status 1 if the accounts do not balance or the memory of a process grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with (
        tempfile.TemporaryDirectory(prefix="roundhouse-soak-") as home,
        line(Path(home), arguments.seed, items_per_s=4_000, books=False) as target,
    ):
        began = time.monotonic()
        found = hold_at_the_limit(target, arguments.minutes)
        seconds = time.monotonic() - began
        items = target.feeder.items
        target.drain()
        balanced = all(is_balanced(account) for account in accounts(target.settings).values())
    print(
        f"{datetime.now(UTC):%Y-%m-%d}: {items:,} items in {seconds / 60:.0f} minutes, "
        f"{items / seconds:,.0f} a second; accounts {'balance' if balanced else 'DO NOT BALANCE'}; "
        f"{platform.machine()}, {os.cpu_count()} cores, feeder and broker among them\n\n"
        "| process | second quarter, MiB | last quarter, MiB | most, MiB |\n|---|---|---|---|"
    )
    rows = table(found)
    for name, early, late, most in rows:
        print(f"| {name} | {early:.0f} | {late:.0f} | {most:.0f} |")
    grown = [name for name, early, late, _ in rows if late > GROWTH_MAX * early]
    if grown or not balanced:
        sys.exit(f"grown by more than a fifth: {grown}; balanced: {balanced}")


if __name__ == "__main__":
    main()
