"""``python -m benchmarks.stop``: measures how long each process takes to stop under load.

A stack on a real Kafka is fed at full speed; each kind of process is sent SIGTERM several times and
started again. The benchmark prints a table of seconds from the signal to the end, and exit statuses.
"""

import argparse
import asyncio
import os
import signal
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx

from benchmarks.machine import described
from connectors.demo.day import day
from connectors.demo.feed import feed
from connectors.demo.run import demo_keys
from connectors.edge.tenants import Registry
from connectors.local.health import is_well
from connectors.local.stack import Stack, on_any_ports
from connectors.local.supervisor import Child, Supervisor
from streams.settings import Settings

KINDS = {"worker": "worker-0", "sink": "sink", "edge": "edge"}
UNDER_LOAD_S = 5.0


def measure(stops: int) -> dict[str, list[tuple[float, int]]]:
    """Seconds and exit status of each stop, by kind of process."""
    found: dict[str, list[tuple[float, int]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory(prefix="roundhouse-stop-") as home:
        settings = on_any_ports(Settings(data_dir=Path(home)))
        supervisor = Supervisor(Path(home) / "logs", pause_s=(0.1, 0.1))
        with Stack(settings, supervisor=supervisor) as stack:
            over = threading.Event()
            feeder = threading.Thread(target=_feed, args=(stack, over))
            feeder.start()
            try:
                for kind in list(KINDS) * stops:
                    found[kind].append(_stop(stack, kind))
            finally:
                over.set()
                feeder.join()
    return found


def _feed(stack: Stack, over: threading.Event) -> None:
    keys = demo_keys(Registry(stack.settings.tenants_path))
    seed = 1
    while not over.is_set():
        with suppress(httpx.TransportError):  # the edge is being restarted
            asyncio.run(feed(stack.edge_url, keys, day(seed=seed, events=5_000)))
        seed += 1


def _stop(stack: Stack, kind: str) -> tuple[float, int]:
    supervisor, name = stack.supervisor, KINDS[kind]

    def child() -> Child:
        return next(child for child in supervisor.children() if child.name == name)

    while not is_well(stack.settings, kind):
        supervisor.check()
        time.sleep(0.1)
    time.sleep(UNDER_LOAD_S)
    pid, restarts = child().pid, child().restarts
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    while child().starts_in_s is None and child().restarts == restarts:
        supervisor.check()
        time.sleep(0.01)
    took_s, status = time.monotonic() - began, child().exit_status
    assert status is not None
    return took_s, status


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stops", type=int, default=5, help="of each kind of process")
    stops = measure(parser.parse_args().stops)
    print(described())
    print("\n| process | stops | fastest | median | slowest | exit statuses |")
    print("|---|---|---|---|---|---|")
    for kind, found in stops.items():
        seconds = sorted(took_s for took_s, _ in found)
        statuses = ", ".join(map(str, sorted({status for _, status in found})))
        middle = seconds[len(seconds) // 2]
        print(
            f"| {kind} | {len(found)} | {seconds[0]:.1f} s | {middle:.1f} s | {seconds[-1]:.1f} s "
            f"| {statuses} |"
        )


if __name__ == "__main__":
    main()
