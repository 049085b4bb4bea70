"""``roundhouse audit`` on a running stack: nothing is found in a day, and then what was planted."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import TopicPartition

from connectors.cli.main import main
from connectors.clickhouse.client import connect
from connectors.demo.day import day
from connectors.demo.feed import feed
from connectors.demo.run import accounts, demo_keys, is_balanced
from connectors.edge.tenants import Registry
from connectors.local.kafka import missing_tools
from connectors.local.stack import Stack, on_any_ports
from streams.core.event import Kind
from streams.kafka.clients import committed_consumer, idempotent_producer
from streams.settings import Settings
from tests import clickhouse_server
from tests.integration.test_rejects import Operator
from tests.line import bet
from tests.waiting import WITHIN_S, wait_until

pytestmark = pytest.mark.skipif(
    bool(missing_tools()),
    reason=f"offsets by time need a Kafka, with {' and '.join(missing_tools())}",
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that has processed a day with duplicates, conflicts and invalid items."""
    home = tmp_path_factory.mktemp("audit")
    with clickhouse_server.running(home / "server") as dsn, _stack(home, dsn) as running:
        posts = day(seed=11, events=1500)
        asyncio.run(feed(running.edge_url, demo_keys(Registry(running.settings.tenants_path)), posts))
        total = sum(post.items for post in posts)

        def settled() -> bool:
            found = accounts(running.settings).values()
            return sum(account["received"] for account in found) == total and all(
                map(is_balanced, found)
            )

        wait_until(settled, "the day in ClickHouse")
        yield running


def _stack(home: Path, dsn: str) -> Stack:
    return Stack(on_any_ports(Settings(data_dir=home, clickhouse_dsn=dsn)), in_memory=False)


