"""The whole line as processes, from HTTP to SQL, on both brokers, while workers are killed."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from connectors.clickhouse.query import query
from connectors.demo.day import TENANTS, Post, day
from connectors.demo.feed import feed
from connectors.demo.run import accounts, demo_keys, is_balanced
from connectors.edge.tenants import Registry
from connectors.local.health import is_well, pages
from connectors.local.kafka import missing_tools
from connectors.local.ports import Ports
from connectors.local.stack import Stack, on_any_ports
from connectors.local.supervision import supervision
from connectors.local.supervisor import Child, Supervisor
from streams.settings import Settings
from tests import clickhouse_server
from tests.faults.harness import supervising
from tests.oracle import Expected, expect
from tests.scrapes import documented, scrape, targets, total
from tests.waiting import WITHIN_S, wait_until

ROOT = Path(__file__).parent.parent.parent

CONTACT = re.compile(r'"(?:email|mobile)": ?"([^"]+)"')

needs_kafka = pytest.mark.skipif(
    bool(missing_tools()), reason=f"a real Kafka needs {' and '.join(missing_tools())}"
)


def complete(settings: Settings, expected: Expected) -> bool:
    """Whether all posted items are settled and stored, and all rounds are complete."""
    now = accounts(settings)
    return all(
        now[tenant.name]["received"] >= expected.received[tenant.name] and is_balanced(now[tenant.name])
        for tenant in TENANTS
    )


def run_demo(home: Path, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "connectors.cli", "demo", "--events", "2000", *arguments],
        env=os.environ | {"ROUNDHOUSE_DATA_DIR": str(home)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def accepted(output: str) -> list[tuple[str, int, int]]:
    """(tenant, accepted, duplicate) from the last lines of the demo's output."""
    found = []
    for line in output.splitlines():
        words = line.replace(",", "").split()
        if len(words) > 2 and words[1] == "received":
            assert words[-1] == "holds", line
            found.append((words[0], int(words[5]), int(words[8])))
    assert len(found) == 3, output
    return found


def test_the_demo_on_the_in_memory_broker_balances(tmp_path: Path) -> None:
    output = run_demo(tmp_path, "--memory")
    assert all(count > 500 for _, count, _ in accepted(output))
    assert "Wagering leaderboard" in output
    assert "The backtest of turnover-race over the same events agrees with it." in output


@needs_kafka
@pytest.mark.kafka
def test_the_demo_again_on_kept_data_accepts_nothing_twice(tmp_path: Path) -> None:
    first = accepted(run_demo(tmp_path))
    second = accepted(run_demo(tmp_path))
    for (tenant, before, duplicates), (_, after, more) in zip(first, second, strict=True):
        assert after == before, tenant
        assert more == 2 * duplicates + before, tenant


def test_the_line_into_clickhouse_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_LOG_FORMAT", "json")
    posts = day(seed=5, events=2000)
    expected = expect(posts)
    with (
        clickhouse_server.running(tmp_path / "server") as dsn,
        Stack(on_any_ports(Settings(data_dir=tmp_path, clickhouse_dsn=dsn)), in_memory=True) as stack,
        supervision(stack.settings, stack.supervisor, "up"),
    ):
        stack.start("console", "console")
        keys = demo_keys(Registry(stack.settings.tenants_path))
        asyncio.run(feed(stack.edge_url, keys, posts))
        wait_until(lambda: complete(stack.settings, expected), "the day in ClickHouse")
        found = query(stack.settings, "SELECT sum(stake), sum(payout) FROM rounds", "tsv")
        tell_what_they_did(stack.settings, expected)
        they_say_that_they_are_well(stack.settings)
    stake = sum(round_.bets - round_.bets_back for round_ in expected.rounds.values())
    payout = sum(round_.wins for round_ in expected.rounds.values())
    assert list(map(Decimal, found.splitlines()[1].split("\t"))) == [stake, payout]
    they_logged_json_without_secrets(tmp_path / "logs", posts, keys)


