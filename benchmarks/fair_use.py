"""``python -m benchmarks.fair_use``: what a tenant that floods the edge costs a tenant that does not.

On a whole line (edge, worker, sink with chDB, Kafka), a quiet tenant posts small batches at a fixed
rate. In turn it is alone, beside a tenant that floods the edge and has a limit of items, and beside one
that has none. The flooding client has a process of its own and many connections, and posts again at
once when it is refused (429): the worst client that there is. The benchmark prints the latency of the
quiet tenant's answers, and of its rows in ClickHouse.
"""

import argparse
import json
import statistics
import time
from contextlib import closing
from itertools import cycle, islice, takewhile
from multiprocessing import get_context
from typing import Any, NamedTuple

from benchmarks.flood import TAKEN, flood, request
from benchmarks.line import POLL_S, Answered, Body, Poster, Rows, requests, verify, warm_up, watch
from benchmarks.machine import described, fresh_home
from benchmarks.yardstick import BATCH_ITEMS, TENANTS
from connectors.demo.day import NATIVE
from connectors.edge.tenants import Registry
from connectors.local.stack import Stack, on_any_ports
from streams.kafka.lag import records_behind
from streams.settings import Settings

QUIET, LIMITED, UNLIMITED = "quiet", "limited", "unlimited"
QUIET_ITEMS = 10
CONNECTIONS = 32
DRAINED_WITHIN_S = 300.0
RATE_LIMITED = 429


class Flood(NamedTuple):
    """A flood of one tenant: where, with which key, how many seconds, and a seed of its events."""

    host: str
    port: int
    key: str
    seconds: float
    seed: int


def run_flood(job: Flood) -> None:
    """Posts bodies of 500 items until the time is over or all bodies were sent once."""
    made = requests(50 * BATCH_ITEMS, BATCH_ITEMS, job.seed)
    posts = [request(NATIVE, job.key, body.data) for body in made]
    end = time.monotonic() + job.seconds
    coming = takewhile(lambda _: time.monotonic() < end, cycle(posts))
    flood(job.host, job.port, coming, CONNECTIONS, (*TAKEN, RATE_LIMITED))


def measure(seconds: float, rounds: int, rate: float, limit: float) -> dict[str, list[dict[str, Any]]]:
    """Latencies by the flooding tenant ("" for none): one entry a round, in milliseconds.

    ``rate``: requests a second of the quiet tenant; ``limit``: items a second of the limited one.
    """
    settings = on_any_ports(Settings(data_dir=fresh_home()))
    registry = Registry(settings.tenants_path)
    keys = {
        name: registry.add(name, False, campaigns_enabled=True) for name in (QUIET, LIMITED, UNLIMITED)
    }
    registry.limit(LIMITED, {"items_per_s": limit})
    found: dict[str, list[dict[str, Any]]] = {"": [], LIMITED: [], UNLIMITED: []}
    per_phase = int(seconds * rate)
    made = iter(requests((3 * rounds + 1) * per_phase * QUIET_ITEMS, QUIET_ITEMS))
    with (
        Stack(settings) as stack,
        closing(Poster(stack, dict.fromkeys(TENANTS, keys[QUIET]))) as poster,
    ):
        warm_up(stack, poster, list(islice(made, per_phase)), rate * QUIET_ITEMS)
        for turn in range(rounds):
            for noisy, phases in found.items():
                bodies = list(islice(made, per_phase))
                where = stack.settings.edge_host, stack.settings.edge_port
                job = Flood(*where, keys[noisy], seconds, 100 + turn) if noisy else None
                phases.append(_phase(stack, poster, bodies, rate, job))
        verify(stack.settings)
    return found


def _phase(
    stack: Stack, poster: Poster, bodies: list[Body], rate: float, job: Flood | None
) -> dict[str, Any]:
    answered: Answered = {}
    flooding = get_context("spawn").Process(target=run_flood, args=(job,)) if job else None
    if flooding:
        flooding.start()
    try:
        rows, began = Rows(stack.settings), time.monotonic()
        for number, body in enumerate(bodies):
            poster.post(body, began + number / rate, answered)
        waits = watch(stack, poster, rows, answered, len(bodies))
    finally:
        if flooding:
            flooding.join()
    if flooding and flooding.exitcode:
        raise RuntimeError(f"the flooding client ended with {flooding.exitcode}")
    wait_until_drained(stack)
    return {
        "answer_ms": quantiles([answer.at - answer.began for answer in answered.values()]),
        "in_clickhouse_ms": quantiles(waits),
    }


def wait_until_drained(stack: Stack) -> None:
    """Returns when no stage is behind. Raises ``RuntimeError`` if that takes too long."""
    deadline = time.monotonic() + DRAINED_WITHIN_S
    while any(records_behind(stack.settings).values()):
        stack.supervisor.check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"the line is still behind: {records_behind(stack.settings)}")
        time.sleep(POLL_S)


def quantiles(seconds: list[float]) -> dict[str, float]:
    """p50, p99 and the worst in milliseconds."""
    shares = statistics.quantiles(seconds, n=100, method="inclusive")
    return {
        "p50": round(shares[49] * 1e3, 1),
        "p99": round(shares[98] * 1e3, 1),
        "worst": round(max(seconds) * 1e3, 1),
    }


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each phase")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--rate", type=float, default=20.0, help="requests a second of the quiet tenant"
    )
    parser.add_argument(
        "--limit", type=float, default=2_000.0, help="items a second of the limited one"
    )
    given = parser.parse_args()
    found = measure(given.seconds, given.rounds, given.rate, given.limit)
    print(json.dumps({**described(), **vars(given), "beside": found}, indent=2))


if __name__ == "__main__":
    main()
