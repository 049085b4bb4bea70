"""Kills a repartition at each step, and compares the line's data with independent books."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import TopicPartition

from connectors.clickhouse.migrate import migrate
from connectors.demo.day import Post, day
from connectors.edge.writer import KafkaWriter
from streams.errors import ConfigurationError
from streams.kafka.admin import ensure_topics
from streams.kafka.clients import committed_consumer
from streams.kafka.offsets import committed_offset
from streams.records.topics import RAW, TOPICS
from streams.settings import Settings
from tests.faults.books import Held, differences
from tests.integration.test_line import Line, a_sink, decoded, question, running, tables
from tests.line import batch_of_post
from tests.metrics import edge_metrics
from tests.oracle import expect, read_topic
from tests.waiting import wait_until

pytestmark = pytest.mark.kafka

KILLED = """
import os, signal, sys
from streams.kafka.schema_ids import frames
from streams.kafka.schemas import Schemas
from streams.settings import Settings
from streams.state import repartition

step, sends = sys.argv[1], 0
repartition.TRANSACTION_RECORDS = 2
send = repartition._Transactions.send

def report(text):
    print(text, flush=True)
    if step in text:
        os.kill(os.getpid(), signal.SIGKILL)

def counted(self, *arguments, **more):
    global sends
    sends += 1
    send(self, *arguments, **more)
    if step == f"{sends} sends":
        os.kill(os.getpid(), signal.SIGKILL)

repartition._Transactions.send = counted
settings = Settings.load()
repartition.Repartitioning(settings, Schemas(settings, frames(settings)), 4, report).run(dry=False)
"""
"""A program that repartitions a line and kills itself at the step that its argument names."""

STEPS = (
    "31 sends",  # during a copy
    "partition 2, a copy of 0",  # the copy is complete, the other has not begun
    "rounds",  # all topics but staged have their new partitions
)


def post_all(settings: Settings, posts: Sequence[Post], name: str) -> None:
    writer = KafkaWriter(settings, edge_metrics())

    async def write() -> None:
        for number, post in enumerate(posts):
            await writer.write(batch_of_post(post, number, name), post.body, post.invalid)

    asyncio.run(write())
    writer.close()


def work(settings: Settings) -> None:
    """Translates and processes all records that are not committed, as workers do."""
    line, group = Line(settings), f"{settings.topic_prefix}line"
    raw = settings.topic_prefix + RAW
    partitions = range(settings.partitions)
    begins = [committed_offset(settings, group, raw, partition) for partition in partitions]
    fresh = [record for record in line.raw() if record.offset >= begins[record.partition]]
    line.translate(fresh)
    for partition in partitions:
        with line.owned(partition) as owned:
            owned.apply(line.staged(partition))
    ends = {record.partition: record.offset + 1 for record in fresh}
    consumer = committed_consumer(settings, group)
    consumer.commit(
        offsets=[TopicPartition(raw, partition, end) for partition, end in ends.items()],
        asynchronous=False,
    )
    consumer.close()


def repartition(settings: Settings, step: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "ROUNDHOUSE_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "ROUNDHOUSE_TOPIC_PREFIX": settings.topic_prefix,
    }
    command = [sys.executable, "-c", KILLED, step]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def sunk(settings: Settings, client: Client, posts: Sequence[Post]) -> None:
    """Runs the sink until all items are settled in ClickHouse."""
    due = (sum(post.items for post in posts), 0, 0)
    sql = "SELECT sum(received), sum(received - settled), sum(accepted - stored) FROM reconciliation"
    with running(a_sink(settings, tables(client))):
        wait_until(lambda: question(client, settings, sql) == [due])


def held(settings: Settings, client: Client) -> Held:
    """The contents of topics and ClickHouse; checks that each round's revisions have no gap."""

    def topic(name: str, contract: str) -> list[dict[str, Any]]:
        name = settings.topic_prefix + name
        return read_topic(settings.kafka_bootstrap, name, contract, settings.partitions)

    events: Counter[tuple[str, ...]] = Counter()
    for found in TOPICS:
        if not found.name.startswith("canonical."):
            continue
        for event in topic(found.name, str(found.contract)):
            if found.contract == "player" and event["source_event"] == "event":
                continue  # derived from a custom event, not an item
            leg = event["type"] if found.contract == "game-transaction" else ""
            events[event["tenant"], event["source_event"], event["event_id"], leg] += 1
    columns = ("bet_amount", "win_amount", "rollback_bet_amount", "bet_bonus_amount")
    revisions: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for record in topic("rounds", "round"):
        revisions[record["tenant"], record["player_id"], record["round_id"]].append(record)
    rounds = {}
    for key, records in revisions.items():
        records.sort(key=lambda record: int(record["revision"]))
        assert [record["revision"] for record in records] == list(range(1, len(records) + 1)), key
        assert len({record["segment"] for record in records}) == 1, f"{key} was opened twice"
        rounds[key] = tuple(records[-1][column] for column in columns)
    texts = ", ".join(f"toString({column})" for column in columns)
    rows = question(client, settings, f"SELECT tenant, player_id, round_id, {texts} FROM rounds")
    names = ("tenant", "received", "accepted", "duplicate", "conflict", "rejected")
    accounts = question(client, settings, f"SELECT {', '.join(names)} FROM reconciliation")
    return Held(
        events,
        rounds,
        {row[:3]: tuple(map(Decimal, row[3:])) for row in rows},
        {row[0]: dict(zip(names[1:], map(int, row[1:]), strict=True)) for row in accounts},
    )


def test_a_repartition_that_is_killed_at_each_step_loses_and_doubles_nothing(
    line_settings: Callable[..., Settings], real_broker: str, chdb: Client
) -> None:
    #   2 partitions: half a day | kills, then a whole run; more is posted | 4: that half again
    two = line_settings(real_broker, partitions=2)
    migrate(chdb, two.clickhouse_database)
    posts = day(7, 600)
    half = len(posts) // 2
    post_all(two, posts[:half], "first")
    work(two)
    sunk(two, chdb, posts[:half])
    segments = [len(Line(two).staged(parent)) for parent in (0, 1)]
    for step in STEPS:
        done = repartition(two, step)
        assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
        for partitions in (2, 4):
            with pytest.raises(ConfigurationError, match="roundhouse repartition"):
                ensure_topics(two.model_copy(update={"partitions": partitions}))
    post_all(two, posts[half:], "meanwhile")
    done = repartition(two, "none")
    assert done.returncode == 0, done.stderr

    four = two.model_copy(update={"partitions": 4})
    ensure_topics(four)
    post_all(four, posts[:half], "again")
    work(four)
    for child in (2, 3):  # the segments of a new partition are greater than all segments of its parent
        opened = [r for r in decoded(four, "rounds", "round", child) if r["revision"] == 1]
        assert opened
        assert all(round_["segment"] >= segments[child - 2] for round_ in opened)
    everything = [*posts, *posts[:half]]
    sunk(four, chdb, everything)
    assert differences(expect(everything), held(four, chdb)).wrong == []