def they_say_that_they_are_well(settings: Settings) -> None:
    """Checks the status pages of a line that has processed all items."""

    def document(job: str) -> dict[str, Any]:
        [page] = pages(settings, job)
        assert page.document is not None
        return page.document

    wait_until(lambda: document("worker")["lag"] == 0, "the worker's lag, asked every five seconds")
    worker, sink, edge = map(document, ("worker", "sink", "edge"))
    for found in (worker, sink, edge):
        assert (found["status"], found["reasons"], found["kafka_away_s"]) == ("ready", [], None)
    assert [each["state"] for each in worker["partitions"]] == ["open"] * settings.partitions
    assert len(worker["input"]) == 2 * settings.partitions
    assert {each["still_s"] for each in worker["input"]} == {0.0}
    assert sink["rows_inserted"] > 0
    assert (sink["rows_pending"], sink["clickhouse_away_s"]) == (0, None)


def they_logged_json_without_secrets(folder: Path, posts: list[Post], keys: dict[str, str]) -> None:
    """Checks that every log line is JSON with the process's name, and that none has a key or a body."""
    secrets = [*keys.values(), *(post.body[:60].decode() for post in posts)]
    secrets += {contact for post in posts for contact in CONTACT.findall(post.body.decode())}
    assert len(secrets) > len(keys) + len(posts)
    for name in ("edge", "worker-0", "sink"):
        text = (folder / f"{name}.log").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        assert lines
        assert {line["process"] for line in lines} == {name}
        assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, lines))
        assert not [secret for secret in secrets if secret in text], name


def tell_what_they_did(settings: Settings, expected: Expected) -> None:
    """Checks that each process serves exactly the metrics of docs/metrics.md, with counts."""
    names = documented(ROOT / "docs" / "metrics.md")
    wait_until(lambda: is_well(settings, "console"), "the console")
    served = {target.job: scrape(target) for target in targets(settings)}
    assert set(served) == {"edge", "worker", "sink", "console", "supervisor"}
    for job, families in served.items():
        assert set(families) == {name for name, row in names.items() if job in row.jobs}, job
        for name, family in families.items():
            assert (family.type, family.documentation) == (names[name].type, names[name].meaning)
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == names[name].labels, sample
    edge, worker, sink = served["edge"], served["worker"], served["sink"]
    for tenant in TENANTS:
        counted = partial(total, worker, "roundhouse_items", tenant=tenant.name)
        assert counted(outcome="received") == expected.received[tenant.name]
        assert counted() == 2 * expected.received[tenant.name]
    answered = total(edge, "roundhouse_edge_requests", error_type="")
    assert answered > 0
    assert total(edge, "http_server_request_duration_seconds") >= answered
    assert total(worker, "roundhouse_edge_to_committed_seconds") >= answered
    assert total(sink, "roundhouse_edge_to_clickhouse_seconds") >= answered
    for name in ("broker", "sink", "edge", "worker-0", "console"):
        assert total(served["supervisor"], "roundhouse_supervised_up", process=name) == 1


def test_up_prints_a_curl_that_works_stops_on_ctrl_c_and_keeps_its_data(tmp_path: Path) -> None:
    memory = ["--memory"] if missing_tools() else []
    settings = on_any_ports(Settings(data_dir=tmp_path))
    environment = Stack(settings).environment
    with _up(environment, memory) as (process, printed):
        curl = printed[printed.index("curl") : printed.index("\n\nAsk")]
        answer = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True)
        assert "204 No Content" in answer.stdout
        if memory:
            environment["ROUNDHOUSE_DATA_DIR"] = re.findall(r"ROUNDHOUSE_DATA_DIR=(\S+)", printed)[0]
        wait_until(lambda: _sql(environment, "SELECT stake FROM rounds") == "1.25", "the round")
        process.send_signal(signal.SIGINT)
        assert process.wait(WITHIN_S) == 0
    if not memory:
        assert _sql(environment, "SELECT stake FROM rounds") == "1.25"  # chDB itself, nothing runs
        with _up(environment, memory) as (process, _):
            assert _sql(environment, "SELECT stake FROM rounds") == "1.25"
            process.send_signal(signal.SIGTERM)
            assert process.wait(WITHIN_S) == 0


