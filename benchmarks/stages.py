"""Measures the two stages on the yardstick job in one process, without Faust and Kafka: CPU an event.

State is in RocksDB as the worker has it, and the threads of RocksDB are in the figures. ``--records``
says how many requests of 500 events a batch has.
"""

import argparse
import gc
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.machine import described
from benchmarks.yardstick import BATCH_ITEMS, bodies
from streams.core.event import Batch, contents_of
from streams.core.profile import decode
from streams.records.raw_batch import RawRecord, headers_of
from streams.records.staged_chunk import PackedGroup, encode_chunk, groups_of
from streams.records.topics import RECORD_BYTES
from streams.stages.process import At, process
from streams.stages.translate import translate
from streams.state.changelog import Position, changelog_records
from streams.state.rocksdb import Memory
from streams.state.state_reader import StateReader
from streams.state.table import Table, Window
from streams.wire.avro import frame
from streams.wire.contracts import SCHEMA_IDS, schema

PARTITIONS = 4
FRAMES = {contract: frame(number) for contract, number in SCHEMA_IDS.items()}
CONTENTS = contents_of(FRAMES, lambda contract, _: schema(contract))


def records(events: int) -> Iterator[RawRecord]:
    """The raw records of the yardstick job."""
    for number, (tenant, body, _) in enumerate(bodies(events)):
        batch = Batch(tenant, "native", f"batch-{number}", 1_773_500_000_000_000, True, False, None)
        yield RawRecord(number % PARTITIONS, number // PARTITIONS, headers_of(batch, 0), body)


def staged(taken: Sequence[RawRecord]) -> dict[int, list[bytes]]:
    """The staged records of some raw records, by partition."""
    found: dict[int, list[bytes]] = {partition: [] for partition in range(PARTITIONS)}
    groups: dict[int, list[PackedGroup]] = {partition: [] for partition in range(PARTITIONS)}
    for record in taken:
        for partition, made in translate(record, PARTITIONS).groups.items():
            groups[partition] += made
            if sum(len(group.items) for group in groups[partition]) > RECORD_BYTES:
                found[partition].append(encode_chunk(groups[partition]))
                groups[partition] = []
    for partition, left in groups.items():
        if left:
            found[partition].append(encode_chunk(left))
    return found


class Partition:
    """The state of one partition, and the process stage on it."""

    def __init__(self, number: int, home: Path, memory: Memory) -> None:
        self.number = number
        self.window = Window(home / f"window-{number}", "bench", 86_400, memory)
        self.profiles = Table(home / f"profiles-{number}", "bench", memory)
        self.reader = StateReader(self.window, self.profiles, decode)
        self.offset = 0

    def apply(self, values: Sequence[bytes], seconds: dict[str, float]) -> None:
        began = time.process_time()
        groups = [group for value in values for group in groups_of(value, CONTENTS)]
        read = time.process_time()
        effects = process(groups, self.reader, FRAMES, At(self.number, self.offset))
        decided = time.process_time()
        changelog_records(effects.window, Position(self.offset, {}))
        packed = time.process_time()
        self.window.write(effects.window, self.offset, 1_773_500_000)
        seconds["store"] += time.process_time() - packed
        seconds["pack"] += packed - decided
        seconds["process"] += decided - read
        seconds["unpack"] += read - began
        self.offset += len(values)


def main() -> None:
    """Prints one JSON document: microseconds an event by step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--records", type=int, default=40, help="raw records of a batch")
    arguments = parser.parse_args()
    gc.disable()  # as in the worker, which collects every 30 s
    work, size = list(records(arguments.events)), arguments.records
    takes = [work[at : at + size] for at in range(0, len(work), size)]
    seconds = dict.fromkeys(("translate", "unpack", "process", "pack", "store"), 0.0)
    with TemporaryDirectory() as home:
        memory = Memory()
        partitions = [Partition(number, Path(home), memory) for number in range(PARTITIONS)]
        for take in takes:
            began = time.process_time()
            made = staged(take)
            seconds["translate"] += time.process_time() - began
            for partition in partitions:
                partition.apply(made[partition.number], seconds)
    events = len(work) * BATCH_ITEMS
    us = {name: round(spent / events * 1e6, 2) for name, spent in seconds.items()}
    print(json.dumps({**described(), "events": events, "us": us, "sum": round(sum(us.values()), 1)}))


if __name__ == "__main__":
    main()
