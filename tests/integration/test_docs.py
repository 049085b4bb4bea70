"""Runs every command and query of the docs, in the order of the pages, on a running stack."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from connectors.campaigns.evaluation import evaluate
from connectors.campaigns.model.definition import load
from connectors.clickhouse.query import query
from connectors.demo.day import Post, day
from connectors.demo.feed import feed
from connectors.demo.report import QUESTIONS
from connectors.demo.run import accounts, demo_keys, is_balanced
from connectors.edge.tenants import Registry
from connectors.local.kafka import missing_tools
from connectors.local.stack import Stack, on_any_ports
from connectors.standings.publisher import Publisher
from streams.kafka.schema_ids import frames
from streams.kafka.schemas import Schemas
from streams.settings import Settings
from tests.integration.cookbook import answers
from tests.notebook import executed
from tests.schema_registry import consumer_command
from tests.waiting import WITHIN_S, wait_until

ROOT = Path(__file__).parent.parent.parent
DOCS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)


QUERIES = blocks(ROOT / "docs" / "analysts.md", "sql")


class Running:
    """A stack, the posts sent to it, and the cookbook's results before any other post."""

    def __init__(self, stack: Stack, key: str, posts: list[Post]) -> None:
        self.stack = stack
        self.settings = stack.settings
        self.key = key
        self.posts = posts
        self.answers = [json.loads(query(self.settings, sql, "json")) for sql in QUERIES]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A stack with a small demo day, on a real Kafka if a JDK is installed, else in memory."""
    import asyncio

    settings = on_any_ports(Settings(data_dir=tmp_path_factory.mktemp("docs")))
    with Stack(settings, in_memory=bool(missing_tools())) as stack:
        keys = demo_keys(Registry(settings.tenants_path))
        posts = day(seed=3, events=3000)
        asyncio.run(feed(stack.edge_url, keys, posts))
        total = sum(post.items for post in posts)

        def settled() -> bool:
            found = accounts(stack.settings).values()
            received = sum(account["received"] for account in found)
            return received == total and all(map(is_balanced, found))

        wait_until(settled, "the day in ClickHouse")
        yield Running(stack, keys["aurora"], posts)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
def test_every_shell_block_runs(path: Path, running: Running) -> None:
    environment = running.stack.environment | {
        "KEY": running.key,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    for block in blocks(path, "sh"):
        lines = [line for line in block.splitlines() if not line.startswith("make ")]
        script = "\n".join(lines).replace("http://127.0.0.1:8080", running.stack.edge_url)
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=environment, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False,
        )  # fmt: skip
        assert result.returncode == 0, f"{script}\n{result.stdout}{result.stderr}"
        if "curl" in script:
            assert "204 No Content" in result.stdout


def test_the_make_targets_of_the_readme_exist() -> None:
    targets = re.findall(r"`?make ([a-z-]+)", (ROOT / "README.md").read_text())
    assert {"demo", "test", "up"} <= set(targets)
    for target in set(targets):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def cell(value: Any, kind: str) -> Any:
    if kind.startswith("Decimal"):
        return Decimal(str(value))
    return int(value) if kind.startswith("UInt") else value


def test_every_query_of_the_cookbook_answers_what_was_posted(running: Running) -> None:
    for sql, answer, due in zip(QUERIES, running.answers, answers(running.posts), strict=True):
        kinds = [column["type"] for column in answer["meta"]]
        rows = [tuple(map(cell, row.values(), kinds)) for row in answer["data"]]
        assert rows == due, sql


def test_every_query_of_the_dashboard_answers(running: Running) -> None:
    dashboard = json.loads((ROOT / "connectors/grafana/dashboards/roundhouse.json").read_text())
    for panel in dashboard["panels"]:
        [target] = panel["targets"]
        assert query(running.settings, target["rawSql"], "csv").splitlines()[0], panel["title"]


def test_the_demos_questions_stand_in_the_analysts_page() -> None:
    documented = {" ".join(sql.split()) for sql in blocks(ROOT / "docs" / "analysts.md", "sql")}
    assert {" ".join(sql.split()) for sql in QUESTIONS.values()} <= documented


def test_the_campaign_in_python_prints_standings(running: Running) -> None:
    [example] = blocks(ROOT / "docs" / "campaigns.md", "python")
    result = subprocess.run(
        [sys.executable, "-c", example],
        env=running.stack.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=True,
    )
    ranks, frame = result.stdout.splitlines()[:3], result.stdout.splitlines()[3:]
    assert [line.split()[0] for line in ranks] == ["1", "2", "3"]
    assert any("prize" in line and "len" in line for line in frame)


def test_every_cell_of_the_notebook_runs_and_has_a_result(running: Running) -> None:
    cells = [cell for cell in executed(running.stack.environment).cells if cell.cell_type == "code"]
    assert all(cell.outputs for cell in cells)
    race = load(ROOT / "connectors/campaigns/examples/turnover-race.yaml").campaign
    leader = evaluate(running.settings, race).standings[0]
    assert leader.player_id in cells[1].outputs[0].data["text/plain"]
    assert "<svg" in cells[6].outputs[0].data["image/svg+xml"]


def on_this_stack(example: str, running: Running) -> str:
    """The text of an example consumer, with the addresses of the stack."""
    example = example.replace("127.0.0.1:9092", running.stack.settings.kafka_bootstrap)
    return example.replace("http://127.0.0.1:8080", running.stack.edge_url)


def test_the_clients_in_python_try_a_batch_and_post_a_bet(running: Running) -> None:
    trial, _, _, client, _ = blocks(ROOT / "docs" / "operators.md", "python")
    environment = os.environ | {"KEY": running.key}

    def output(example: str) -> str:
        command = [sys.executable, "-c", on_this_stack(example, running)]
        return subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S,
            check=True,
        ).stdout  # fmt: skip

    assert output(client) == "[]\n"
    bet, win, login = output(trial).splitlines()
    assert bet.startswith("0 game-transaction {'tenant': 'aurora', 'source': 'native'")
    assert "'id': 'gr-2'" in win
    assert "/items/2/data/timestamp" in login


def test_the_questions_in_python_print_the_outcome_of_every_item_and_the_event(
    running: Running,
) -> None:
    _, batch, event, _, _ = blocks(ROOT / "docs" / "operators.md", "python")

    def output(example: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", on_this_stack(example, running)],
            env=os.environ | {"KEY": running.key},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=True,
        ).stdout

    bet, win, login = output(batch).splitlines()
    assert output(event).count("\n") == 1
    assert {bet, win} <= {"0 accepted", "1 accepted", "0 duplicate", "1 duplicate"}
    assert login.startswith("2 rejected {'code': 'required', 'pointer': '/items/2/data/timestamp'")


def test_the_consumer_in_python_prints_rounds(running: Running) -> None:
    _, example = blocks(ROOT / "docs" / "data-platform.md", "python")
    command = [sys.executable, "-c", on_this_stack(example, running)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=True)
    assert result.stdout.count("'round_id'") == 10
    assert "Decimal(" in result.stdout


def test_the_leaderboard_in_python_prints_the_standings(running: Running) -> None:
    example, _ = blocks(ROOT / "docs" / "data-platform.md", "python")
    settings = running.stack.settings
    race = load(ROOT / "connectors/campaigns/examples/turnover-race.yaml").campaign
    publisher = Publisher(settings, Schemas(settings, frames(settings)), lambda text: None)
    publisher.take([race])
    due = evaluate(settings, race)
    publisher.write(due)
    command = [sys.executable, "-c", on_this_stack(example, running)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=True)
    head, *rows = done.stdout.splitlines()
    assert head.startswith(f"aurora turnover-race {due.as_of:%Y-%m-%d %H:%M}")
    first = [(str(each.rank), each.player_id) for each in due.standings[:10]]
    assert [tuple(row.split()[:2]) for row in rows] == first


def test_the_consumer_in_java_prints_rounds(running: Running, jvm: Path, tmp_path: Path) -> None:
    [example] = blocks(ROOT / "docs" / "data-platform.md", "java")
    program = tmp_path / "Rounds.java"
    program.write_text(on_this_stack(example, running))
    command = consumer_command(jvm, program)
    result = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=True)
    assert result.stdout.count('"round_id"') >= 10


def test_the_stack_of_this_page_is_supervised(running: Running) -> None:
    """A killed worker is restarted while queries continue to be answered."""
    stack = running.stack
    before = stack.supervisor.pids()["worker-0"]
    os.kill(before, 9)
    thread = threading.Thread(target=stack.supervisor.run)
    thread.start()
    wait_until(lambda: stack.supervisor.pids()["worker-0"] != before)
    stack.supervisor.ask_to_stop()
    thread.join()
    assert query(running.settings, "SELECT 1 AS one", "csv") == '"one"\n1\n'
