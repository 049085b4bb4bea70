"""``roundhouse player erase`` on a line under load: nothing of the player is found afterwards, and the
accounts hold.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import TopicPartition

from connectors.campaigns import evaluation
from connectors.cli.main import main
from connectors.clickhouse.client import connect
from connectors.local.kafka import missing_tools
from connectors.local.stack import Stack, on_any_ports
from connectors.standings.publisher import Publisher
from streams.kafka.clients import committed_consumer
from streams.kafka.reading import to_the_ends
from streams.kafka.schema_ids import frames
from streams.kafka.schemas import Schemas
from streams.records.topics import (
    OUTCOMES,
    OWNERS,
    PROFILES,
    ROUNDS,
    SCHEMAS,
    SETTLEMENTS,
    STANDINGS,
    TOPICS,
)
from streams.settings import Settings
from tests import clickhouse_server
from tests.connectors.standings.test_changes import CAMPAIGN, standings
from tests.integration.test_rejects import Operator
from tests.line import bet
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(
    bool(missing_tools()), reason=f"the stack needs a Kafka, with {' and '.join(missing_tools())}"
)

PLAYER = "player-to-erase-7731"
CONTACT = {"mobile": "+358409917731", "email": "erase.me.7731@example.com"}
NAME = "known-as-7731"
TRACES = [text.encode() for text in (PLAYER, NAME, *CONTACT.values())]
NATIVE, GAMEBALL = "/api/v1/events", "/integrations/event"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("erasure")
    with clickhouse_server.running(home / "server") as dsn:
        settings = Settings(
            data_dir=home, clickhouse_dsn=dsn, request_timeout_s=1, ack_timeout_s=1, partitions=2
        )
        with Stack(on_any_ports(settings), in_memory=False) as running:
            yield running


class Load(threading.Thread):
    """Posts bets of the player and of others, and wrong ones, until it is told to stop."""

    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.operator = operator
        self.enough = threading.Event()
        self.requests = 0

    def run(self) -> None:
        while not self.enough.is_set():
            number = self.requests
            items = [
                bet(f"{number}-{index}", 1.5, player_id=player, round_id=f"r-{number // 3}")
                for index, player in enumerate((PLAYER, "p-1", "p-2", "p-3"))
            ]
            items.append(bet(f"{number}-wrong", -1, player_id=PLAYER, round_id=NAME))
            self.operator.post(NATIVE, items, len(items))
            self.requests += 1
            time.sleep(0.02)


def player_event(number: int, **data: Any) -> dict[str, Any]:
    common = {"unique_id": f"u-{number}", "timestamp": "2026-03-14T12:00:00Z", "player_id": PLAYER}
    return {"event": "player", "data": common | data}


def command(stack: Stack, *arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env=stack.environment)


def audit(stack: Stack) -> Result:
    end = (datetime.now(UTC) + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%S")
    return command(stack, "audit", "--to", end)


def test_a_player_is_erased_under_load_and_the_accounts_hold(stack: Stack, tmp_path: Path) -> None:
    operator = Operator(stack, "acme")
    first = [
        player_event(1, username=NAME, country="FI", gender="F", tags=[NAME]),
        {"event": "login", "data": {**player_event(2)["data"]}},
        bet("c-1", 5, player_id=PLAYER),
        bet("p-first", 7, player_id="p-1"),
    ]
    operator.post(NATIVE, first, len(first))
    operator.post(NATIVE, [bet("c-1", 6, player_id=PLAYER)], 1)  # a conflict
    events = {"visit": {"note": f"ask {NAME}"}, "wrong": 7}
    operator.post(GAMEBALL, {"playerUniqueId": PLAYER, "events": events} | CONTACT, 2)
    operator.settle()
    publish_standings(stack.settings)
    before = sums(operator)

    load = Load(operator)
    load.start()
    try:
        wait_until(lambda: load.requests > 20, "some load")
        report = tmp_path / "report.json"
        result = command(
            stack, "player", "erase", "acme", PLAYER, "--yes", "--by", "test", "--report", str(report)
        )
        assert result.exit_code == 0, result.output
        during = load.requests
        wait_until(lambda: load.requests > during + 10, "more load")
    finally:
        load.enough.set()
        load.join()
    account = operator.settle()

    done = json.loads(report.read_text())
    assert done["rows_changed"].keys() >= {
        "game_transactions_rows", "player_events_rows", "logins_rows", "custom_events_rows",
        "rounds_by_day_rows", "rejects_rows",
    }  # fmt: skip
    assert done["rounds_deleted"] > 0
    assert PLAYER not in report.read_text()
    assert account["rejected"] > during  # the wrong item of each request, and the erased player's
    [after] = operator.rows(
        f"SELECT count() AS events FROM game_transactions WHERE player_id = '{done['pseudonym']}'"
    )
    assert int(after["events"]) == done["rows_changed"]["game_transactions_rows"]
    assert sums(operator)["p-first"] == before["p-first"]
    expiring = {expiry["topic"] for expiry in done["expires"]}
    assert expiring == {topic.name for topic in TOPICS} - {OUTCOMES, OWNERS, SETTLEMENTS, SCHEMAS}
    search(stack)
    assert traces_in_topic(stack.settings, STANDINGS, [done["pseudonym"].encode()])
    result = audit(stack)
    assert result.exit_code == 0, result.output

    again = command(stack, "player", "erase", "acme", PLAYER, "--yes")
    assert again.exit_code == 0, again.output
    assert '"rows_changed": {}' in again.output
    [row] = operator.rows("SELECT count() AS rows, any(erased_by) AS by FROM erasures")
    assert (int(row["rows"]), row["by"]) == (1, "test")


def sums(operator: Operator) -> dict[str, str]:
    rows = operator.rows(
        "SELECT event_id, toString(sum(amount)) AS total FROM game_transactions GROUP BY event_id"
    )
    return {row["event_id"]: row["total"] for row in rows}


def search(stack: Stack) -> None:
    """Fails where something of the player is found, except in topics whose records expire."""
    topics = (ROUNDS, PROFILES, STANDINGS)
    found = [f"topic {name}" for name in topics if traces_in_topic(stack.settings, name)]
    found += [
        str(path.relative_to(stack.settings.data_dir))
        for directory in (stack.settings.state_path, stack.settings.data_dir / "logs")
        for path in directory.rglob("*")
        if path.is_file() and any(trace in path.read_bytes() for trace in TRACES)
    ]
    found += [str(path) for path in (stack.settings.data_dir / "erasures").iterdir()]
    with closing(connect(stack.settings)) as client:
        client.database = stack.settings.clickhouse_database
        tables = client.query(
            "SELECT name FROM system.tables "
            "WHERE database = currentDatabase() AND engine LIKE '%MergeTree'"
        ).result_rows
        assert len(tables) > 10
        for (table,) in tables:
            text = client.raw_query(f"SELECT * FROM {table} FORMAT JSONEachRow")
            if any(trace in text for trace in TRACES):
                found.append(f"table {table}")
    assert not found


def publish_standings(settings: Settings) -> None:
    """Writes standings of two campaigns with the player."""
    publisher = Publisher(settings, Schemas(settings, frames(settings)), lambda text: None)
    publisher.take([])
    for name in ("one", "two"):
        campaign = CAMPAIGN.model_copy(update={"name": name, "tenant": "acme"})
        found = standings({PLAYER: 3, "p-1": 2})
        publisher.write(evaluation.Result(campaign, datetime(2026, 3, 2, tzinfo=UTC), 0, found, {}))


def traces_in_topic(settings: Settings, topic: str, traces: Sequence[bytes] = TRACES) -> bool:
    """Whether the newest value of some key, or its key, has something of the player."""
    newest: dict[bytes, bytes] = {}
    records = 0
    consumer = committed_consumer(settings, "search")
    name = settings.topic_prefix + topic
    for number in range(settings.partitions):
        for message in to_the_ends(consumer, [TopicPartition(name, number, 0)]):
            key, value = message.key() or b"", message.value()
            records += 1
            newest.pop(key, None)
            if value is not None:
                newest[key] = value
    consumer.close()
    assert records
    return any(trace in key + value for key, value in newest.items() for trace in traces)


@pytest.mark.parametrize("line", ["the edges refuse", "rounds: "])
def test_a_killed_erasure_is_completed_by_the_next_run(stack: Stack, line: str) -> None:
    tenant = f"killed-{line.split()[0].strip(':')}"
    operator = Operator(stack, tenant)
    operator.post(NATIVE, [bet("1", 2, player_id=PLAYER), player_event(2, username=NAME)], 2)
    operator.settle()
    arguments = ["player", "erase", tenant, PLAYER, "--yes"]
    with subprocess.Popen(
        [sys.executable, "-m", "connectors.cli", *arguments],
        env=stack.environment, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr
        assert any(text.startswith(line) for text in process.stderr)
        process.kill()
    [journal] = (stack.settings.data_dir / "erasures").iterdir()
    pseudonym = json.loads(journal.read_text())["pseudonym"]

    result = command(stack, *arguments)
    assert result.exit_code == 0, result.output
    rows = operator.rows(
        f"SELECT player_id, amount FROM game_transactions WHERE tenant = '{tenant}' "
        f"UNION ALL SELECT pseudonym, 0 FROM erasures WHERE tenant = '{tenant}' "
        f"UNION ALL SELECT player_id, 0 FROM players WHERE tenant = '{tenant}' AND username IS NULL"
    )
    assert [row["player_id"] for row in rows] == [pseudonym] * 3
    assert operator.settle()["accepted"] == 2
    search(stack)
