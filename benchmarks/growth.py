"""Measures the cost of an event as the state grows: remembered ids, partitions, rows in ClickHouse.

- ids: the worker does the yardstick job with a window table that was filled before; each partition
  has an equal share of the ids;
- partitions: the same job with more partitions, from a backlog and at a rate;
- inserts: blocks of transactions and rounds are inserted into ClickHouse (chDB), first empty, then with
  a number of rounds in it; the cost includes the merges that the inserts cause.

The cost of a run is its difference from a run with a tenth of the events and empty tables.
"""

import argparse
import json
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import campaigns
from benchmarks.contenders import CONTENDERS
from benchmarks.machine import described, fresh_home, in_own_process, own_peak_mib
from benchmarks.worker import run
from benchmarks.yardstick import BATCH_ITEMS, bodies
from connectors.clickhouse.client import connect
from connectors.clickhouse.migrate import migrate
from connectors.clickhouse.sink import ClickHouseTables
from connectors.clickhouse.targets import TARGETS
from streams.core.event import Batch
from streams.core.identity import CONTENT_BYTES, ID_BYTES
from streams.kafka.admin import wait_for_broker
from streams.records.raw_batch import RawRecord, headers_of
from streams.records.staged_chunk import unpack
from streams.settings import Settings
from streams.stages.process import ID_KEY, At, process
from streams.stages.translate import translate
from streams.state.owned_partition import window_directory
from streams.state.recovery import filling
from streams.state.rocksdb import Memory
from streams.state.table import Window
from streams.wire.avro import Container, unframe
from streams.wire.contracts import schema
from tests.line import CONTENTS, FRAMES
from tests.standins import MemoryState

FILL_KEYS = 100_000
BLOCK_EVENTS = 10_000


def fill(settings: Settings, ids: int) -> None:
    """Writes ``ids`` evenly spread ids to the directories in which the worker opens its partitions."""
    cluster = wait_for_broker(settings, 60)
    rng = random.Random(1)
    each = ids // settings.partitions
    step = (1 << 8 * ID_BYTES) // each
    for partition in range(settings.partitions):
        directory = window_directory(settings, "worker-0", partition)
        window = Window(directory, cluster, settings.window_s, Memory())
        with filling(window):
            for start in range(0, each, FILL_KEYS):
                numbers = range(start, min(start + FILL_KEYS, each))
                spread = [number * step + rng.getrandbits(32) for number in numbers]
                puts = {
                    ID_KEY + number.to_bytes(ID_BYTES, "big"): rng.randbytes(CONTENT_BYTES)
                    for number in spread
                }
                window.write(puts, 0, time.time())
        window.compact()  # else the worker would compact it during the measurement
        window.close()


def worker_cost(
    events: int,
    partitions: int,
    prepare: Callable[[Settings], None] | None = None,
    per_s: float | None = None,
) -> dict[str, Any]:
    """The worker's CPU per event, without its start-up; from a backlog, or at a rate (events/s)."""
    runs = []
    for size, before in ((events // 10, None), (events, prepare)):
        contender = CONTENDERS["roundhouse"]
        runs.append(
            run(
                contender,
                size,
                BATCH_ITEMS,
                fresh_home(),
                partitions=partitions,
                prepare=before,
                per_s=per_s,
            )
        )
    small, large = runs
    more = large["events"] - small["events"]
    return {
        "cpu_us_per_event": round((large["cpu_s"] - small["cpu_s"]) / more * 1e6, 1),
        "broker_us_per_event": round((large["broker_cpu_s"] - small["broker_cpu_s"]) / more * 1e6, 1),
        "start_up_s": large["start_up_s"],
        "peak_mib": large["peak_mib"],
    }


def blocks(events: int) -> list[dict[str, list[bytes]]]:
    """The output of ``events`` events by topic, in blocks of the sizes that the sink inserts."""
    made: list[dict[str, list[bytes]]] = []
    state = MemoryState()
    for number, (tenant, body, after) in enumerate(bodies(events)):
        batch = Batch(tenant, "native", f"b-{number}", 1_773_500_000_000_000, True, False, None)
        if after.received > len(made) * BLOCK_EVENTS:
            made.append(defaultdict(list))
        translation = translate(RawRecord(0, number, headers_of(batch, 0), body), 1)
        groups = [unpack(group, CONTENTS) for group in translation.groups[0]]
        effects = process(groups, state, FRAMES, At(0, number))
        state.store(effects)
        for topic, records in effects.outputs.items():
            made[-1][topic] += [unframe(value) for _, value in records]
    return made


def insert_cost(home: Path, events: int) -> dict[str, Any]:
    """The CPU per event of inserting the output of ``events`` events, in this process."""
    due = blocks(events)
    client = connect(Settings(clickhouse_dsn=f"chdb://{home}"))
    migrate(client, "roundhouse")
    tables = ClickHouseTables(lambda: client)
    before, began = time.process_time(), time.monotonic()
    for number, block in enumerate(due):
        for topic, rows in block.items():
            target = TARGETS[topic]
            tables.insert(target, Container(schema(target.contract)), rows, f"{topic}-{number}")
    inserted, wall = time.process_time(), time.monotonic() - began
    campaigns.wait_for_merges(client)
    return {
        "cpu_us_per_event": round((inserted - before) / events * 1e6, 1),
        "with_merges_cpu_us_per_event": round((time.process_time() - before) / events * 1e6, 1),
        "wall_us_per_event": round(wall / events * 1e6, 1),
        "peak_mib": own_peak_mib(),
    }


def insert_costs(rounds: int, events: int) -> dict[str, Any]:
    """:func:`insert_cost` with ``rounds`` rounds in ClickHouse, in a process of its own for chDB."""
    with tempfile.TemporaryDirectory(prefix="roundhouse-bench-") as temporary:
        directory = Path(temporary) / "clickhouse"
        if rounds:
            campaigns.filled(directory, rounds)
        task = "--insert-into", str(directory), "--events", str(events)
        found = in_own_process("benchmarks.growth", *task)
    return {"rounds": rounds, **json.loads(found)}


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--ids", type=int, nargs="*", default=[10**5, 10**6, 10**7])
    parser.add_argument("--partitions", type=int, nargs="*", default=[4, 16, 64])
    parser.add_argument("--per-s", type=float, nargs="*", default=[12_000], help="with the partitions")
    parser.add_argument("--rounds", type=int, nargs="*", default=[0, 10**7])
    parser.add_argument("--insert-into", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    events = arguments.events
    if arguments.insert_into:
        print(json.dumps(insert_cost(arguments.insert_into, events)))
        return
    result = {
        **described(),
        "events": events,
        "transactions": Settings().transactions,
        "ids": [
            {"ids": ids, **worker_cost(events, 4, partial(fill, ids=ids))} for ids in arguments.ids
        ],
        "partitions": [
            {"partitions": partitions, "per_s": per_s, **worker_cost(events, partitions, per_s=per_s)}
            for partitions in arguments.partitions
            for per_s in (None, *arguments.per_s)
        ],
        "inserts": [insert_costs(rounds, events) for rounds in arguments.rounds],
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
