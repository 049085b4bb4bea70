"""Measures the whole line, edge to ClickHouse (chDB), on one machine: rate, CPU by process, latency.

There are three measurements with the yardstick traffic. Each runs on a line of its own and is verified
by the accounts in ClickHouse (received = settled, accepted = stored, transactions = in rounds):

- sustained: bodies of 500 items are posted as fast as they are acknowledged, with a limit on the items
  not yet in ClickHouse; the first fifth is warm-up and not measured;
- latency: the time from the edge's answer until all rows of the batch can be read, at shares of that
  rate;
- requests: the cost of a request and of an event in requests of 1 to 10,000 items.
"""

import argparse
import bisect
import http.client
import json
import math
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.flood import TAKEN, flood, request
from benchmarks.machine import Probe, cpu_s, described, fresh_home, peak_mib
from benchmarks.yardstick import BATCH_ITEMS, TENANTS, WARM_UP_SHARE, bodies
from connectors.clickhouse.query import query_bytes
from connectors.demo.day import NATIVE
from connectors.demo.run import accounts, is_balanced
from connectors.edge.tenants import Registry
from connectors.local.stack import Stack, on_any_ports
from streams.settings import Settings

WARM_UP_S = 40.0
AHEAD_ITEMS = 60_000
POSTERS = 4
MANY_POSTERS = 64
POLL_S = 0.25
"""Between two questions about what is settled. A question costs the sink milliseconds of CPU."""

LOOK_S = 0.01
LOOK_ANYWAY_S = 0.5
"""Between two looks for new parts of the tables, which cost the sink nothing, and between two questions
about what can be read even if there is no new part."""

KEPT_ALIVE_S = 2.0
REQUEST_ITEMS = (1, 10, 100, 500, 1_000, 10_000)
REQUESTS_ITEMS_MIN = 100_000


class Body(NamedTuple):
    """A request to be posted."""

    tenant: str
    data: bytes
    items: int


def requests(items: int, batch_items: int, seed: int = 1) -> list[Body]:
    """Yardstick bodies with ``items`` items in total."""
    return list(stream(batch_items, seed, items))


def stream(batch_items: int, seed: int, items: float = math.inf) -> Iterator[Body]:
    """Yardstick bodies, made one by one, with ``items`` items in total or without end."""
    received = 0
    for tenant, data, summary in bodies(items, seed, batch_items):
        yield Body(tenant, data, summary.received - received)
        received = summary.received


