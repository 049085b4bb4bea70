"""The whole line, edge to ClickHouse (chDB), on one machine: sustained rate, CPU by process, latency.

Three measurements of the yardstick traffic, each on a line of its own, each verified by the accounts in
ClickHouse (received = settled, accepted = stored, transactions = in rounds):

- sustained: bodies of 500 as fast as they are acknowledged, with at most so many items ahead of
  ClickHouse; the first fifth is left out as warm-up;
- latency: from the edge's answer until all rows of the batch can be read, at shares of that rate;
- requests: what a request and an event cost in requests of 1 to 10,000 items.
"""

import argparse
import http.client
import itertools
import json
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.worker import cpu_s, peak_mib
from benchmarks.yardstick import TENANTS, bodies
from connectors.clickhouse.query import query
from connectors.demo.run import accounts, is_balanced
from connectors.edge.tenants import Registry
from streams.settings import Settings
from streams.stack import Stack, with_free_ports

WARM_UP_SHARE = 0.2
AHEAD_ITEMS = 60_000
POSTERS = 4
POLL_S = 0.05
REQUEST_ITEMS = (1, 10, 100, 500, 1_000, 10_000)


class Body(NamedTuple):
    """A request to come."""

    tenant: str
    data: bytes
    items: int


def requests(items: int, batch_items: int, seed: int = 1) -> list[Body]:
    """Yardstick bodies of ``items`` items together."""
    made, received = [], 0
    for tenant, data, summary in bodies(items, seed, batch_items):
        made.append(Body(tenant, data, summary.received - received))
        received = summary.received
    return made