@needs_kafka
@pytest.mark.kafka
def test_a_worker_that_is_killed_over_and_over_takes_nothing_else_down(tmp_path: Path) -> None:
    settings = on_any_ports(Settings(data_dir=tmp_path, session_timeout_s=6))
    supervisor = Supervisor(tmp_path / "logs", pause_s=(0.1, 0.5))
    posts = day(seed=4, events=600)
    half = len(posts) // 2

    def worker() -> Child:
        return next(child for child in supervisor.children() if child.name == "worker-0")

    with supervising(supervisor) as failures, Stack(settings, supervisor=supervisor) as stack:
        keys = demo_keys(Registry(settings.tenants_path))
        for kills in range(1, 11):
            os.kill(worker().pid, signal.SIGKILL)
            if kills == 5:  # the edge still accepts requests
                asyncio.run(feed(stack.edge_url, keys, posts[:half]))
            wait_until(lambda kills=kills: worker().restarts == kills, "a restart")  # type: ignore[misc]
        health = supervisor.health()
        assert (health.live, health.ready) == (True, False)
        assert re.search(r"worker-0 has ended \d+ times in a row, last with.* -9", health.reasons[0])
        asyncio.run(feed(stack.edge_url, keys, posts[half:]))
        wait_until(lambda: complete(stack.settings, expect(posts)), "the day in ClickHouse")
        others = {child.name: child.restarts for child in supervisor.children()}
        assert others == {"kafka-1": 0, "sink": 0, "edge": 0, "worker-0": 10}

        again = day(seed=5, events=600)
        asyncio.run(feed(stack.edge_url, keys, again))
        os.kill(worker().pid, signal.SIGTERM)  # with work in hand
        wait_until(lambda: worker().exit_status == 0, "the end of the worker with status 0")
        wait_until(lambda: complete(stack.settings, expect(posts + again)), "both days in ClickHouse")
        assert not failures


@contextmanager
def _up(environment: dict[str, str], options: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Runs ``roundhouse up``; yields its process and its output until it was ready."""
    command = [sys.executable, "-m", "connectors.cli", "up", *options]
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        printed = ""
        while "Ctrl-C" not in printed:
            line = process.stdout.readline()
            assert line, printed
            printed += line
        try:
            yield process, printed
        finally:
            process.kill()


def _sql(environment: dict[str, str], sql: str) -> str:
    command = [sys.executable, "-m", "connectors.cli", "sql", sql, "--format", "tsv"]
    result = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    return result.stdout.splitlines()[-1] if result.stdout else result.stderr


@pytest.mark.kafka
def test_worker_and_edge_run_several_processes_and_stop_when_told(tmp_path: Path) -> None:
    settings = on_any_ports(Settings(data_dir=tmp_path))
    with Ports() as ports, Stack(settings, processes=0) as stack:
        port = ports.hold("a second edge beside the stack's own")
        environment = stack.environment | {"ROUNDHOUSE_EDGE_PORT": str(port)}
        command = [sys.executable, "-m", "connectors.cli"]
        quiet: dict[str, Any] = {"env": environment, "cwd": ROOT, "stderr": subprocess.DEVNULL}
        with (
            subprocess.Popen([*command, "worker", "--processes", "2"], **quiet) as worker,
            subprocess.Popen([*command, "edge", "--processes", "2"], **quiet) as edge,
        ):

            def well(job: str) -> int:
                return sum(page.is_well for page in pages(stack.settings, job))

            wait_until(lambda: well("worker") == 2, "two workers")
            wait_until(lambda: well("edge") == 3, "two serving processes beside the stack's own")
            url = f"http://127.0.0.1:{port}"
            posts = day(seed=9, events=600)
            asyncio.run(feed(url, demo_keys(Registry(settings.tenants_path)), posts))
            wait_until(lambda: complete(stack.settings, expect(posts)), "the day in ClickHouse")
            worker.terminate()
            edge.terminate()
            assert (worker.wait(WITHIN_S), edge.wait(WITHIN_S)) == (0, 0)
        assert pages(stack.settings, "worker") == []
        [alone] = pages(stack.settings, "edge")
        os.kill(stack.supervisor.pids()["edge"], signal.SIGTERM)

        def ended() -> bool:
            stack.supervisor.check()
            [found] = [each for each in stack.supervisor.children() if each.name == "edge"]
            return found.exit_status is not None

        wait_until(ended, f"the end of {alone.name}")
        [found] = [each for each in stack.supervisor.children() if each.name == "edge"]
        assert found.exit_status == 0
