"""The topic ``standings`` on a real Kafka: each change once, wherever the writer is killed, and whoever
writes beside it.
"""

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from clickhouse_connect.driver.client import Client
from confluent_kafka import Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from connectors.campaigns.evaluation import Result, evaluate
from connectors.campaigns.model.definition import Campaign, load
from connectors.cli.main import main
from connectors.clickhouse.client import connect
from connectors.clickhouse.migrate import migrate
from connectors.standings.changes import EXACT_RANKS
from connectors.standings.publisher import RECORDS_MAX, Publisher
from streams.core.identity import key_of, partition_of
from streams.errors import Overtaken
from streams.kafka.clients import client_config, committed_consumer
from streams.kafka.reading import to_the_ends
from streams.kafka.schema_ids import frames
from streams.kafka.schemas import Schemas
from streams.records.topics import CONTRACTS, STANDINGS
from streams.settings import Settings
from streams.wire.avro import FRAME_BYTES, codec
from streams.wire.money import from_bytes, to_decimal
from tests import clickhouse_server
from tests.connectors.standings.test_changes import standings
from tests.faults.armed import arm_file
from tests.scrapes import documented, scrape, targets
from tests.services import service
from tests.waiting import WITHIN_S, wait_until

pytestmark = pytest.mark.kafka

METRICS = Path(__file__).parent.parent.parent / "docs" / "metrics.md"
PLAYERS = RECORDS_MAX + 10_000
"""Their first publication is two transactions."""

POINTS = (
    "between fencing and reading the standings",
    "within a transaction of standings",
    "between two transactions of an evaluation",
    "after the end of an evaluation",
)
RACE = """
name: {name}
tenant: aurora
period: {{from: {start:%Y-%m-%dT%H:%M:%S}, to: {end:%Y-%m-%dT%H:%M:%S}}}
measure: deposits
form:
  kind: leaderboard
  prizes: [{{ranks: 1-3, amount: 10}}]
"""
DAY = timedelta(days=1)


class Seen(NamedTuple):
    """A record: its partition, the key's parts, and the value."""

    partition: int
    campaign: str
    player: str | None
    value: dict[str, Any] | None


def messages(settings: Settings) -> Iterator[Message]:
    """Every committed record of the topic, of each partition in order."""
    name = settings.topic_prefix + STANDINGS
    places = [TopicPartition(name, number, 0) for number in range(settings.partitions)]
    with closing(committed_consumer(settings, "seen")) as consumer:
        yield from to_the_ends(consumer, places)


def seen(settings: Settings) -> list[Seen]:
    """The same, decoded."""
    decode = codec(CONTRACTS[STANDINGS]).decode
    found = []
    for message in messages(settings):
        _, campaign, *rest = (message.key() or b"").decode().split("|")
        value = message.value()
        record = None if value is None else decode(value[FRAME_BYTES:])
        player = rest[0] if rest else None
        found.append(Seen(message.partition() or 0, campaign, player, record))
    return found


class Board:
    """The standings of a campaign in a partition, by a reader who fails if a change comes twice."""

    def __init__(self, records: list[Seen], campaign: str) -> None:
        self.players: dict[str, dict[str, Any]] = {}
        self.ends: list[dict[str, Any]] = []
        self.records = 0
        for _, of, player, value in records:
            if of != campaign:
                continue
            if player is None:
                self.ends += [value] if value else []
                continue
            self.records += 1
            known = self.players.pop(player, None)
            if value is None:
                assert known is not None
                continue
            assert (known is None) == (value["rank_before"] is None)
            said = {name: value[name] for name in value if not name.endswith("_before")}
            assert known is None or known | {"as_of": said["as_of"]} != said
            self.players[player] = said

    def is_that_of(self, due: Result) -> bool:
        """Whether the board is a result: every player and score, and every rank that is exact."""
        board = {
            player: (to_decimal(from_bytes(said["score"])), to_decimal(from_bytes(said["prize"])))
            for player, said in self.players.items()
        }
        first = {s.rank: s.player_id for s in due.standings[:EXACT_RANKS]}
        ranks = {s["rank"]: player for player, s in self.players.items() if s["rank"] <= EXACT_RANKS}
        return ranks == first and board == {s.player_id: (s.score, s.prize) for s in due.standings}


