"""Roundhouse's own commands, in processes that end at a named point when they are told to.

``python -m tests.faults.armed worker-process 0`` runs as ``roundhouse worker-process 0`` does. Writing
a point's name into the process's file (:func:`arm_file`) arms it: the process kills itself when it next
reaches that point; after :data:`HOLD` it waits there until the file is removed, after :data:`STOP` it
stops until it gets SIGCONT. The real methods are
wrapped from outside, so the line has no code for this.
"""

import inspect
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from connectors.backfill.journal import Progress
from connectors.campaigns import stored
from connectors.campaigns.settling import settle
from connectors.campaigns.settling.ledger import Ledger
from connectors.cli.main import main
from connectors.clickhouse import sink
from connectors.edge import writer
from connectors.standings.publisher import Publisher
from connectors.webhooks.delivery import Deliveries
from connectors.webhooks.poster import Poster
from streams.kafka.request_writer import RequestWriter
from streams.runtime import stages_on_kafka as stages
from streams.state import owned_partition, owners, table
from streams.state.lane import Lane
from streams.state.owned_partition import OwnedPartition


class Point(NamedTuple):
    """A point at which a process kills itself: before or after a call of a method.

    It exists in the processes whose names begin with ``process``.

    ``opening``: the point is passed only while a process opens its partitions; ``closing``: only while
    it closes them. ``together``: only if a transaction has all partitions of a worker.
    """

    process: str
    owner: Any
    method: str
    after: bool
    opening: bool = False
    closing: bool = False
    together: bool = False


POINTS = {
    "before a transaction begins": Point("worker", Lane, "_commit", after=False),
    "between two sends of a transaction": Point("worker", OwnedPartition, "_send", after=True),
    "between two partitions of a transaction": Point(
        "worker", OwnedPartition, "send", after=True, together=True
    ),
    "between commit and the local write": Point("worker", table.Window, "write", after=False),
    "between the local writes": Point("worker", table.Window, "write", after=True),
    "between the local write and the acknowledgement": Point("worker", Lane, "apply", after=True),
    "between a claim and a fence": Point(
        "worker", owners._Owners, "claim", after=True, opening=True, together=True
    ),
    "between closing and release": Point(
        "worker", owners.Lanes, "release", after=False, closing=True, together=True
    ),
    "while partitions open": Point("worker", owned_partition, "_recover", False, opening=True),
    "between fencing and recovery": Point("worker", owned_partition, "recover", False, opening=True),
    "after recovery": Point("worker", owned_partition, "_read_position", True, opening=True),
    "before translate sends": Point("worker", stages.Translate, "__call__", after=False),
    "between two sends of translate": Point("worker", stages.Translate, "_send", after=True),
    "between translate's flush and the acknowledgement": Point(
        "worker", stages.Translate, "__call__", after=True
    ),
    "before the edge writes": Point("edge", writer.KafkaWriter, "write", after=False),
    "between Kafka's acknowledgement and the answer": Point(
        "edge", writer.KafkaWriter, "write", after=True
    ),
    "before an insert": Point("sink", sink.ClickHouseTables, "insert", after=False),
    "between settlement and a backfill's journal": Point("backfill", Progress, "add", after=False),
    "between a correction's record and its write": Point(
        "rejects", RequestWriter, "write", after=False
    ),
    "between a correction's write and its outcome": Point(
        "rejects", RequestWriter, "flush", after=True
    ),
    "between fencing and reading what was settled": Point("campaign", Ledger, "take", after=True),
    "between reading what was settled and an evaluation": Point(
        "campaign", Ledger, "published", after=True
    ),
    "between the rows of a result and its run": Point("campaign", stored, "insert", after=True),
    "between a stored result and its settlement": Point("campaign", settle, "_stored", after=True),
    "within the transaction of a settlement": Point("campaign", Ledger, "_produce", after=True),
    "after the transaction of a settlement": Point("campaign", Ledger, "publish", after=True),
    "between a webhook and its record": Point("webhooks", Poster, "post", after=True),
    "between a webhook's record and the position": Point("webhooks", Deliveries, "flush", after=True),
    "between fencing and reading the standings": Point("standings", Publisher, "_read", after=False),
    "within a transaction of standings": Point("standings", Publisher, "_produce", after=True),
    "between two transactions of an evaluation": Point("standings", Publisher, "_commit", after=True),
    "after the end of an evaluation": Point("standings", Publisher, "write", after=True),
    "between insert and offset commit": Point("sink", sink.ClickHouseTables, "insert", after=True),
}


HOLD = "hold "
"""What stands before a point's name, which must be of a method in a thread of its own."""
STOP = "stop "
"""What stands before a point's name: the process is stopped there, as by SIGSTOP."""


def arm_file(home: Path, process: str) -> Path:
    """The file whose content arms a point of a process."""
    return home / f"armed-{process}"


def _wrap(point: Point, die: Callable[[], None]) -> None:
    inner: Callable[..., Any] = getattr(point.owner, point.method)
    if inspect.iscoroutinefunction(inner):

        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            if not point.after:
                die()
            result = await inner(*args, **kwargs)
            if point.after:
                die()
            return result

        setattr(point.owner, point.method, coroutine)
        return

    def function(*args: Any, **kwargs: Any) -> Any:
        if not point.after:
            die()
        result = inner(*args, **kwargs)
        if point.after:
            die()
        return result

    setattr(point.owner, point.method, function)


def _arm(process: str) -> None:
    path = arm_file(Path(os.environ["ROUNDHOUSE_DATA_DIR"]), process)

    def die_if(name: str) -> None:
        if not path.exists():
            return
        armed = path.read_text()
        if armed == name:
            path.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if armed == STOP + name:
            path.unlink()
            os.kill(os.getpid(), signal.SIGSTOP)
        while armed == HOLD + name and path.exists():
            time.sleep(0.1)

    for name, point in POINTS.items():
        if process.startswith(point.process):
            _wrap(point, lambda name=name: die_if(name))  # type: ignore[misc]


if __name__ == "__main__":
    command = sys.argv[1]
    _arm(f"worker-{sys.argv[2]}" if command == "worker-process" else command)
    main()
