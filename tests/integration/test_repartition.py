"""A line gets more partitions: ids, rounds and profiles are found on their new partitions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.cli.main import main
from streams.core.identity import parents, partition_of
from streams.errors import ConfigurationError, NotDrained, StateDamaged
from streams.kafka.admin import ensure_topics
from streams.kafka.clients import committed_consumer
from streams.kafka.offsets import when_elected
from streams.kafka.schemas import Schemas
from streams.records.topics import RAW, TOPICS, WINDOW
from streams.settings import Settings
from streams.state import repartition
from streams.state.repartition import Copied, Repartitioning
from tests.integration.test_line import Line, decoded, read
from tests.line import FRAMES, bet, win
from tests.waiting import wait_until

pytestmark = pytest.mark.kafka

PLAYERS = [f"p-{number}" for number in range(40)]
SAMPLES = Path(__file__).parents[2] / "connectors" / "edge" / "samples"


def bets() -> list[Any]:
    return [bet(f"b-{player}", 5, player_id=player, round_id=f"r-{player}") for player in PLAYERS]


@pytest.fixture
def old(line_settings: Callable[..., Settings], real_broker: str) -> Settings:
    """A line with two partitions that has processed some requests and has no work left."""
    made = line_settings(real_broker, partitions=2)
    work(made, bets())
    return made


def work(settings: Settings, *requests: list[Any]) -> None:
    """Runs requests through the whole line, with a worker that begins at the committed offsets."""
    line = Line(settings)
    consumer = committed_consumer(settings, f"{settings.topic_prefix}line")
    for items in requests:
        line.post(items)
    for record in line.raw():
        raw_partition = TopicPartition(settings.topic_prefix + RAW, record.partition)
        [committed] = when_elected(lambda: consumer.committed([raw_partition], timeout=10))  # noqa: B023
        if record.offset >= committed.offset:
            line.translate([record])
            raw_partition.offset = record.offset + 1
            consumer.commit(offsets=[raw_partition], asynchronous=False)
    consumer.close()
    for partition in range(settings.partitions):
        with line.owned(partition) as owned:
            for staged in line.staged(partition):
                owned.apply([staged])


def run(settings: Settings, to: int = 4, dry: bool = False) -> list[Copied]:
    return Repartitioning(settings, Schemas(settings, FRAMES), to, print).run(dry)


def grown(settings: Settings, partitions: int = 4) -> Settings:
    return settings.model_copy(update={"partitions": partitions})


def counts(settings: Settings) -> dict[str, int]:
    topics = AdminClient({"bootstrap.servers": settings.kafka_bootstrap}).list_topics().topics
    prefix = settings.topic_prefix
    return {topic.name: len(topics[prefix + topic.name].partitions) for topic in TOPICS}


def tally(settings: Settings) -> dict[str, int]:
    found = dict.fromkeys(("received", "accepted", "duplicate", "conflict", "rejected"), 0)
    for partition in range(settings.partitions):
        for outcome in decoded(settings, "outcomes", "outcome", partition):
            for name in found:
                found[name] += outcome[name]
    return found


def newest_rounds(settings: Settings) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for partition in range(settings.partitions):
        for each in decoded(settings, "rounds", "round", partition):
            known = found.get(each["round_id"])
            if known is None or known["revision"] < each["revision"]:
                found[each["round_id"]] = each
    return found


def test_after_growth_ids_are_known_rounds_go_on_and_the_accounts_hold(old: Settings) -> None:
    moved = [player for player in PLAYERS if partition_of(f"acme|{player}", 4) > 1]
    assert len(moved) > 10
    before = newest_rounds(old)
    copies = run(old)
    assert [(copied.partition, copied.parent) for copied in copies] == [(2, 0), (3, 1)]

    new = grown(old)
    ensure_topics(new)  # workers start with the new number
    wins = [win(f"w-{player}", 7, player_id=player, round_id=f"r-{player}") for player in PLAYERS]
    others = [bet(f"b-{player}", 6, player_id=player, round_id="other") for player in PLAYERS]
    work(new, bets(), wins, others)

    after = newest_rounds(new)
    assert after.keys() == before.keys()
    for round_id, state in after.items():
        assert state["segment"] == before[round_id]["segment"]
        assert (state["revision"], state["bet_count"], state["win_count"]) == (2, 1, 1)
    number = len(PLAYERS)
    assert tally(new) == {
        "received": 4 * number,
        "accepted": 2 * number,
        "duplicate": number,
        "conflict": number,
        "rejected": 0,
    }


def sample(name: str, **data: str) -> Any:
    [item] = json.loads((SAMPLES / "native" / f"{name}.json").read_text())
    return item | {"data": item["data"] | data}


def test_players_and_games_are_known_on_the_new_partitions(
    line_settings: Callable[..., Settings], real_broker: str
) -> None:
    settings = line_settings(real_broker, partitions=2)
    players = [sample("player", unique_id=f"e-{player}", player_id=player) for player in PLAYERS]
    work(settings, [*players, sample("game")])
    copies = run(settings)
    moved = [player for player in PLAYERS if partition_of(f"acme|{player}", 4) > 1]
    assert sum(copied.profiles for copied in copies) == len(moved) + 2  # the game, on each

    new = grown(settings)
    work(new, bets())
    found = newest_rounds(new)
    assert len(found) == len(PLAYERS)
    for each in found.values():
        assert (each["player_country"], each["game_name"]) == ("FI", "Book of Rails")


class Killed(Exception):
    """Raised by these tests to end a run."""


@pytest.mark.parametrize("sends", [0, 2, 4])
def test_a_run_that_ended_while_it_copied_goes_on(
    sends: int,
    line_settings: Callable[..., Settings],
    real_broker: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = line_settings(real_broker, partitions=1)
    work(settings, *[bets()[number : number + 5] for number in range(0, 20, 5)])
    monkeypatch.setattr(repartition, "TRANSACTION_RECORDS", 2)
    ends_after(monkeypatch, repartition._Transactions, "send", sends)
    with pytest.raises(Killed):
        run(settings, to=2)
    monkeypatch.undo()
    with pytest.raises(ConfigurationError, match="partitions"):
        ensure_topics(settings)  # neither with the old number
    with pytest.raises(ConfigurationError, match="partitions"):
        ensure_topics(grown(settings, 2))  # nor with the new one
    with pytest.raises(ConfigurationError, match="repartition --to 2"):
        run(settings, to=4)
    [copied] = run(settings, to=2)
    assert copied.records == len(read(settings, WINDOW, 0))
    ensure_topics(grown(settings, 2))
    work(grown(settings, 2), bets())
    assert tally(grown(settings, 2))["duplicate"] == 20


@pytest.mark.parametrize("grows", [0, 1, 2])
def test_a_run_that_ended_between_its_steps_goes_on(
    grows: int, old: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_after(monkeypatch, Repartitioning, "_grow", grows)
    with pytest.raises(Killed):
        run(old)
    monkeypatch.undo()
    run(old)
    assert set(counts(old).values()) == {4}
    work(grown(old), bets())
    assert tally(grown(old))["duplicate"] == len(PLAYERS)


def ends_after(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, calls: int) -> None:
    original = getattr(owner, name)
    left = calls

    def call(self: Any, *arguments: Any) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        original(self, *arguments)

    monkeypatch.setattr(owner, name, call)


def test_what_a_paused_worker_stages_after_the_growth_is_skipped(old: Settings) -> None:
    paused = Line(old)
    new = grown(old)
    run(old)
    late = [bet(f"late-{player}", player_id=player) for player in PLAYERS]
    Line(new).post(late)
    paused.translate(paused.raw()[-1:])  # among two partitions, and its offset is not committed
    work(new)
    number = len(PLAYERS)
    assert tally(new)["accepted"] == 2 * number
    assert tally(new)["duplicate"] == tally(new)["conflict"] == 0


def test_a_dry_run_says_what_would_be_copied_and_writes_nothing(old: Settings) -> None:
    before = counts(old), len(read(old, WINDOW, 0, 1))
    would = run(old, dry=True)
    assert (counts(old), len(read(old, WINDOW, 0, 1))) == before
    assert run(old) == would


def test_a_line_with_work_left_is_refused(old: Settings) -> None:
    line = Line(old)
    line.post(bets())
    line.translate(line.raw()[-1:])
    with pytest.raises(NotDrained, match=r"records of staged\[\d\] are not applied"):
        run(old)
    assert set(counts(old).values()) == {2}


def test_a_raw_record_that_may_be_translated_again_is_refused(old: Settings) -> None:
    line = Line(old)
    line.post([bet("late", player_id="p-1")])
    line.translate(line.raw()[-1:])  # and its offset is not committed: the worker was killed
    for partition in range(2):
        with line.owned(partition) as owned:
            owned.apply(line.staged(partition))
    with pytest.raises(NotDrained, match="a worker was killed"):
        run(old)


def test_a_worker_that_runs_is_refused(old: Settings) -> None:
    consumer = committed_consumer(old, f"{old.topic_prefix}line")
    consumer.subscribe([old.topic_prefix + RAW])
    wait_until(lambda: consumer.poll(0.1) is not None and bool(consumer.assignment()), "a member")
    with pytest.raises(NotDrained, match="stop them first"):
        run(old)
    consumer.close()


def test_a_copy_that_differs_from_its_parent_is_found(old: Settings) -> None:
    run_until_state_grows(old)
    producer = Producer({"bootstrap.servers": old.kafka_bootstrap})
    stray = read(old, WINDOW, 0)[0]
    producer.produce(
        old.topic_prefix + WINDOW,
        (stray.value() or b"") + b"!",
        partition=2,
        headers={repartition.COPIED_FROM: b"%d" % (stray.offset() or 0)},
    )
    producer.flush()
    with pytest.raises(StateDamaged, match="is not its original"):
        run(old)


def run_until_state_grows(settings: Settings) -> None:
    with pytest.MonkeyPatch.context() as patch:
        ends_after(patch, repartition._Transactions, "send", 0)
        with pytest.raises(Killed):
            run(settings)


@pytest.mark.parametrize("to", [1, 2, 3, 5])
def test_only_a_multiple_is_taken(to: int) -> None:
    with pytest.raises(ConfigurationError, match="can become a multiple, like 4"):
        parents(2, to)


def test_the_command_grows_a_line_and_then_has_nothing_to_do(
    old: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDHOUSE_KAFKA_BOOTSTRAP", old.kafka_bootstrap)
    monkeypatch.setenv("ROUNDHOUSE_TOPIC_PREFIX", old.topic_prefix)
    monkeypatch.setenv("ROUNDHOUSE_PARTITIONS", "2")

    def output(*arguments: str) -> str:
        shown = CliRunner().invoke(main, ["repartition", "--to", "4", *arguments])
        assert shown.exit_code == 0, shown.output
        return shown.output

    assert "would make: partition 2, a copy of 0" in output("--dry-run")
    assert "Set ROUNDHOUSE_PARTITIONS=4" in output()
    assert "nothing to do" in output()