class World:
    """A ClickHouse with deposits, a folder of campaigns, and the service."""

    def __init__(self, settings: Settings, client: Client, home: Path) -> None:
        self.settings = settings
        self.client = client
        self.folder = home / "campaigns"
        self.folder.mkdir()
        self.log = home / "standings.log"
        self.environment = os.environ | {
            "ROUNDHOUSE_DATA_DIR": str(settings.data_dir),
            "ROUNDHOUSE_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
            "ROUNDHOUSE_TOPIC_PREFIX": settings.topic_prefix,
            "ROUNDHOUSE_CLICKHOUSE_DATABASE": settings.clickhouse_database,
            "ROUNDHOUSE_CLICKHOUSE_DSN": settings.clickhouse_dsn or "",
        }

    def campaign(self, name: str, start: datetime, end: datetime) -> Campaign:
        """Writes a definition."""
        path = self.folder / f"{name}.yaml"
        path.write_text(RACE.format(name=name, start=start, end=end))
        return load(path).campaign

    def deposit(self, players: str, amount: str) -> None:
        """A deposit of each of some ``numbers()``, received now, and the outcome of their request."""
        self.client.command(
            "INSERT INTO payments_rows (tenant, player_id, payment_id, event_id, direction, "
            "successful, counts, amount, currency, occurred_at, received_at) SELECT 'aurora', "
            "concat('p-', toString(number)), toString(generateUUIDv4()) AS id, id, 'deposit', true, "
            f"true, {amount}, 'EUR', now64(6), now64(6) FROM {players}"
        )
        self.client.command(
            "INSERT INTO outcomes_rows (outcome_id, tenant, received_at, stage, received, accepted) "
            "SELECT toString(generateUUIDv4()), 'aurora', now64(6), 'process', 1, 1"
        )

    def service(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """``roundhouse standings run``."""
        command = ["standings", "run", "--campaigns", str(self.folder)]
        return service(command, self.environment, self.log)

    def ends(self, campaign: str) -> int:
        """How many evaluations of a campaign have ended."""
        key = f"aurora|{campaign}".encode()
        return sum(each.key() == key for each in messages(self.settings))


@pytest.fixture
def world(real_settings: Settings, tmp_path: Path) -> Iterator[World]:
    with clickhouse_server.running(tmp_path / "server") as dsn:
        settings = real_settings.model_copy(update={"clickhouse_dsn": dsn})
        with closing(connect(settings)) as client:
            migrate(client, settings.clickhouse_database)
            client.database = settings.clickhouse_database
            yield World(settings, client, tmp_path)


def test_a_killed_writer_continues_from_the_topic_and_writes_nothing_twice(world: World) -> None:
    now = datetime.now(UTC)
    race = world.campaign("race", now - DAY, now + DAY)
    world.deposit(f"numbers({PLAYERS})", "toDecimal128(number + 1, 18)")
    for point in POINTS:
        arm_file(world.settings.data_dir, "standings").write_text(point)
        with world.service() as process:
            assert process.wait(WITHIN_S) == -signal.SIGKILL, world.log.read_text()
        if point != POINTS[-1]:
            assert not world.ends("race")
    assert Board(seen(world.settings), "race").records == PLAYERS

    def is_up_to_date() -> bool:
        board = Board(seen(world.settings), "race")
        as_of = datetime.fromtimestamp(board.ends[-1]["as_of"] / 1e6, UTC)
        return as_of > at and board.is_that_of(evaluate(world.settings, race, as_of))

    with world.service() as process:
        wait_until(lambda: world.ends("race") > 1, "an evaluation after the restart")
        assert Board(seen(world.settings), "race").records == PLAYERS
        world.client.command(
            "ALTER TABLE payments_rows DELETE WHERE player_id = 'p-7' SETTINGS mutations_sync = 1"
        )
        at = datetime.now(UTC)
        world.deposit("numbers(1)", "1000000")
        wait_until(is_up_to_date, "what has changed")
        health = CliRunner(env=world.environment).invoke(main, ["health", "standings"])
        assert health.exit_code == 0, health.output
        check_metrics(world.settings)
        process.terminate()
        assert process.wait(WITHIN_S) == 0
    board = Board(seen(world.settings), "race")
    assert "p-7" not in board.players
    assert board.ends[-1]["players"] == len(board.players) == PLAYERS - 1
    assert board.players["p-0"]["rank"] == 1
    assert board.records <= PLAYERS + EXACT_RANKS + 2  # who was the first is second, and so on


def check_metrics(settings: Settings) -> None:
    """Fails unless the service serves the metrics of docs/metrics.md, and shows the campaign."""
    [target] = [found for found in targets(settings) if found.job == "standings"]
    families, rows = scrape(target), documented(METRICS)
    assert set(families) == {name for name, row in rows.items() if "standings" in row.jobs}
    for name, family in families.items():
        assert (family.type, family.documentation) == (rows[name].type, rows[name].meaning)
    [as_of] = families["roundhouse_standings_as_of_timestamp_seconds"].samples
    assert as_of.labels == {"campaign": "race"}
    assert as_of.value > datetime.now(UTC).timestamp() - WITHIN_S


def test_a_campaign_that_is_over_gets_its_last_evaluation_and_is_removed_a_month_later(
    world: World,
) -> None:
    now = datetime.now(UTC)
    world.deposit("numbers(3)", "toDecimal128(number + 1, 18)")
    world.campaign("over", now - DAY, now - timedelta(seconds=5))
    long_ago = world.campaign("long-ago", now - 40 * DAY, now - 31 * DAY)
    (world.folder / "wrong.yaml").write_text("name: 7")
    publisher = publisher_of(world.settings)
    publisher.take([long_ago])
    publisher.write(Result(long_ago, now - 31 * DAY, 0, standings({"p": 2, "q": 1}), {}))
    stranger = world.campaign("stranger", now - DAY, now + DAY)
    (world.folder / "stranger.yaml").unlink()
    publisher.write(Result(stranger, now - DAY, 0, standings({"p": 1}), {}))
    with world.service():
        wait_until(lambda: world.ends("over") > 0, "the last evaluation")
    records = seen(world.settings)
    [end] = Board(records, "over").ends
    assert end["as_of"] >= end["ends_at"]
    assert not Board(records, "long-ago").players
    assert [each.value for each in records if each.campaign == "long-ago"][-1] is None
    log = world.log.read_text()
    assert "wrong.yaml" in log
    assert "aurora|stranger are on the topic, run, and are not in the folder" in log
    again = publisher_of(world.settings)
    again.take([])
    assert again.evaluation(long_ago) is None


def publisher_of(settings: Settings) -> Publisher:
    return Publisher(settings, Schemas(settings, frames(settings)), lambda text: None)


def campaign(name: str) -> Campaign:
    return Campaign.model_validate(
        {
            "name": name, "tenant": "acme", "period": {"from": "2026-03-01", "to": "2026-04-01"},
            "measure": "turnover",
            "form": {"kind": "leaderboard", "prizes": [{"ranks": "1-3", "amount": Decimal(10)}]},
        }
    )  # fmt: skip


def result(name: str, hour: int, scores: dict[str, int]) -> Result:
    at = datetime(2026, 3, 2, hour, tzinfo=UTC)
    return Result(campaign(name), at, 0, standings(scores), {})


def test_of_two_writers_the_later_one_writes(real_settings: Settings) -> None:
    first, second = publisher_of(real_settings), publisher_of(real_settings)
    first.take([campaign("race")])
    assert first.write(result("race", 1, {"a": 3, "b": 2})) == 2
    second.take([campaign("race")])
    topic = real_settings.topic_prefix + STANDINGS
    with pytest.raises(Overtaken, match=rf"has taken the topic {topic} .* put the files of both into"):
        first.write(result("race", 2, {"a": 3, "c": 9}))
    assert second.write(result("race", 3, {"a": 3, "c": 4})) == 3
    assert second.write(result("race", 3, {"a": 5})) is None, "not new"
    board = Board(seen(real_settings), "race")
    assert {player: said["rank"] for player, said in board.players.items()} == {"c": 1, "a": 2}
    assert [end["changes"] for end in board.ends] == [2, 3]


def test_what_is_not_kept_in_memory_is_read_again(real_settings: Settings) -> None:
    first = publisher_of(real_settings)
    first.take([])
    for name in ("one", "two"):
        first.write(result(name, 1, {"a": 3, "b": 2}))
    first.release([])
    assert first.write(result("one", 2, {"a": 3})) == 1
    second = publisher_of(real_settings)
    second.take([campaign("one")])
    assert second.write(result("one", 3, {"a": 3})) == 0
    assert second.write(result("two", 3, {"a": 3, "b": 2})) == 0


def test_a_campaign_that_moves_to_another_partition_leaves_nothing_behind(
    real_settings: Settings,
) -> None:
    wider = real_settings.model_copy(update={"partitions": 2 * real_settings.partitions})
    [name, *_] = (
        name
        for name in (f"race-{number}" for number in range(99))
        if partition_of(key_of("acme", name), wider.partitions) >= real_settings.partitions
    )
    before = publisher_of(real_settings)
    before.take([campaign(name)])
    before.write(result(name, 1, {"a": 3, "b": 2}))
    grown = NewPartitions(real_settings.topic_prefix + STANDINGS, wider.partitions)
    admin = AdminClient(client_config(real_settings))  # its answers end with it
    [done] = admin.create_partitions([grown]).values()
    done.result(WITHIN_S)

    after = publisher_of(wider)
    after.take([campaign(name)])
    after.write(result(name, 2, {"a": 3, "b": 4}))
    after.write(result(name, 3, {"a": 3, "b": 4}))
    by_partition = {
        number: [each for each in seen(wider) if each.partition == number]
        for number in range(wider.partitions)
    }
    old, new = (partition_of(key_of("acme", name), each.partitions) for each in (real_settings, wider))
    assert not Board(by_partition[old], name).players
    assert by_partition[old][-1].value is None
    assert Board(by_partition[new], name).players.keys() == {"a", "b"}
    counted = Counter(each.player for each in by_partition[old])
    assert counted == {"a": 2, "b": 2, None: 2}, "removed once"
