"""Holds the whole line at a constant rate for hours, and measures each interval of it.

``python -m benchmarks.hours --rate 18900 --hours 2`` prints a Markdown row for each ten minutes:
latency from the edge's answer until all rows of a batch can be read, CPU an event and resident memory
by process, how fast the machine is, parts of the tables that are in use, and those that merges have
replaced and ClickHouse has not removed yet. The accounts are verified at the end. Kafka keeps only the
newest records of topics that are not compacted, so that the disk suffices.
"""

import argparse
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from benchmarks.line import (
    Answered,
    Body,
    Poster,
    Rows,
    Usage,
    asked,
    line,
    percentile_ms,
    stream,
    verify,
    wait_until_settled,
    watch,
)
from benchmarks.machine import Probe, described, resident_mib
from benchmarks.yardstick import BATCH_ITEMS
from connectors.local.stack import Stack
from streams.kafka.clients import client_config
from streams.records.topics import TOPICS
from streams.settings import Settings

AHEAD_S = 1.0
"""How long before its time a request is made and given to the posting threads."""

KEPT_BYTES, SEGMENT_BYTES = 256 << 20, 64 << 20
"""What Kafka keeps of a partition, and in files of what size."""

PROCESSES = "edge", "worker", "sink", "kafka"


class Interval(NamedTuple):
    """The figures of a part of the run; CPU in µs an event, memory in MiB, by kind of process."""

    ended_min: float
    p50_ms: int
    p99_ms: int
    cpu_us: dict[str, float]
    probe_ms: float
    resident_mib: dict[str, int]
    active_parts: int
    replaced_parts: int

    def row(self) -> str:
        """The figures as a row of a Markdown table."""
        cells = [
            f"{round(self.ended_min, 1):g}", self.p50_ms, self.p99_ms,
            *(self.cpu_us[name] for name in PROCESSES), f"{sum(self.cpu_us.values()):.1f}",
            self.probe_ms,
            *(self.resident_mib[name] for name in PROCESSES), self.active_parts, self.replaced_parts,
        ]  # fmt: skip
        return f"| {' | '.join(map(str, cells))} |"


HEAD = (
    "| until, min | p50, ms | p99, ms | "
    + " | ".join(f"{name}, µs" for name in (*PROCESSES, "all"))
    + " | probe, ms | "
    + " | ".join(f"{name}, MiB" for name in PROCESSES)
    + " | parts in use | replaced |"
)


def keep_little(settings: Settings) -> None:
    """Has Kafka remove the oldest records of topics that are not compacted."""
    admin = AdminClient(client_config(settings))
    names = [topic.name for topic in TOPICS if not topic.compacted]
    kept = {"retention.bytes": KEPT_BYTES, "segment.bytes": SEGMENT_BYTES}
    changes = [
        ConfigResource(
            ConfigResource.Type.TOPIC,
            settings.topic_prefix + name,
            incremental_configs=[
                ConfigEntry(key, str(value), incremental_operation=AlterConfigOpType.SET)
                for key, value in kept.items()
            ],
        )
        for name in names
    ]
    for change in admin.incremental_alter_configs(changes).values():
        change.result()


def feed(
    poster: Poster, coming: Iterable[Body], rate: float, answered: Answered, stopping: threading.Event
) -> None:
    """Posts requests at ``rate`` items a second; returns when all are given to the poster."""
    began = time.monotonic()
    for number, body in enumerate(coming):
        at = began + number * BATCH_ITEMS / rate
        if stopping.wait(max(0.0, at - AHEAD_S - time.monotonic())):
            return
        poster.post(body, at, answered)


def measured(
    stack: Stack, poster: Poster, coming: Iterator[Body], rate: float, seconds: float, since: float
) -> Interval:
    """Holds the rate for so many seconds, and measures them; ``since``: the begin of the run."""
    batches = int(rate * seconds) // BATCH_ITEMS
    answered: Answered = {}
    stopping = threading.Event()
    rows, usage = Rows(stack.settings), Usage(stack)
    with Probe() as probe, ThreadPoolExecutor(1) as pool:
        feeding = pool.submit(feed, poster, islice(coming, batches), rate, answered, stopping)
        try:
            waits = sorted(watch(stack, poster, rows, answered, batches))
        finally:
            stopping.set()
        feeding.result()
    costs = usage.us_per(batches * BATCH_ITEMS)
    resident: dict[str, int] = {}
    for name, pid in stack.supervisor.pids().items():
        kind = name.split("-")[0]
        resident[kind] = resident.get(kind, 0) + round(resident_mib(pid))
    [parts] = asked(
        stack.settings,
        "SELECT countIf(active) AS in_use, countIf(NOT active) AS replaced FROM system.parts "
        "WHERE database = currentDatabase()",
    )
    return Interval(
        (time.monotonic() - since) / 60,
        percentile_ms(waits, 50),
        percentile_ms(waits, 99),
        costs,
        probe.ms,
        resident,
        int(parts["in_use"]),
        int(parts["replaced"]),
    )


def hold(
    rate: float,
    every_s: float,
    intervals: int,
    workers: int = 1,
    before: Callable[[Stack], None] = lambda stack: None,
) -> None:
    """Prints a Markdown table with a row for each interval of a new line at a rate. ``before`` is
    called when the line is ready.
    """
    coming = stream(BATCH_ITEMS, seed=4)
    print(" · ".join(described().values()), f"{rate:,.0f} events/s", sep=" · ", flush=True)
    print(f"\n{HEAD}\n{'|---' * HEAD.count(' |')}|", flush=True)
    with line(workers) as (stack, poster):
        keep_little(stack.settings)
        before(stack)
        began, posted = time.monotonic(), 0
        for _ in range(intervals):
            print(measured(stack, poster, coming, rate, every_s, began).row(), flush=True)
            posted += int(rate * every_s) // BATCH_ITEMS * BATCH_ITEMS
        wait_until_settled(stack, poster, posted)
        verify(stack.settings)
    print(f"\n{posted:,} events; the accounts balance.")


def main() -> None:
    """Prints a Markdown table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=18_900, help="events a second")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--every", type=float, default=600.0, help="seconds of an interval")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    intervals = max(1, round(arguments.hours * 3600 / arguments.every))
    hold(arguments.rate, arguments.every, intervals, arguments.workers)


if __name__ == "__main__":
    main()
