"""Measures how long a partition takes to open: without state, with its own state, with a standby copy.

The benchmark fills the window's changelog of one partition with ids as transactions write them. It
opens the partition in an empty directory, and again with the state that this leaves. Then another
worker follows the partition and stops, :data:`REST_IDS` more ids are written, and that worker opens its
copy.
"""

import argparse
import json
import shutil
import threading
import time
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry

from benchmarks.broker import kafka
from benchmarks.machine import described, fresh_home, own_peak_mib
from streams.core.identity import content_hash, hash_after, lengthened
from streams.kafka.admin import ensure_topics, wait_for_broker
from streams.kafka.clients import idempotent_producer
from streams.kafka.schemas import Schemas
from streams.records.topics import WINDOW
from streams.settings import Settings
from streams.stages.process import ID_KEY
from streams.state.changelog import Position, changelog_records
from streams.state.follower import Followers
from streams.state.owned_partition import (
    Shared,
    open_partition,
    state_directory,
    window_directory,
)
from streams.state.owners import Lanes
from streams.state.recovery import Recoveries
from streams.state.rocksdb import Memory
from streams.state.table import Window
from streams.telemetry.worker_metrics import WorkerMetrics
from streams.wire.avro import frame
from streams.wire.contracts import SCHEMA_IDS

FRAMES = {name: frame(number) for name, number in SCHEMA_IDS.items()}
IDS_A_RECORD = 2_000
LEAD = reduce(lengthened, ("acme", "native", "gameround"), "")
REST_IDS = 10_000
"""The ids written between the end of following and the opening: one second of a busy partition."""


def fill(settings: Settings, ids: range) -> None:
    """Writes ids to the changelog, with the position in each record."""
    producer = idempotent_producer(settings)
    position = Position(-1, {})
    for start in range(ids.start, ids.stop, IDS_A_RECORD):
        numbers = range(start, min(start + IDS_A_RECORD, ids.stop))
        keys = [key_of(number) for number in numbers]
        [record] = changelog_records({key: content_hash([key]) for key in keys}, position)
        value = FRAMES["window-changes"] + record
        producer.produce(settings.topic_prefix + WINDOW, value, partition=0)
        producer.poll(0)
    producer.flush()


def key_of(number: int) -> bytes:
    """The key of an id in the window."""
    return ID_KEY + hash_after(LEAD, str(number))


def shared_by(settings: Settings, cluster: str, worker: str) -> Shared:
    """What the partitions of a worker share; each worker has its own memory and progress."""
    schemas, lock = Schemas(settings, FRAMES), threading.Lock()
    metrics = WorkerMetrics(CollectorRegistry())
    lanes = Lanes(settings, worker, lock, metrics)
    return Shared(settings, worker, schemas, cluster, Memory(), lock, Recoveries(), metrics, lanes)


class Opening(NamedTuple):
    """The time that one opening took, and the number of entries that it read."""

    wall_s: float
    cpu_s: float
    entries: int


def opening(shared: Shared, last: int) -> Opening:
    """Opens the partition and closes it; its window must have the id ``last``."""
    wall, cpu = time.perf_counter(), time.process_time()
    owned = open_partition(shared, 0)
    took = time.perf_counter() - wall, time.process_time() - cpu
    if last >= 0:
        assert owned.reader.window([key_of(last)])[0] is not None, "the last id was not recovered"
    [progress] = shared.recoveries.now()
    owned.close()
    return Opening(*took, progress.entries)


def followed(shared: Shared) -> tuple[float, float]:
    """Follows the partition to its end, as a worker does; returns wall-clock and CPU seconds."""
    failures: list[BaseException] = []
    wall, cpu = time.perf_counter(), time.process_time()
    followers = Followers(shared, failures.append)
    followers.follow([0])
    while [copy.behind for copy in followers.now()] != [0] and not failures:
        time.sleep(0.01)
    took = time.perf_counter() - wall, time.process_time() - cpu
    followers.close()
    if failures:
        raise failures[0]
    return took


def measure(ids: int) -> dict[str, Any]:
    """Measures with ``ids`` ids, on a Kafka node of its own."""
    with kafka(fresh_home()) as node:
        settings = node.settings.model_copy(update={"partitions": 1})
        cluster = wait_for_broker(settings, 60)
        ensure_topics(settings)
        owner = shared_by(settings, cluster, "bench")
        opening(owner, -1)  # else Kafka would create its transaction log within the measurement
        shutil.rmtree(state_directory(settings, "bench", 0))
        fill(settings, range(ids))
        cold = opening(owner, ids - 1)
        window = window_directory(settings, "bench", 0)
        left = _bytes(window)
        kept = opening(owner, ids - 1)
        merged = Window(window, cluster, settings.window_s, Memory())
        merged.compact()
        merged.close()
        standby = shared_by(settings, cluster, "standby")
        copied_s, copied_cpu_s = followed(standby)
        fill(settings, range(ids, ids + REST_IDS))
        warm = opening(standby, ids + REST_IDS - 1)
        return {
            "ids": ids,
            "empty_disk_s": round(cold.wall_s, 2),
            "empty_disk_cpu_s": round(cold.cpu_s, 2),
            "ids_per_s": round(ids / cold.wall_s),
            "kept_disk_s": round(kept.wall_s, 2),
            "kept_disk_entries": kept.entries,
            "copy_built_s": round(copied_s, 2),
            "copy_built_cpu_s": round(copied_cpu_s, 2),
            "copy_opened_s": round(warm.wall_s, 2),
            "copy_opened_entries": warm.entries,
            "disk_bytes_per_id": round(left / ids, 1),
            "disk_bytes_per_id_compacted": round(_bytes(window) / ids, 1),
            "peak_mib": own_peak_mib(),
        }


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ids", type=int, nargs="+", default=[1_000_000, 4_000_000])
    arguments = parser.parse_args()
    result = {**described(), "runs": [measure(ids) for ids in arguments.ids]}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
