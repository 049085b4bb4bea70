"""A worker process that ends at a named point, as if it had been killed there.

``python -m tests.faults.crashing_worker COUNTER_FILE POINT...``: each start takes the next of the
points (names in :data:`POINTS`) by the counter file and dies there at the third pass; after all have
had their turn it runs on. Wraps the real methods from outside, so the line itself knows nothing of it.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streams import ledger, stages, table
from streams.agents import run_worker
from streams.settings import Settings

PASSES = 3


def _before(owner: Any, name: str) -> None:
    _wrap(owner, name, before=True)


def _after(owner: Any, name: str) -> None:
    _wrap(owner, name, before=False)


def _wrap(owner: Any, name: str, before: bool) -> None:
    inner: Callable[..., Any] = getattr(owner, name)
    passes = 0

    def outer(*args: Any, **kwargs: Any) -> Any:
        nonlocal passes
        passes += 1
        if before and passes == PASSES:
            os.kill(os.getpid(), signal.SIGKILL)
        result = inner(*args, **kwargs)
        if passes == PASSES:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, outer)


POINTS: dict[str, Callable[[], None]] = {
    "before a transaction begins": lambda: _before(ledger.Ledger, "_commit"),
    "between two sends of a transaction": lambda: _after(ledger.Ledger, "_send"),
    "between commit and the local write": lambda: _before(table.Window, "write"),
    "between the local writes": lambda: _after(table.Window, "write"),
    "between the local write and the acknowledgement": lambda: _after(ledger.Ledger, "apply"),
    "while partitions open": lambda: _before(ledger.Ledger, "_recover"),
    "between fencing and recovery": lambda: _before(ledger, "recover"),
    "after recovery": lambda: _after(ledger.Ledger, "_read_position"),
    "before translate sends": lambda: _before(stages.Translate, "__call__"),
    "between two sends of translate": lambda: _after(stages.Translate, "_send"),
    "between translate's flush and the acknowledgement": lambda: _after(stages.Translate, "__call__"),
}


def main() -> None:
    """Takes the next point, arms it, runs the worker."""
    counter, points = Path(sys.argv[1]), sys.argv[2:]
    turn = int(counter.read_text()) if counter.exists() else 0
    counter.write_text(str(turn + 1))
    if turn < len(points):
        print(f"crash point: {points[turn]}", flush=True)
        POINTS[points[turn]]()
    run_worker(Settings.load(), "worker-0")


if __name__ == "__main__":
    main()
