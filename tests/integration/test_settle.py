"""Settlements on a real Kafka: each award once, whoever is killed where, and whoever settles beside."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from connectors.campaigns.settling.ledger import Ledger, Settlement
from connectors.clickhouse.client import connect
from connectors.clickhouse.migrate import migrate
from streams.core.identity import key_of, partition_of
from streams.errors import Overtaken
from streams.kafka.clients import committed_consumer, transactional_producer
from streams.kafka.reading import to_the_ends
from streams.kafka.schema_ids import frames
from streams.records.topics import AWARDS, CONTRACTS, SETTLEMENTS
from streams.settings import Settings
from streams.wire.avro import FRAME_BYTES, codec
from tests.faults.armed import HOLD, arm_file
from tests.waiting import WITHIN_S, wait_until

pytestmark = pytest.mark.kafka

MISSION = """
name: {name}
tenant: aurora
period: {{from: 2026-03-14, to: 2026-03-15}}
measure: deposits
form:
  kind: challenge
  steps: [{{target: 10, prize: 1}}, {{target: 50, prize: 5}}]
"""
DEPOSITS = {"p-1": 60, "p-2": 50, "p-3": 49, "p-4": 10, "p-5": 9}
AWARDED = Counter({("p-1", 1): 1, ("p-1", 2): 1, ("p-2", 1): 1, ("p-2", 2): 1, ("p-3", 1): 1,
                   ("p-4", 1): 1})  # fmt: skip
BEFORE_THE_COMMIT = (
    "between fencing and reading what was settled",
    "between reading what was settled and an evaluation",
    "between the rows of a result and its run",
    "between a stored result and its settlement",
    "within the transaction of a settlement",
)

PREPARE = "from tests.integration.test_settle import prepare; prepare()"


def prepare() -> None:
    """Makes the tables and some deposits, in a process of its own: chDB allows one for a directory."""
    settings = Settings.load()
    with closing(connect(settings)) as client:
        migrate(client, settings.clickhouse_database)
        rows = [
            json.dumps(
                {
                    "tenant": "aurora", "player_id": player, "payment_id": player, "event_id": player,
                    "direction": "deposit", "successful": True, "counts": True, "amount": amount,
                    "currency": "EUR", "occurred_at": "2026-03-14 12:00:00",
                    "received_at": "2026-03-14 12:00:00",
                }
            )
            for player, amount in DEPOSITS.items()
        ]  # fmt: skip
        client.raw_insert("payments_rows", insert_block="\n".join(rows).encode(), fmt="JSONEachRow")


class Operator:
    """Runs ``roundhouse campaign`` in processes, which may be told to kill themselves."""

    def __init__(self, settings: Settings, home: Path) -> None:
        self.settings = settings
        self.home = home
        self.environment = os.environ | {
            "ROUNDHOUSE_DATA_DIR": str(settings.data_dir),
            "ROUNDHOUSE_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
            "ROUNDHOUSE_TOPIC_PREFIX": settings.topic_prefix,
            "ROUNDHOUSE_CLICKHOUSE_DATABASE": settings.clickhouse_database,
        }
        subprocess.run([sys.executable, "-c", PREPARE], env=self.environment, check=True)
        self.armed = arm_file(settings.data_dir, "campaign")

    def begin(self, name: str) -> subprocess.Popen[str]:
        """Begins to settle a campaign of this name."""
        path = self.home / f"{name}.yaml"
        path.write_text(MISSION.format(name=name))
        command = ["-m", "tests.faults.armed", "campaign", "settle", str(path), "--json", "--by", "ann"]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [sys.executable, *command], env=self.environment, stdout=pipe, stderr=pipe, text=True
        )

    def settle(self, name: str) -> dict[str, Any]:
        """Settles a campaign; what the command prints."""
        output, errors = (process := self.begin(name)).communicate(timeout=WITHIN_S)
        assert process.returncode == 0, errors
        found: dict[str, Any] = json.loads(output)
        return found

    def killed(self, name: str, point: str) -> None:
        """Begins to settle a campaign, and kills itself at a point."""
        self.armed.write_text(point)
        _, errors = (process := self.begin(name)).communicate(timeout=WITHIN_S)
        assert process.returncode == -signal.SIGKILL, errors

    def published(self, topic: str, campaign: str) -> list[dict[str, Any]]:
        """The committed records of a campaign on a topic."""
        consumer = committed_consumer(self.settings, "count")
        with closing(consumer):
            decode = codec(CONTRACTS[topic]).decode
            records = [
                decode((message.value() or b"")[FRAME_BYTES:])
                for message in to_the_ends(consumer, places(self.settings, topic))
            ]
        return [record for record in records if record["campaign"] == campaign]


def places(settings: Settings, topic: str) -> list[TopicPartition]:
    name = settings.topic_prefix + topic
    return [TopicPartition(name, number, 0) for number in range(settings.partitions)]


@pytest.fixture
def operator(real_settings: Settings, tmp_path: Path) -> Operator:
    return Operator(real_settings, tmp_path)


def counted(records: Sequence[dict[str, Any]]) -> Counter[tuple[str, int]]:
    return Counter((record["player_id"], record["step"]) for record in records)


def test_a_campaign_is_settled_once_wherever_the_command_is_killed(operator: Operator) -> None:
    for point in BEFORE_THE_COMMIT:
        operator.killed("mission", point)
        assert not operator.published(SETTLEMENTS, "mission"), point
    operator.killed("mission", "after the transaction of a settlement")
    again = operator.settle("mission")
    assert not again["is_new"]
    assert again["is_intact"]
    assert again["awards"] == sum(AWARDED.values())
    [settlement] = operator.published(SETTLEMENTS, "mission")
    assert settlement["settlement_id"] == again["settlement_id"]
    records = operator.published(AWARDS, "mission")
    assert counted(records) == AWARDED
    assert set(Counter(record["award_id"] for record in records).values()) == {1}


def test_of_two_who_settle_at_once_one_does(operator: Operator) -> None:
    """The first has begun its transaction when the second comes; the second settles."""
    point = "within the transaction of a settlement"
    second = Operator(
        operator.settings.model_copy(update={"data_dir": operator.home / "b"}), operator.home
    )
    operator.armed.write_text(HOLD + point)
    first = operator.begin("race")
    wait_until(lambda: has_open_transaction(operator.settings), "the first one's transaction")
    assert second.settle("race")["is_new"]
    operator.armed.unlink()
    _, errors = first.communicate(timeout=WITHIN_S)
    assert first.returncode == 1, errors
    assert "another process settles this campaign" in errors
    assert len(Ledger(operator.settings, "aurora", "race").published()) == 1
    assert counted(operator.published(AWARDS, "race")) == AWARDED


def has_open_transaction(settings: Settings) -> bool:
    """Whether a record that is not committed is on the topic of awards."""
    consumer = committed_consumer(settings, "open", **{"isolation.level": "read_uncommitted"})
    with closing(consumer):
        return any(True for _ in to_the_ends(consumer, places(settings, AWARDS)))


def settlement_of(campaign: str) -> Settlement:
    at = datetime(2026, 3, 15, 1, tzinfo=UTC)
    return Settlement(
        f"id-{campaign}", "aurora", campaign, "", 0, "run", "definition", "result",
        *(at, at, at), "ann", "", 0, 0, Decimal("0.000000000000000001"), 0,
    )  # fmt: skip


def test_who_has_lost_the_campaign_publishes_nothing(real_settings: Settings) -> None:
    first, second = (Ledger(real_settings, "aurora", "lost") for _ in range(2))
    first.take()
    assert first.published() == []
    second.take()
    with pytest.raises(Overtaken):
        first.publish(settlement_of("lost")._replace(settled_by="first"), [])
    assert second.published() == []
    second.publish(settlement_of("lost"), [])
    assert second.published() == [settlement_of("lost")]


def test_a_settlement_behind_the_open_transaction_of_another_campaign_is_found(
    real_settings: Settings,
) -> None:
    """``other`` writes 1, and is open; ``mine`` writes 2 and commits. A consumer of committed records
    is at the end before 1.
    """
    mine = Ledger(real_settings, "aurora", "mine")
    mine.take()
    partition = partition_of(key_of("aurora", "mine"), real_settings.partitions)
    topic = real_settings.topic_prefix + SETTLEMENTS
    other = transactional_producer(real_settings, "other")
    other.init_transactions()
    other.begin_transaction()
    contract = CONTRACTS[SETTLEMENTS]
    value = frames(real_settings)[contract] + b"not committed"
    other.produce(topic, value, "aurora|other|0", partition=partition)
    assert other.flush(WITHIN_S) == 0
    mine.publish(settlement_of("mine"), [])
    with closing(committed_consumer(real_settings, "short")) as consumer:
        assert not list(to_the_ends(consumer, [TopicPartition(topic, partition, 0)]))
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(mine.published)
        other.abort_transaction()
        assert found.result(WITHIN_S) == [settlement_of("mine")]
