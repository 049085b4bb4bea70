"""Measures how long ``roundhouse repartition`` takes to copy the state of a partition to a new one."""

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.broker import kafka
from benchmarks.machine import described, fresh_home
from benchmarks.recovery import fill
from streams.kafka.admin import ensure_topics
from streams.kafka.schema_ids import frames
from streams.kafka.schemas import Schemas
from streams.state.repartition import Repartitioning


def measure(ids: int) -> dict[str, Any]:
    """Repartitions one partition with ``ids`` ids and their rounds into two."""
    with kafka(fresh_home()) as (node, _):
        settings = node.model_copy(update={"partitions": 1})
        ensure_topics(settings)
        fill(settings, range(ids))
        began = time.monotonic()
        schemas = Schemas(settings, frames(settings))
        [copied] = Repartitioning(settings, schemas, 2, print).run(dry=False)
        return {"ids": ids, "seconds": round(time.monotonic() - began, 2), **copied._asdict()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ids", type=int, nargs="+", default=[1_000_000])
    given = parser.parse_args(arguments)
    print(json.dumps({**described(), "runs": [measure(ids) for ids in given.ids]}, indent=2))


if __name__ == "__main__":
    main()
