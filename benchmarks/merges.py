"""Holds the whole line at a rate while RocksDB merges the windows of all partitions completely.

In a line that runs for hours the largest files of all windows are merged at about the same time. Here
each window begins with files of equal size that are not merged, and the first flush of the worker, some
25 s later at half of the full rate, has RocksDB merge all of them. Prints a Markdown row for each ten
seconds, as :mod:`benchmarks.hours` does.
"""

import argparse
import random
import time
from functools import partial
from pathlib import Path

from rocksdict import MemtableFactory, Rdict, WriteBatch, WriteBufferManager, WriteOptions

from benchmarks.hours import hold
from connectors.local.stack import Stack
from streams.core.identity import CONTENT_BYTES, ID_BYTES
from streams.settings import Settings
from streams.stages.process import ID_KEY, ROUND_KEY
from streams.state.owned_partition import window_directory
from streams.state.rocksdb import MERGED_FILES, Memory

EVERY_S = 10.0
ROUNDS_AN_EVENT, ROUND_BYTES = 0.5, 160
"""Of the yardstick job, about: rounds written, and the size of one."""

WRITE_EVENTS = 1_000
FILE_BYTES_MAX = 8 << 30


def fill(settings: Settings, events: int) -> None:
    """Writes the ids and rounds of ``events`` events to the windows that the worker opens."""
    for partition in range(settings.partitions):
        window = window_directory(settings, "worker-0", partition)
        _fill(window / str(int(time.time())), events // settings.partitions)


def _fill(directory: Path, events: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    options = Memory().unlimited
    options.set_disable_auto_compactions(True)
    options.set_memtable_factory(MemtableFactory.vector())
    options.set_allow_concurrent_memtable_write(False)
    options.set_write_buffer_size(FILE_BYTES_MAX)
    options.set_write_buffer_manager(WriteBufferManager(FILE_BYTES_MAX, False))
    unlogged = WriteOptions()
    unlogged.disable_wal = True  # type: ignore[method-assign,assignment]  # a property
    rng = random.Random(1)
    database = Rdict(str(directory), options, {"default": options})
    files = MERGED_FILES - 1  # with one more they are merged
    for _ in range(files):
        for _ in range(0, events // files, WRITE_EVENTS):
            batch = WriteBatch(raw_mode=True)
            for _ in range(WRITE_EVENTS):
                batch.put(ID_KEY + rng.randbytes(ID_BYTES), rng.randbytes(CONTENT_BYTES))
            for _ in range(int(WRITE_EVENTS * ROUNDS_AN_EVENT)):
                half = rng.randbytes(ROUND_BYTES // 2)
                batch.put(ROUND_KEY + rng.randbytes(ID_BYTES), half + half)
            database.write(batch, unlogged)
        database.flush(True)
    database.close()


def restart_with(stack: Stack, events: int) -> None:
    """Ends the worker, fills its windows, and starts it again."""
    stack.supervisor.end("worker-0")
    fill(stack.settings, events)
    stack.start("worker-0", "worker-process", "0")


def main() -> None:
    """Prints a Markdown table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=16_600, help="events a second")
    parser.add_argument("--events", type=int, default=48_000_000, help="in the windows before")
    parser.add_argument("--seconds", type=float, default=150.0)
    arguments = parser.parse_args()
    hold(
        arguments.rate,
        EVERY_S,
        round(arguments.seconds / EVERY_S),
        before=partial(restart_with, events=arguments.events),
    )


if __name__ == "__main__":
    main()