def audit(stack: Stack, *arguments: str) -> Result:
    end = (datetime.now(UTC) + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%S")
    return CliRunner().invoke(main, ["audit", "--to", end, *arguments], env=stack.environment)


def codes(result: Result) -> set[str]:
    return {line.split()[0] for line in result.stdout.splitlines() if "  planted  " in line}


def test_a_backfill_that_was_written_twice_counts_once_and_the_audit_finds_nothing(
    stack: Stack, tmp_path: Path
) -> None:
    Registry(stack.settings.tenants_path).add("filled", channel_merging=False, campaigns_enabled=True)
    path = tmp_path / "bets.ndjson"
    path.write_text("\n".join(json.dumps(bet(f"f-{n}", round_id=f"f-{n % 9}")) for n in range(700)))
    command = ["backfill", str(path), "--tenant", "filled", "--source", "native", "--state"]
    for state, counts in (("one", "700 accepted, 0 dup"), ("two", "0 accepted, 700 dup")):
        result = CliRunner().invoke(main, [*command, str(tmp_path / state)], env=stack.environment)
        assert result.exit_code == 0, result.output
        assert counts in result.output

    def settled() -> bool:
        found = accounts(stack.settings).get("filled", {"received": 0})
        return found["received"] == 1400 and is_balanced(found)

    wait_until(settled, "both runs in ClickHouse")
    result = audit(stack)
    assert "0 findings" in result.output, result.output


def test_an_operator_finds_and_mends_an_item_and_the_audit_shows_it_before_and_after(
    stack: Stack, tmp_path: Path
) -> None:
    operator = Operator(stack, "mender")
    batch_id = operator.post("/api/v1/events", [bet("e-1"), bet("e-2", currency="euro")], 2)
    operator.settle()

    def counts() -> dict[str, str]:
        result = audit(stack)
        assert "0 findings" in result.output, result.output
        [line] = [line for line in result.stdout.splitlines() if line.startswith("mender  ")]
        return dict(part.split() for part in line.split("  ")[1:])

    before = counts()
    answer = httpx.get(
        f"{stack.edge_url}/api/v1/batches/{batch_id}", headers={"x-api-key": operator.key}
    ).json()
    [wrong] = [item for item in answer["items"] if item["outcome"] == "rejected"]
    assert wrong["errors"][0]["pointer"] == "/1/data/currency"
    [found] = operator.rejects("--batch", batch_id)
    assert found["reject_id"] == wrong["reject_id"]
    found["item"]["data"]["currency"] = "EUR"
    mended = tmp_path / "mended.jsonl"
    mended.write_text(json.dumps(found))
    done = operator.run("replay", "--mended", str(mended), "--reason", "a code", "--rate", "1e9")
    assert "1 items written" in done.output, done.output
    operator.settle(more=1)
    after = counts()
    assert (before["received"], before["accepted"], before["rejected"]) == ("2", "1", "1")
    assert (after["received"], after["accepted"], after["rejected"]) == ("3", "2", "1")
    sql = "SELECT event_id FROM game_transactions WHERE tenant = 'mender' ORDER BY event_id"
    assert [row["event_id"] for row in operator.rows(sql)] == ["e-1", "e-2"]


def test_a_corrected_bet_counts_once_and_the_audit_finds_nothing(stack: Stack) -> None:
    operator = Operator(stack, "corrected")
    for amount in (10, 12):
        operator.post("/api/v1/events", [bet("c-1", amount)], 1)
        operator.settle()
    [found] = operator.rejects()
    done = operator.run("accept", found["reject_id"], "--reason", "typed wrong")
    assert done.exit_code == 0, done.output
    operator.settle(more=2)
    sql = "SELECT toString(sum(bet_amount)) AS bets FROM rounds WHERE tenant = 'corrected'"
    assert operator.rows(sql) == [{"bets": "12"}]
    result = audit(stack)
    assert "0 findings" in result.output, result.output


def test_a_day_is_whole_and_a_planted_loss_and_double_are_found(stack: Stack, tmp_path: Path) -> None:
    report = tmp_path / "report.jsonl"
    result = audit(stack, "--report", str(report))
    assert result.exit_code == 0, result.output
    assert "0 findings" in result.output
    assert CliRunner().invoke(main, ["audit", "--verify", str(report)]).exit_code == 0

    operator = Operator(stack, "planted")
    operator.post("/api/v1/events", [bet("planted-1"), bet("planted-2")], 2)
    operator.post("/api/v1/events", [bet("planted-3", player_id="p-1")], 1)
    operator.post("/api/v1/events", [bet("planted-3", player_id="p-2", round_id="r-2")], 1)
    operator.settle()
    assert codes(audit(stack)) == {"two_players"}

    _repeat_a_canonical_record(stack.settings)
    _delete_a_row(stack.settings)
    result = audit(stack)
    assert result.exit_code == 1
    assert codes(result) == {"two_players", "twice", "not_stored", "round_differs"}


def _repeat_a_canonical_record(settings: Settings) -> None:
    """Writes the tenant's record of ``planted-2`` to its topic a second time."""
    topic = settings.topic_prefix + Kind.GAME_TRANSACTION.topic
    consumer = committed_consumer(settings, "planting")
    consumer.assign([TopicPartition(topic, number, 0) for number in range(settings.partitions)])
    while True:
        [message] = consumer.consume(1, WITHIN_S)
        if message.error() is None and b"planted-2" in (message.value() or b""):
            break
    consumer.close()
    producer = idempotent_producer(settings)
    producer.produce(topic, message.value(), message.key(), partition=message.partition() or 0)
    assert producer.flush(WITHIN_S) == 0


def _delete_a_row(settings: Settings) -> None:
    """Deletes the row of ``planted-1`` from ClickHouse."""
    with closing(connect(settings)) as client:
        client.database = settings.clickhouse_database
        client.command(
            "ALTER TABLE game_transactions_rows DELETE WHERE event_id = 'planted-1' "
            "SETTINGS mutations_sync = 2"
        )
