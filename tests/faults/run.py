"""``make faults``: causes faults in lines under load, and prints a table of lost and doubled events and
of recovery times.

A round starts a line, causes every fault in an order drawn from the seed, lets the line drain and
compares its data with independent books. Rounds with one broker and with three alternate.
"""

import argparse
import json
import logging
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from connectors.local.kafka import missing_tools
from tests.faults.faults import FAULTS, Fault
from tests.faults.fuzz import edge_alone, fuzz
from tests.faults.harness import Line, NotPossible, Recovery, line
from tests.schema_registry import fetch_jvm, running_registry


@dataclass
class Report:
    """The results of all rounds, by fault."""

    recoveries: dict[str, list[Recovery]] = field(default_factory=lambda: defaultdict(list))
    lost: Counter[str] = field(default_factory=Counter)
    doubled: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    not_possible: dict[str, str] = field(default_factory=dict)
    items: int = 0
    events: int = 0
    retries: int = 0

    def table(self) -> str:
        """Markdown; times in seconds, median and worst."""
        lines = [
            "| fault | times | lost | doubled | new output: median / worst | settled: median / worst |",
            "|---|---|---|---|---|---|",
        ]
        for fault in FAULTS:
            found = self.recoveries.get(fault.name)
            if not found:
                continue
            output = [recovery.output_s for recovery in found]
            settled = [recovery.settled_s for recovery in found]
            lines.append(
                f"| {fault.name} | {len(found)} | {self.lost[fault.name]} | {self.doubled[fault.name]} "
                f"| {statistics.median(output):.1f} / {max(output):.1f} s "
                f"| {statistics.median(settled):.1f} / {max(settled):.1f} s |"
            )
        lines += [f"| {name} | not run: {why} | | | | |" for name, why in self.not_possible.items()]
        return "\n".join(lines)


def play(target: Line, faults: Iterable[Fault], report: Report) -> None:
    """Causes each fault in turn, lets the line drain, and adds the results to the report."""
    for fault in faults:
        try:
            report.recoveries[fault.name].append(target.strike(fault.name, fault.harm))
        except NotPossible as error:
            report.not_possible[fault.name] = str(error)
    verdict = target.verdict()
    report.lost.update(verdict.lost)
    report.doubled.update(verdict.doubled)
    report.wrong.extend(verdict.wrong)
    report.wrong.extend(f"{name} contains an API key" for name in target.keys_in_files())
    report.items += sum(entry.post.items for entry in target.feeder.acknowledged)
    report.retries += target.feeder.retries


def fuzzed(requests: int, number: int) -> str:
    """Sends ``requests`` fuzzed requests to an edge on the in-memory broker; returns a summary."""
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="roundhouse-fuzz-") as home,
        edge_alone(Path(home)) as target,
    ):
        fuzz(target, min(2_000, requests), number)
        before = target.resident_bytes()
        fuzz(target, requests, number + 1)
        after = target.resident_bytes()
    statuses = ", ".join(f"{status}: {count:,}" for status, count in sorted(target.statuses.items()))
    return (
        f"{sum(target.statuses.values()):,} fuzzed requests in {time.monotonic() - began:.0f} s; "
        f"answered {statuses}; the edge's memory {before / 2**20:.0f} MiB after the first 2,000, "
        f"{after / 2**20:.0f} MiB at the end"
    )


def main() -> None:
    """Prints the table as rounds end; exit status 1 if anything was lost, doubled or wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2, help="at most; 0: until the time is up")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no round after; 0: no limit")
    parser.add_argument("--requests", type=int, default=5_000, help="fuzzed requests before the rounds")
    parser.add_argument(
        "--only", nargs="*", default=[""], help="faults whose names contain one of these"
    )
    parser.add_argument("--transactions", choices=("partition", "worker"), default="partition")
    parser.add_argument("--registry", action="store_true", help="with a schema registry beside Kafka")
    parser.add_argument("--report", type=Path, help="write the figures there, as JSON")
    arguments = parser.parse_args()
    if missing := missing_tools():
        sys.exit(f"a real Kafka needs {' and '.join(missing)}, not found on the PATH")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    if arguments.requests:
        print(fuzzed(arguments.requests, arguments.seed), flush=True)
    report, began, number = Report(), time.monotonic(), 0
    while True:
        brokers = 1 if number % 2 == 0 else 3
        faults = [
            fault
            for fault in FAULTS
            for _ in range(fault.times)
            if fault.brokers == brokers and any(only in fault.name for only in arguments.only)
            if arguments.transactions == "worker" or not fault.together
        ]
        random.Random(arguments.seed + number).shuffle(faults)
        if faults:
            with (
                tempfile.TemporaryDirectory(prefix="roundhouse-faults-") as home,
                running_registry(fetch_jvm(), Path(home) / "registry.log")
                if arguments.registry
                else nullcontext() as registry,
                line(
                    Path(home),
                    arguments.seed + number,
                    brokers=brokers,
                    server=brokers > 1,
                    long=True,
                    schema_registry=registry,
                    transactions=arguments.transactions,
                ) as target,
            ):
                play(target, faults, report)
        number += 1
        minutes = (time.monotonic() - began) / 60
        print(
            f"\n{datetime.now(UTC):%Y-%m-%d}, seed {arguments.seed}, {number} rounds, "
            f"{minutes:.0f} minutes, {report.items:,} items acknowledged, {report.retries:,} requests "
            f"sent again; {platform.machine()}, {os.cpu_count()} cores, Python "
            f"{platform.python_version()}\n\n{report.table()}\n",
            flush=True,
        )
        if report.wrong:
            sys.exit(f"{len(report.wrong)} differences: {report.wrong[:20]}")
        if arguments.report:
            arguments.report.write_text(json.dumps(report.recoveries, indent=2))
        if number == arguments.rounds or (arguments.minutes and minutes >= arguments.minutes):
            return


if __name__ == "__main__":
    main()