class Poster:
    """Posts bodies over connections that are kept open."""

    def __init__(self, stack: Stack, keys: dict[str, str]) -> None:
        self._where = stack.settings.edge_host, stack.settings.edge_port
        self._keys = keys
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []

    def post(self, body: Body) -> str:
        """Returns the batch id of an acknowledged request. Raises ``RuntimeError`` if it is refused."""
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(*self._where, timeout=60)
            self._connections.append(connection)
        headers = {"content-type": "application/json", "x-api-key": self._keys[body.tenant]}
        connection.request("POST", "/api/v1/events", body.data, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status not in (204, 422):  # 422: some items were refused, the others are taken
            raise RuntimeError(f"the edge answered {answer.status}")
        return answer.headers["x-batch-id"] or ""

    def close(self) -> None:
        """Closes the connections."""
        for connection in self._connections:
            connection.close()


@contextmanager
def line(workers: int) -> Iterator[tuple[Stack, Poster]]:
    """A line of its own, ready, with a key for each tenant."""
    with tempfile.TemporaryDirectory(prefix="roundhouse-bench-") as home:
        settings = with_free_ports(Settings(data_dir=Path(home)))
        registry = Registry(settings.tenants_home)
        keys = {name: registry.add(name, False, campaigns_enabled=True) for name in TENANTS}
        with Stack(settings, processes=workers) as stack, closing(Poster(stack, keys)) as poster:
            yield stack, poster


def settled(settings: Settings) -> int:
    """Items that have their outcome in ClickHouse."""
    sql = "SELECT sum(accepted + duplicate + conflict + rejected) AS n FROM outcomes_rows"
    return int(json.loads(query(settings, sql, "json"))["data"][0]["n"] or 0)


def wait_until_settled(stack: Stack, items: int) -> None:
    """Returns when so many items are settled. Raises ``RuntimeError`` if they do not come."""
    count, last = 0, time.monotonic()
    while count < items:
        stack.supervisor.check()
        now, before = time.monotonic(), count
        count = settled(stack.settings)
        last = now if count > before else last
        if now - last > 60:
            raise RuntimeError(f"the line stands still at {count} of {items}")
        time.sleep(POLL_S)


def verify(settings: Settings) -> None:
    """Raises ``RuntimeError`` unless the accounts balance."""
    deadline = time.monotonic() + 30
    while not all(map(is_balanced, accounts(settings).values())):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the accounts do not balance: {accounts(settings)}")
        time.sleep(POLL_S)


class Usage:
    """CPU of a stack's processes between two moments."""

    def __init__(self, stack: Stack) -> None:
        self._pids = stack.supervisor.pids()
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        return {name: cpu_s(pid) for name, pid in self._pids.items()}

    def us_per(self, count: int) -> dict[str, float]:
        """Microseconds by kind of process since the beginning, for each of ``count``."""
        total: dict[str, float] = {}
        for name, now in self._now().items():
            kind = name.split("-")[0]
            total[kind] = total.get(kind, 0.0) + (now - self._before[name]) / count * 1e6
        return {kind: round(value, 1) for kind, value in total.items()}

    def peak_mib(self) -> dict[str, int]:
        """Peak memory by process."""
        return {name: round(peak_mib(pid)) for name, pid in self._pids.items()}


def post_all(poster: Poster, made: list[Body], gate: threading.Semaphore | None = None) -> None:
    """Posts everything from a few threads; a permit of ``gate`` is taken for each body."""
    queue = iter(made)
    lock = threading.Lock()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            while not failed:
                with lock:
                    body = next(queue, None)
                if body is None:
                    return
                if gate is not None:
                    gate.acquire()
                poster.post(body)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(POSTERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def sustained(items: int, workers: int) -> dict[str, Any]:
    """The rate at which items settle while the line has always more to do, and what each costs."""
    made = requests(items, 500)
    warm = made[: int(len(made) * WARM_UP_SHARE)]
    rest = made[len(warm) :]
    with line(workers) as (stack, poster):
        post_all(poster, warm)
        warm_items = sum(body.items for body in warm)
        wait_until_settled(stack, warm_items)
        usage, began = Usage(stack), time.monotonic()
        gate = threading.Semaphore(AHEAD_ITEMS // 500)
        feeding = threading.Thread(target=post_all, args=(poster, rest, gate))
        feeding.start()
        done, total = warm_items, warm_items + sum(body.items for body in rest)
        while done < total:
            stack.supervisor.check()
            now = settled(stack.settings)
            for _ in range((now - done) // 500):
                gate.release()
            done += (now - done) // 500 * 500
            if now == total:
                break
            time.sleep(POLL_S)
        wall = time.monotonic() - began
        feeding.join()
        costs, peaks = usage.us_per(total - warm_items), usage.peak_mib()
        verify(stack.settings)
    return {
        "items": total - warm_items,
        "workers": workers,
        "events_per_s": round((total - warm_items) / wall),
        "cpu_us_per_event": costs,
        "cpu_us_per_event_without_broker": round(sum(costs.values()) - costs["kafka"], 1),
        "peak_mib": peaks,
    }


def latency(rate: float, seconds: float, workers: int) -> dict[str, Any]:
    """Seconds from the answer until all rows of a batch can be read, at ``rate`` items a second."""
    made = requests(int(rate * seconds) + 20_000, 500, seed=2)
    warm, rest = made[:40], made[40:]
    answered: dict[str, tuple[float, int]] = {}
    with line(workers) as (stack, poster):
        post_all(poster, warm)
        wait_until_settled(stack, sum(body.items for body in warm))
        usage, began = Usage(stack), time.monotonic()
        numbers = itertools.count()

        def run() -> None:
            while (number := next(numbers)) < len(rest):
                time.sleep(max(0.0, began + number * 500 / rate - time.monotonic()))
                batch = poster.post(rest[number])
                answered[batch] = time.monotonic(), rest[number].items

        threads = [threading.Thread(target=run) for _ in range(POSTERS)]
        for thread in threads:
            thread.start()
        waits = _watch(stack, answered, len(rest))
        for thread in threads:
            thread.join()
        idle = usage.us_per(sum(body.items for body in rest))
        verify(stack.settings)
    waits.sort()
    return {
        "events_per_s": round(rate),
        "batches": len(waits),
        "p50_ms": _percentile(waits, 50),
        "p95_ms": _percentile(waits, 95),
        "p99_ms": _percentile(waits, 99),
        "worst_ms": round(waits[-1] * 1000),
        "cpu_us_per_event": idle,
    }


def _percentile(waits: list[float], share: int) -> int:
    return round(statistics.quantiles(waits, n=100, method="inclusive")[share - 1] * 1000)


def _watch(stack: Stack, answered: dict[str, tuple[float, int]], batches: int) -> list[float]:
    """Looks every :data:`POLL_S` which batches are whole."""
    waits: list[float] = []
    waiting: dict[str, tuple[float, int]] = {}
    known: set[str] = set()
    last = time.monotonic()
    while len(waits) < batches:
        stack.supervisor.check()
        for batch in answered.keys() - known:
            known.add(batch)
            waiting[batch] = answered[batch]
        if waiting:
            names = ", ".join(f"'{batch}'" for batch in waiting)
            sql = (
                "SELECT batch_id, if(stored >= counted, settled, 0) AS n FROM (SELECT batch_id, "
                "sum(accepted) AS counted, sum(accepted + duplicate + conflict + rejected) AS settled "
                f"FROM outcomes_rows WHERE batch_id IN ({names}) GROUP BY batch_id) AS o "
                "LEFT JOIN (SELECT batch_id, count() AS stored FROM game_transactions_rows "
                f"WHERE batch_id IN ({names}) GROUP BY batch_id) AS g USING (batch_id)"
            )
            found = {
                row["batch_id"]: int(row["n"])
                for row in json.loads(query(stack.settings, sql, "json"))["data"]
            }
            now = time.monotonic()
            for batch, (at, items) in list(waiting.items()):
                if found.get(batch, 0) >= items:
                    waits.append(now - at)
                    del waiting[batch]
                    last = now
        if time.monotonic() - last > 60:
            raise RuntimeError(f"{len(waiting)} batches do not come")
        time.sleep(POLL_S)
    return waits


def request_sizes(workers: int) -> list[dict[str, Any]]:
    """What requests of each size cost, posted as fast as they are acknowledged."""
    rows = []
    for size in REQUEST_ITEMS:
        made = requests(int(max(20_000, size * 200)), size, seed=3)
        with line(workers) as (stack, poster):
            post_all(poster, made[:5])
            items = sum(body.items for body in made[:5])
            wait_until_settled(stack, items)
            usage, began = Usage(stack), time.monotonic()
            post_all(poster, made[5:])
            wall = time.monotonic() - began
            rest = sum(body.items for body in made[5:])
            edge = usage.us_per(len(made) - 5)["edge"]
            wait_until_settled(stack, items + rest)
            costs = usage.us_per(rest)
            verify(stack.settings)
        rows.append(
            {
                "items": size,
                "requests_per_s": round((len(made) - 5) / wall),
                "edge_us_per_request": edge,
                "requests_per_edge_core_s": round(1e6 / edge),
                "cpu_us_per_event": costs,
            }
        )
    return rows


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each latency measurement")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", choices=("sustained", "latency", "requests"))
    parser.add_argument("--rate", type=float, default=0.0, help="the full rate, where it is known")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    rate = arguments.rate
    if arguments.only in (None, "sustained"):
        result["sustained"] = sustained(arguments.items, arguments.workers)
        rate = result["sustained"]["events_per_s"]
    if arguments.only in (None, "latency"):
        shares = [
            latency(rate * share, arguments.seconds, arguments.workers) for share in (0.25, 0.5, 0.75)
        ]
        result["latency"] = shares
    if arguments.only in (None, "requests"):
        result["requests"] = request_sizes(arguments.workers)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
