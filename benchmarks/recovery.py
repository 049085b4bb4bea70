"""How long a partition takes to build its state from an empty disk, and what an id costs there.

Fills the window's changelog of one partition with ids as transactions leave them there, opens the
partition on an empty disk and on the disk it leaves, and measures.
"""

import argparse
import json
import shutil
import threading
import time
from functools import reduce
from pathlib import Path
from typing import Any

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
from streams.state.owned_partition import (
    OwnedPartition,
    Shared,
    open_partition,
    state_directory,
    window_directory,
)
from streams.state.recovery import Recoveries
from streams.state.rocksdb import Memory
from streams.state.table import Window
from streams.telemetry.worker_metrics import WorkerMetrics
from streams.wire.avro import frame
from streams.wire.contracts import SCHEMA_IDS

FRAMES = {name: frame(number) for name, number in SCHEMA_IDS.items()}
IDS_A_RECORD = 2_000
LEAD = reduce(lengthened, ("acme", "native", "gameround"), "")


def fill(settings: Settings, ids: int) -> None:
    """Writes ``ids`` ids to the changelog, the position with each record."""
    producer = idempotent_producer(settings)
    position = Position(-1, {})
    for start in range(0, ids, IDS_A_RECORD):
        numbers = range(start, min(start + IDS_A_RECORD, ids))
        keys = [ID_KEY + hash_after(LEAD, str(number)) for number in numbers]
        [record] = changelog_records({key: content_hash([key]) for key in keys}, position)
        value = FRAMES["window-changes"] + record
        producer.produce(settings.topic_prefix + WINDOW, value, partition=0)
        producer.poll(0)
    producer.flush()


def opened(settings: Settings, cluster: str) -> tuple[float, float, OwnedPartition]:
    """Opens the partition; wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    schemas, lock = Schemas(settings, FRAMES), threading.Lock()
    metrics = WorkerMetrics(CollectorRegistry())
    shared = Shared(settings, "bench", schemas, cluster, Memory(), lock, Recoveries(), metrics)
    owned = open_partition(shared, 0)
    return time.perf_counter() - wall, time.process_time() - cpu, owned


def measure(ids: int) -> dict[str, Any]:
    """One size, on a Kafka of its own."""
    with kafka(fresh_home()) as node:
        settings = node.settings.model_copy(update={"partitions": 1})
        cluster = wait_for_broker(settings, 60)
        ensure_topics(settings)
        opened(settings, cluster)[2].close()  # or Kafka would make its log of transactions meanwhile
        shutil.rmtree(state_directory(settings, "bench", 0))
        fill(settings, ids)
        wall, cpu, owned = opened(settings, cluster)
        found = owned.reader.window([ID_KEY + hash_after(LEAD, str(ids - 1))])
        assert found[0] is not None, "the last id was not recovered"
        owned.close()
        window = window_directory(settings, "bench", 0)
        left = _bytes(window)
        again, _, owned = opened(settings, cluster)
        owned.close()
        merged = Window(window, cluster, settings.window_s, Memory())
        merged.compact()
        merged.close()
        return {
            "ids": ids,
            "empty_disk_s": round(wall, 2),
            "empty_disk_cpu_s": round(cpu, 2),
            "ids_per_s": round(ids / wall),
            "kept_disk_s": round(again, 2),
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