class Poster:
    """Posts bodies from several threads, over connections that are kept open."""

    def __init__(self, stack: Stack, keys: dict[str, str]) -> None:
        self._where = stack.settings.edge_host, stack.settings.edge_port
        self.keys = keys
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []
        self._pool = ThreadPoolExecutor(POSTERS)
        self._posts: deque[Future[None]] = deque()

    def post(self, body: Body, at: float = 0.0, answered: "Answered | None" = None) -> None:
        """Posts a body in one of the threads, not before ``at``; adds the answer to ``answered``."""
        self._posts.append(self._pool.submit(self._post, body, at, answered))

    def check(self) -> None:
        """Raises the exception of a post that has failed."""
        while self._posts and self._posts[0].done():
            self._posts.popleft().result()

    def _post(self, body: Body, at: float, answered: "Answered | None") -> None:
        time.sleep(max(0.0, at - time.monotonic()))
        began = time.monotonic()
        connection = self._connection()
        headers = {"content-type": "application/json", "x-api-key": self.keys[body.tenant]}
        connection.request("POST", NATIVE, body.data, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status not in TAKEN:
            raise RuntimeError(f"the edge answered {answer.status}")
        if answered is not None:
            answered[answer.headers["x-batch-id"] or ""] = Answer(began, time.monotonic(), body.items)

    def _connection(self) -> http.client.HTTPConnection:
        """This thread's connection, reopened after a pause in which the edge may have closed it."""
        now = time.monotonic()
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(*self._where, timeout=60)
            self._connections.append(connection)
        elif now - self._local.used > KEPT_ALIVE_S:
            connection.close()
        self._local.used = now
        return connection

    def close(self) -> None:
        """Ends the threads and closes the connections."""
        self._pool.shutdown(cancel_futures=True)
        for connection in self._connections:
            connection.close()


class Answer(NamedTuple):
    """The times at which a request began and was answered (monotonic, s), and its number of items."""

    began: float
    at: float
    items: int


Answered = dict[str, Answer]
"""By batch."""


@contextmanager
def line(workers: int) -> Iterator[tuple[Stack, Poster]]:
    """Runs a new line with a key for each tenant; yields when it is ready."""
    settings = on_any_ports(Settings(data_dir=fresh_home()))
    registry = Registry(settings.tenants_path)
    keys = {name: registry.add(name, False, campaigns_enabled=True) for name in TENANTS}
    with Stack(settings, processes=workers) as stack, closing(Poster(stack, keys)) as poster:
        yield stack, poster


def asked(settings: Settings, sql: str) -> list[dict[str, Any]]:
    """The rows of a question, answered by one thread: more would take several times its CPU."""
    rows: list[dict[str, Any]] = json.loads(query_bytes(settings, sql, "json", threads=1))["data"]
    return rows


def settled(settings: Settings) -> int:
    """The number of items whose outcome is in ClickHouse."""
    sql = "SELECT sum(accepted + duplicate + conflict + rejected) AS n FROM outcomes_rows"
    return int(asked(settings, sql)[0]["n"] or 0)


def wait_until_settled(
    stack: Stack, poster: Poster, items: int, progress: Callable[[int], None] = lambda count: None
) -> None:
    """Returns when ``items`` items are settled; ``progress`` is called with the number settled so far.

    Raises ``RuntimeError`` if the number does not grow any more.
    """
    before, last = -1, time.monotonic()
    while True:
        stack.supervisor.check()
        poster.check()
        count = settled(stack.settings)
        progress(count)
        if count >= items:
            return
        if count > before:
            before, last = count, time.monotonic()
        if time.monotonic() - last > 60:
            raise RuntimeError(f"the line makes no progress: {count} of {items} items are settled")
        time.sleep(POLL_S)


def verify(settings: Settings) -> None:
    """Raises ``RuntimeError`` unless the accounts balance."""
    deadline = time.monotonic() + 30
    while not all(map(is_balanced, accounts(settings).values())):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the accounts do not balance: {accounts(settings)}")
        time.sleep(POLL_S)


class Usage:
    """The CPU of a stack's processes between two times."""

    def __init__(self, stack: Stack) -> None:
        self._pids = stack.supervisor.pids()
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        return {name: cpu_s(pid) for name, pid in self._pids.items()}

    def us_per(self, count: int) -> dict[str, float]:
        """Microseconds of CPU since the beginning, by kind of process, divided by ``count``."""
        total: dict[str, float] = {}
        for name, now in self._now().items():
            kind = name.split("-")[0]
            total[kind] = total.get(kind, 0.0) + (now - self._before[name]) / count * 1e6
        return {kind: round(value, 1) for kind, value in total.items()}

    def peak_mib(self) -> dict[str, int]:
        """The peak memory of each process."""
        return {name: round(peak_mib(pid)) for name, pid in self._pids.items()}


def warm_up(stack: Stack, poster: Poster, made: list[Body], rate: float = 0.0) -> int:
    """Posts ``made``, at ``rate`` items a second if given, and waits until it is settled; returns its
    number of items."""
    began, sent = time.monotonic(), 0
    for body in made:
        poster.post(body, began + sent / rate if rate else 0.0)
        sent += body.items
    wait_until_settled(stack, poster, sent)
    return sent


def sustained(items: int, workers: int) -> dict[str, Any]:
    """The rate at which items are settled while more are always waiting, and the cost of each."""
    made = requests(items, BATCH_ITEMS)
    warm = int(len(made) * WARM_UP_SHARE)
    coming = iter(made[warm:])
    total = sum(body.items for body in made)
    with line(workers) as (stack, poster):
        sent = warm_items = warm_up(stack, poster, made[:warm])

        def keep_ahead(count: int) -> None:
            nonlocal sent
            while sent - count < AHEAD_ITEMS and (body := next(coming, None)) is not None:
                poster.post(body)
                sent += body.items

        usage, began = Usage(stack), time.monotonic()
        with Probe() as probe:
            wait_until_settled(stack, poster, total, keep_ahead)
        wall = time.monotonic() - began
        costs, peaks = usage.us_per(total - warm_items), usage.peak_mib()
        verify(stack.settings)
    return {
        "items": total - warm_items,
        "workers": workers,
        "events_per_s": round((total - warm_items) / wall),
        "cpu_us_per_event": costs,
        "cpu_us_per_event_without_broker": round(sum(costs.values()) - costs["kafka"], 1),
        "peak_mib": peaks,
        "probe_ms": probe.ms,
    }


def latency(rate: float, seconds: float, workers: int, warm_s: float = WARM_UP_S) -> dict[str, Any]:
    """Seconds from the answer until all rows of a batch can be read, at ``rate`` items a second.

    The same load runs for ``warm_s`` seconds before the measurement: in that time the compiler of the
    broker's JVM uses most of a core.
    """
    made = requests(int(rate * (warm_s + seconds)), BATCH_ITEMS, seed=2)
    warm = int(rate * warm_s) // BATCH_ITEMS
    rest = made[warm:]
    answered: Answered = {}
    with line(workers) as (stack, poster):
        warm_up(stack, poster, made[:warm], rate)
        rows = Rows(stack.settings)
        usage, began = Usage(stack), time.monotonic()
        for number, body in enumerate(rest):
            poster.post(body, began + number * BATCH_ITEMS / rate, answered)
        with Probe() as probe:
            waits = watch(stack, poster, rows, answered, len(rest))
        costs = usage.us_per(sum(body.items for body in rest))
        verify(stack.settings)
    waits.sort()
    return {
        "events_per_s": round(rate),
        "batches": len(waits),
        "p50_ms": percentile_ms(waits, 50),
        "p95_ms": percentile_ms(waits, 95),
        "p99_ms": percentile_ms(waits, 99),
        "worst_ms": round(waits[-1] * 1000),
        "cpu_us_per_event": costs,
        "probe_ms": probe.ms,
    }


def percentile_ms(waits: list[float], share: int) -> int:
    """A percentile of times in seconds, in milliseconds."""
    return round(statistics.quantiles(waits, n=100, method="inclusive")[share - 1] * 1000)


_TABLES = "game_transactions_rows", "outcomes_rows"

_NEWEST = f"""
SELECT table AS batch_id, toUInt64(max(max_block_number)) AS n FROM system.parts
WHERE database = currentDatabase() AND table IN {_TABLES} GROUP BY table
"""

_FOUND = f"""
SELECT batch_id, sum(n) AS n FROM (
    SELECT batch_id, count() AS n FROM game_transactions_rows
    WHERE batch_id IN ({{batches}})
        AND toUInt64(splitByChar('_', _part)[3]) > {{game_transactions_rows}}
    GROUP BY batch_id
    UNION ALL
    SELECT batch_id, toUInt64(sum(duplicate + conflict + rejected)) AS n FROM outcomes_rows
    WHERE batch_id IN ({{batches}})
        AND toUInt64(splitByChar('_', _part)[3]) > {{outcomes_rows}}
    GROUP BY batch_id
    UNION ALL {_NEWEST}
) GROUP BY batch_id
"""


_DIRECTORIES = f"""
SELECT data_paths[1] AS path FROM system.tables
WHERE database = currentDatabase() AND name IN {_TABLES}
"""


class _Inserts:
    """Looks for new parts in the directories of the tables that :class:`Rows` counts."""

    def __init__(self, settings: Settings) -> None:
        self._parts = {Path(row["path"]): 0 for row in asked(settings, _DIRECTORIES)}
        self._changed_ns = dict.fromkeys(self._parts, 0)
        self._found_at = 0.0

    def found(self) -> bool:
        """Whether there were inserts since it was last true, or :data:`LOOK_ANYWAY_S` have passed."""
        new = time.monotonic() - self._found_at > LOOK_ANYWAY_S
        for path, newest in self._parts.items():
            changed_ns = path.stat().st_mtime_ns
            if changed_ns != self._changed_ns[path]:
                self._changed_ns[path] = changed_ns
                self._parts[path] = max(
                    (int(part.name.split("_")[1]) for part in path.glob("all_*")), default=0
                )
                new |= self._parts[path] > newest
        if new:
            self._found_at = time.monotonic()
        return new


_Blocks = dict[str, int]
"""The newest block of each table."""


class Rows:
    """Counts the rows of batches that can be read. Make it before their requests begin: only parts
    with newer rows are read, so that a question costs the same however much the tables have.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._blocks: list[tuple[float, _Blocks]] = []
        self._since: dict[str, _Blocks] = {}
        self._counted(_NEWEST)

    def of(self, batches: Answered) -> dict[str, int]:
        """The number of rows by batch, counted after the last block known when its request began."""
        self._since = {
            batch: self._since.get(batch) or self._blocks_before(answer.began)
            for batch, answer in batches.items()
        }
        names = ", ".join(f"'{batch}'" for batch in self._since) or "''"
        _, latest = self._blocks[-1]
        since = {
            table: min((blocks[table] for blocks in self._since.values()), default=latest[table])
            for table in _TABLES
        }
        return self._counted(_FOUND.format(batches=names, **since))

    def _counted(self, sql: str) -> dict[str, int]:
        """The answer, by batch; the newest blocks in it are kept."""
        found = {row["batch_id"]: int(row["n"]) for row in asked(self._settings, sql)}
        self._blocks.append((time.monotonic(), {table: found.pop(table, 0) for table in _TABLES}))
        return found

    def _blocks_before(self, moment: float) -> _Blocks:
        at = bisect.bisect_right(self._blocks, moment, lo=1, key=lambda known: known[0])
        return self._blocks[at - 1][1]


def watch(stack: Stack, poster: Poster, rows: Rows, answered: Answered, batches: int) -> list[float]:
    """Asks after each insert which batches are complete; returns their latencies in seconds."""
    waits: list[float] = []
    waiting: Answered = {}
    known: set[str] = set()
    inserts = _Inserts(stack.settings)
    last = time.monotonic()
    while len(waits) < batches:
        stack.supervisor.check()
        poster.check()
        if not inserts.found():
            time.sleep(LOOK_S)
            continue
        for batch in answered.keys() - known:
            known.add(batch)
            waiting[batch] = answered[batch]
        found, now = rows.of(waiting), time.monotonic()
        for batch, answer in list(waiting.items()):
            if found.get(batch, 0) >= answer.items:
                waits.append(now - answer.at)
                del waiting[batch]
                last = now
        if time.monotonic() - last > 60:
            raise RuntimeError(f"{len(waiting)} batches do not arrive in ClickHouse")
    return waits


def request_size(size: int, items: int, workers: int) -> dict[str, Any]:
    """The costs of requests of ``size`` items, ``items`` in total, posted as fast as possible."""
    made = requests(items, size, seed=3)
    first = len(made) // 4
    with line(workers) as (stack, poster):
        where = stack.settings.edge_host, stack.settings.edge_port
        connections = MANY_POSTERS if size <= 10 else POSTERS
        posts = [request(NATIVE, poster.keys[body.tenant], body.data) for body in made]
        flood(*where, posts[:first], connections)
        warm = sum(body.items for body in made[:first])
        wait_until_settled(stack, poster, warm)
        usage, began = Usage(stack), time.monotonic()
        flood(*where, posts[first:], connections)
        wall = time.monotonic() - began
        rest = sum(body.items for body in made[first:])
        edge = usage.us_per(len(made) - first)["edge"]
        wait_until_settled(stack, poster, warm + rest)
        costs = usage.us_per(rest)
        verify(stack.settings)
    return {
        "items": size,
        "connections": connections,
        "requests_per_s": round((len(made) - first) / wall),
        "edge_us_per_request": edge,
        "requests_per_edge_core_s": round(1e6 / edge),
        "cpu_us_per_event": costs,
    }


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each latency measurement")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", choices=("sustained", "latency", "requests"))
    parser.add_argument("--rate", type=float, default=0.0, help="the full rate, where it is known")
    arguments = parser.parse_args()
    result: dict[str, Any] = {**described()}
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
        result["requests"] = [
            request_size(size, max(REQUESTS_ITEMS_MIN, size * 60), arguments.workers)
            for size in REQUEST_ITEMS
        ]
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
