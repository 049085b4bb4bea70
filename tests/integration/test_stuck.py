"""A process that has work and does not go on says so over HTTP, with the reason, until it goes on."""

import asyncio
from pathlib import Path
from typing import Any

import httpx

from connectors.demo.day import day
from connectors.demo.feed import feed
from connectors.demo.run import accounts, demo_keys, is_balanced
from connectors.edge.tenants import Registry
from connectors.local.stack import Stack, on_any_ports
from streams.settings import Settings
from tests import clickhouse_server
from tests.faults.armed import HOLD, arm_file
from tests.faults.harness import PROGRAM, give_orders
from tests.scrapes import scrape, targets, total
from tests.waiting import WITHIN_S, wait_until

STUCK_AFTER_S = 10.0


def status(settings: Settings, job: str) -> dict[str, tuple[int, dict[str, Any]]]:
    """Code and content of the answers of a process, by route."""
    [target] = [target for target in targets(settings) if target.job == job]
    found = {}
    for route in ("livez", "readyz", "healthz"):
        answer = httpx.get(f"http://{target.address}/{route}", timeout=WITHIN_S)
        found[route] = answer.status_code, answer.json()
    return found


def becomes_stuck(settings: Settings, job: str) -> str:
    """Waits until a process is stuck on all routes and in its metrics; returns the reason."""

    def stuck() -> bool:
        return all(
            (code, found["status"], found["live"]) == (503, "stuck", False)
            for code, found in status(settings, job).values()
        )

    wait_until(stuck, f"the {job} is stuck")
    [target] = [target for target in targets(settings) if target.job == job]
    assert total(scrape(target), "roundhouse_health", state="stuck") == 1
    _, found = status(settings, job)["livez"]
    return str(found["reasons"][0])


def becomes_ready(settings: Settings, job: str) -> None:
    def ready() -> bool:
        return all(
            (code, found["status"], found["reasons"]) == (200, "ready", [])
            for code, found in status(settings, job).values()
        )

    wait_until(ready, f"the {job} is ready")


def test_a_stuck_sink_and_a_stuck_worker_say_why_and_go_on_afterwards(tmp_path: Path) -> None:
    control = tmp_path / "clickhouse-orders.json"
    with (
        clickhouse_server.running(tmp_path / "server", control) as dsn,
        Stack(
            on_any_ports(Settings(data_dir=tmp_path, clickhouse_dsn=dsn, stuck_after_s=STUCK_AFTER_S)),
            in_memory=True,
            program=PROGRAM,
        ) as stack,
    ):
        settings, keys = stack.settings, demo_keys(Registry(stack.settings.tenants_path))
        received = 0

        def post(seed: int) -> None:
            nonlocal received
            posts = day(seed, events=200)
            asyncio.run(feed(stack.edge_url, keys, posts))
            received += sum(post.items for post in posts)

        def settled() -> bool:
            found = accounts(settings).values()
            return sum(each["received"] for each in found) >= received and all(map(is_balanced, found))

        give_orders(control, hang=True)  # ClickHouse takes requests and does not answer
        post(seed=1)
        assert "the sink's thread has stood still for" in becomes_stuck(settings, "sink")
        becomes_ready(settings, "worker")
        give_orders(control)
        becomes_ready(settings, "sink")
        wait_until(settled, "the first day in ClickHouse")

        held = arm_file(settings.data_dir, "worker-0")  # a thread keeps a partition
        held.write_text(HOLD + "before a transaction begins")
        post(seed=2)
        reason = becomes_stuck(settings, "worker")
        assert "staged[" in reason
        assert "offsets wait and none was done for" in reason
        becomes_ready(settings, "sink")
        held.unlink()
        becomes_ready(settings, "worker")
        wait_until(settled, "both days in ClickHouse")
