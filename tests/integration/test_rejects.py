"""``roundhouse rejects`` on a running stack: an item is refused, found, mended, replayed, and counted
once.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from connectors.cli.main import main
from connectors.clickhouse.query import query
from connectors.demo.run import accounts, is_balanced
from connectors.edge.tenants import Registry
from connectors.local.stack import Stack, on_any_ports
from streams.settings import Settings
from tests.faults.armed import arm_file
from tests.line import bet
from tests.waiting import WITHIN_S, wait_until

GAMEBALL = {
    "playerUniqueId": "p-7",
    "events": {"spin": {"value": True}, "visit": {"page": "shop"}, "buy": {"price": 12.5}},
}


class Operator:
    """Posts to a stack for a tenant of its own, and runs commands."""

    def __init__(self, stack: Stack, tenant: str) -> None:
        self.stack = stack
        self.tenant = tenant
        self.key = Registry(stack.settings.tenants_path).add(
            tenant, channel_merging=True, campaigns_enabled=True
        )
        self.posted = 0

    def post(self, path: str, body: Any, items: int, **headers: str) -> str:
        """Posts a body with some invalid item; returns the batch id."""
        answer = httpx.post(
            self.stack.edge_url + path,
            content=json.dumps(body),
            headers={"content-type": "application/json", "x-api-key": self.key, "APIKey": self.key}
            | headers,
        )
        assert answer.status_code in (204, 422), answer.text
        self.posted += items
        return answer.headers["x-batch-id"]

    def settle(self, more: int = 0) -> dict[str, int]:
        """The accounts, once they hold everything that was posted and ``more`` replayed items."""
        self.posted += more

        def settled() -> bool:
            found = accounts(self.stack.settings).get(self.tenant, {"received": 0})
            if found["received"] != self.posted or not is_balanced(found):
                return False
            sql = f"SELECT count() AS n FROM rejects WHERE tenant = '{self.tenant}'"
            return int(self.rows(sql)[0]["n"]) == found["conflict"] + found["rejected"]

        wait_until(settled, "the accounts")
        return accounts(self.stack.settings)[self.tenant]

    def run(self, *arguments: str) -> Result:
        """Runs ``roundhouse rejects`` on the stack's settings."""
        return CliRunner().invoke(main, ["rejects", *arguments], env=self.stack.environment)

    def rejects(self, *arguments: str) -> list[dict[str, Any]]:
        """The tenant's rejects as ``list --json`` prints them."""
        result = self.run("list", "--tenant", self.tenant, "--json", *arguments)
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Rows of ClickHouse."""
        rows: list[dict[str, Any]] = json.loads(query(self.stack.settings, sql, "json"))["data"]
        return rows


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = on_any_ports(Settings(data_dir=tmp_path_factory.mktemp("rejects")))
    with Stack(settings, in_memory=True) as running:
        yield running


def test_a_mended_item_is_replayed_and_stands_in_clickhouse_once(stack: Stack, tmp_path: Path) -> None:
    operator = Operator(stack, "mending")
    batch_id = operator.post("/api/v1/events", [bet("m-1"), bet("m-2", currency="euro")], 2)
    operator.settle()
    [found] = operator.rejects("--batch", batch_id)
    assert found["position"] == 1
    shown = operator.run("show", found["reject_id"])
    assert batch_id in shown.output
    assert "/1/data/currency" in shown.output

    found["item"]["data"]["currency"] = "EUR"
    mended = tmp_path / "mended.jsonl"
    mended.write_text(json.dumps(found))
    tried = operator.run("replay", "--mended", str(mended), "--dry-run")
    assert "1 match, 1 would be accepted now" in tried.output
    done = operator.run(
        *("replay", "--mended", str(mended), "--by", "ann", "--reason", "wrong code", "--rate", "1e9")
    )
    assert "1 items written" in done.output, done.output
    assert operator.settle(more=1)["accepted"] == 2

    again = operator.run("replay", "--mended", str(mended), "--again", "--rate", "1e9")
    assert "1 items written" in again.output
    account = operator.settle(more=1)
    assert (account["accepted"], account["duplicate"], account["rejected"]) == (2, 1, 1)
    sql = "SELECT event_id FROM game_transactions WHERE tenant = 'mending' ORDER BY event_id"
    assert [row["event_id"] for row in operator.rows(sql)] == ["m-1", "m-2"]
    [first, second] = operator.rows(
        "SELECT replayed_by, reason, mended, batch_id IN (SELECT batch_id FROM batches) AS arrived "
        f"FROM replays WHERE reject_id = '{found['reject_id']}' ORDER BY replayed_at"
    )
    assert first == {"replayed_by": "ann", "reason": "wrong code", "mended": True, "arrived": 1}
    assert second["arrived"] == 1


def test_an_operator_asks_the_edge_what_became_of_each_item(stack: Stack) -> None:
    operator = Operator(stack, "asking")
    operator.post("/api/v1/events", [bet("a-1"), bet("a-2")], 2)
    operator.settle()
    items = [bet("a-1"), bet("a-2", amount=5), bet("a-3", currency="euro"), bet("a-4")]
    batch_id = operator.post("/api/v1/events", items, 4)
    found: dict[str, Any] = {}

    def is_answered() -> bool:
        answer = httpx.get(
            f"{stack.edge_url}/api/v1/batches/{batch_id}", headers={"x-api-key": operator.key}
        )
        assert answer.status_code in (200, 404), answer.text
        found.update(answer.json())
        outcomes = {item["outcome"] for item in found.get("items", [])}
        return bool(outcomes) and not outcomes & {"on_the_way", "counted"}

    wait_until(is_answered, "the outcome of every item")
    assert [item["outcome"] for item in found["items"]] == [
        "duplicate", "conflict", "rejected", "accepted",
    ]  # fmt: skip
    rejects = operator.rejects("--batch", batch_id)
    assert [item["reject_id"] for item in found["items"] if "reject_id" in item] == [
        reject["reject_id"] for reject in sorted(rejects, key=lambda reject: reject["position"])
    ]
    operator.settle()


def test_a_replayed_gameball_event_keeps_its_identity(stack: Stack, tmp_path: Path) -> None:
    """Without an Idempotency-Key the identity is the first batch's id and the event's name."""
    operator = Operator(stack, "gameball")
    batch_id = operator.post("/integrations/event", GAMEBALL, 3)
    operator.settle()
    [found] = operator.rejects()
    assert found["item"] == {"value": True}
    found["item"] = {"value": 1}
    mended = tmp_path / "mended.jsonl"
    mended.write_text(json.dumps(found))
    for _ in range(2):
        result = operator.run("replay", "--mended", str(mended), "--again", "--rate", "1e9")
        assert "1 items written" in result.output, result.output
        account = operator.settle(more=1)
    assert (account["accepted"], account["duplicate"], account["conflict"]) == (3, 1, 0)
    events = operator.rows("SELECT name, event_id FROM custom_events WHERE tenant = 'gameball'")
    assert sorted(event["name"] for event in events) == ["buy", "spin", "visit"]
    assert all(batch_id in event["event_id"] for event in events)


def test_items_that_are_still_invalid_and_conflicts_are_left_out_with_the_reason(stack: Stack) -> None:
    operator = Operator(stack, "left-out")
    operator.post("/api/v1/events", [bet("l-1", currency="euro"), bet("l-2")], 2)
    operator.settle()  # else the second request may be processed first
    operator.post("/api/v1/events", [bet("l-2", amount=5)], 1)
    before = operator.settle()
    assert (before["rejected"], before["conflict"]) == (1, 1)
    wait_until(lambda: len(operator.rejects()) == 2, "both rejects")
    result = operator.run("replay", "--tenant", "left-out")
    assert result.exit_code == 0, result.output
    assert "0 items written" in result.output
    assert "/0/data/currency" in result.output
    [conflict] = operator.rejects("--code", "id_conflict")

    def is_compared() -> bool:
        """Whether the accepted event, too, stands in ClickHouse."""
        shown = operator.run("show", conflict["reject_id"]).output
        return 'differs   amount: accepted "1", refused "5"' in shown

    wait_until(is_compared, "the differences")
    assert "contradicts an accepted item" in result.output
    assert operator.rows("SELECT 1 FROM replays WHERE tenant = 'left-out'") == []


def test_a_replay_needs_a_choice_and_stays_within_its_cap(stack: Stack) -> None:
    operator = Operator(stack, "capped")
    operator.post("/api/v1/events", [bet("c-1", currency="x"), bet("c-2", currency="y")], 2)
    operator.settle()
    capped = operator.run("replay", "--tenant", "capped", "--max", "1")
    assert capped.exit_code == 78
    assert "2 rejects match, more than --max 1" in capped.output
    assert operator.run("replay").exit_code == 78


def test_an_accepted_conflict_replaces_the_item_once_whenever_the_command_is_killed(
    stack: Stack,
) -> None:
    operator = Operator(stack, "correcting")
    first = operator.post("/api/v1/events", [bet("k-0", 3), bet("k-1", 10)], 2)
    operator.settle()
    operator.post("/api/v1/events", [bet("k-1", 12)], 1)
    operator.settle()
    [found] = operator.rejects()
    tried = operator.run("accept", found["reject_id"], "--reason", "typed wrong", "--dry-run")
    assert 'amount: accepted "10", refused "12"' in tried.output, tried.output
    assert operator.rows("SELECT 1 FROM corrections") == []
    accepting = ["accept", found["reject_id"], "--reason", "typed wrong", "--by", "ann"]
    for point in ("record and its write", "write and its outcome"):
        arm_file(stack.settings.data_dir, "rejects").write_text(f"between a correction's {point}")
        killed = subprocess.run(
            [sys.executable, "-m", "tests.faults.armed", "rejects", *accepting],
            env=stack.environment, capture_output=True, timeout=WITHIN_S, check=False,
        )  # fmt: skip
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    operator.settle(more=2)
    done = operator.run(*accepting)
    assert "is what counts already; nothing is written" in done.output
    account = operator.settle()
    assert (account["accepted"], account["duplicate"], account["conflict"]) == (2, 2, 1)
    sql = "SELECT event_id, toString(amount) AS amount, batch_id FROM game_transactions "
    rows = operator.rows(f"{sql} WHERE tenant = 'correcting' ORDER BY event_id")
    assert [(row["event_id"], row["amount"]) for row in rows] == [("k-0", "3"), ("k-1", "12")]
    assert rows[0]["batch_id"] == first
    sql = "SELECT toString(bet_amount) AS bets, bet_count FROM rounds WHERE tenant = 'correcting'"
    assert operator.rows(sql) == [{"bets": "15", "bet_count": 2}]
    recorded = operator.rows(
        "SELECT corrected_by, reason, event_id, batch_id, "
        "JSONExtractString(replaced, 1, 'amount') AS before, "
        "toDecimal64(JSONExtractString(replacement, 1, 'amount'), 2) AS after FROM corrections"
    )
    assert len(recorded) == 2
    assert recorded[0] == {
        "corrected_by": "ann", "reason": "typed wrong", "event_id": "k-1",
        "batch_id": rows[1]["batch_id"], "before": "10", "after": 12,
    }  # fmt: skip
    operator.post("/api/v1/events", [bet("k-1", 12)], 1)
    assert operator.settle()["duplicate"] == 3


def test_what_cannot_be_corrected_is_refused_with_the_way_out(stack: Stack) -> None:
    operator = Operator(stack, "not-correcting")
    operator.post("/api/v1/events", [bet("n-1"), bet("n-2", currency="euro")], 2)
    operator.settle()
    operator.post("/api/v1/events", [bet("n-1", game_id="g-2")], 1)
    operator.settle()
    for found in operator.rejects():
        refused = operator.run("accept", found["reject_id"], "--reason", "why not")
        assert refused.exit_code == 78
        message = "Send a rollback" if found["outcome"] == "conflict" else "is no id_conflict"
        assert message in refused.output
    assert "no reject has" in operator.run("accept", "nothing", "--reason", "x").output
