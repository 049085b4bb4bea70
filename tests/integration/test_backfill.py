"""``roundhouse backfill`` on a running stack: every item of a file counts once, also after a kill."""

import gzip
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from connectors.cli.main import main
from connectors.clickhouse.query import query
from connectors.demo.run import accounts, is_balanced
from connectors.edge.tenants import Registry
from connectors.local.stack import Stack, on_any_ports
from streams.settings import Settings
from tests.faults.armed import arm_file
from tests.line import bet, casino
from tests.waiting import WITHIN_S, wait_until


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = on_any_ports(Settings(data_dir=tmp_path_factory.mktemp("backfill")))
    with Stack(settings, in_memory=True) as running:
        yield running


def tenant(stack: Stack, name: str, **switches: bool) -> str:
    given = {"channel_merging": False, "campaigns_enabled": True} | switches
    Registry(stack.settings.tenants_path).add(name, **given)  # type: ignore[arg-type]
    return name


def command(name: str, path: Path, *more: str) -> list[str]:
    state = str(path.with_name(f"{name}.state"))
    return ["backfill", str(path), "--tenant", name, "--source", "native", "--state", state, *more]


def run(stack: Stack, *arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env=stack.environment)


def settled(stack: Stack, name: str, received: int) -> dict[str, int]:
    """The accounts of a tenant in ClickHouse, once they hold at least ``received`` items."""

    def is_settled() -> bool:
        found = accounts(stack.settings).get(name, {"received": 0})
        return found["received"] >= received and is_balanced(found)

    wait_until(is_settled, f"the accounts of {name}")
    return accounts(stack.settings)[name]


def rows(stack: Stack, sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(query(stack.settings, sql, "json"))["data"]
    return found


def lines(items: list[dict[str, Any]]) -> bytes:
    return b"\n".join(json.dumps(item).encode() for item in items)


def test_every_item_has_its_outcome_in_the_report_and_stands_in_clickhouse(
    stack: Stack, tmp_path: Path
) -> None:
    name = tenant(stack, "report", campaigns_enabled=False)
    path = tmp_path / "bets.ndjson.gz"
    first = [bet(f"b-{n}", round_id=f"r-{n % 7}", player_id=f"p-{n % 5}") for n in range(600)]
    more = [first[3], bet("b-4", 99, round_id="r-4", player_id="p-4"), bet("b-x", currency="euro")]
    path.write_bytes(gzip.compress(lines(first + more) + b"\n{"))
    tried = run(stack, *command(name, path, "--dry-run"))
    assert tried.exit_code == 1
    assert f"{path}:603: malformed at /data/currency" in tried.output
    assert f"{path}:604: not_json" in tried.output
    assert "604 read, 603 items of which 1 are invalid, 1 unreadable" in tried.output
    done = run(stack, *command(name, path))
    assert done.exit_code == 1, done.output
    assert "604 read, 600 accepted, 1 duplicate, 1 conflict, 1 rejected, 1 unreadable" in done.output
    assert "1 conflicts; `roundhouse rejects list --batch" in done.output
    again = run(stack, *command(name, path))
    assert again.stdout == done.stdout
    assert settled(stack, name, 603)["accepted"] == 600
    [stored] = rows(
        stack,
        "SELECT uniqExact(event_id) AS events, count() AS items, countIf(counts) AS counting "
        f"FROM game_transactions WHERE tenant = '{name}'",
    )
    assert {key: int(value) for key, value in stored.items()} == {
        "events": 600, "items": 600, "counting": 0,
    }  # fmt: skip


def test_a_backfill_killed_between_write_and_journal_continues_and_each_item_counts_once(
    stack: Stack, tmp_path: Path
) -> None:
    name = tenant(stack, "killed")
    path = tmp_path / "bets.ndjson"
    path.write_bytes(lines([bet(f"k-{n}", player_id=f"p-{n % 50}") for n in range(1000)]))
    armed = arm_file(stack.settings.data_dir, "backfill")
    for _ in range(2):
        armed.write_text("between settlement and a backfill's journal")
        killed = subprocess.run(
            [sys.executable, "-m", "tests.faults.armed", *command(name, path)],
            env=stack.environment, capture_output=True, timeout=WITHIN_S, check=False,
        )  # fmt: skip
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = run(stack, *command(name, path))
    assert done.exit_code == 0, done.output
    assert "1000 read, 1000 accepted, 0 duplicate, 0 conflict, 0 rejected" in done.output
    account = settled(stack, name, 1001)
    assert (account["accepted"], account["conflict"]) == (1000, 0)
    assert account["duplicate"] == account["received"] - 1000
    [found] = rows(stack, f"SELECT uniqExact(batch_id) AS ids FROM outcomes WHERE tenant = '{name}'")
    assert int(found["ids"]) == 4
    [round_] = rows(stack, f"SELECT sum(bet_count) AS bets FROM rounds WHERE tenant = '{name}'")
    assert int(round_["bets"]) == 1000


def test_a_json_body_of_another_format_is_written_in_requests_and_a_kind_may_be_given(
    stack: Stack, tmp_path: Path
) -> None:
    name = tenant(stack, "bodies")
    path = tmp_path / "casino.json"
    path.write_text(json.dumps({"items": [casino("bet", f"c-{n}") for n in range(300)]}))
    options = [*command(name, path), "--source", "fasttrack", "--rate", "1e6", "--in-flight", "1"]
    done = run(stack, *options)
    assert "300 read, 300 accepted" in done.output
    data = tmp_path / "data.jsonl"
    data.write_bytes(lines([bet("d-1", round_id="r-2")["data"]]))
    assert "1 accepted" in run(stack, *command(name, data, "--kind", "gameround")).output
    assert settled(stack, name, 301)["accepted"] == 301


def test_a_wrong_choice_or_state_is_refused_before_anything_is_written(
    stack: Stack, tmp_path: Path
) -> None:
    name = tenant(stack, "choices")
    path = tmp_path / "bets.ndjson"
    path.write_bytes(lines([bet("b-1")]))
    for wrong, message in (
        (["--tenant", "nobody"], "there is no tenant nobody"),
        (["--source", "avro"], "native, fasttrack, gameball"),
        (["--kind", "bets"], "use one of gameround"),
    ):
        refused = run(stack, *command(name, path), *wrong)
        assert refused.exit_code == 78
        assert message in refused.output
    state = path.with_name(f"{name}.state")
    state.write_text('{"line": "another t."}')
    refused = run(stack, *command(name, path))
    assert refused.exit_code == 78
    assert "is of another line" in refused.output
    assert name not in accounts(stack.settings)
