"""Computes the expected results of a day from its posts; shares no code with ``streams``.

The oracle reads the posted JSON with the standard library, applies the contracts' rules in the simplest
way, and reads the line's Avro records with fastavro and the contract files.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Consumer, KafkaError, TopicPartition

from connectors.demo.day import GAMEBALL, Post

AVRO = Path(__file__).parent.parent / "avro"
ZERO = Decimal(0)


@dataclass
class Round:
    """The sums of a round: its bets, wins and rolled-back amounts."""

    bets: Decimal = ZERO
    wins: Decimal = ZERO
    bets_back: Decimal = ZERO
    bonus_bets: Decimal = ZERO
    events: int = 0


@dataclass
class Expected:
    """The expected contents of a line: every event once, the sums of every round, items by tenant."""

    events: set[tuple[str, ...]] = field(default_factory=set)
    rounds: dict[tuple[str, ...], Round] = field(default_factory=lambda: defaultdict(Round))
    received: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)


def expect(posts: Iterable[Post]) -> Expected:
    """Computes the expected contents of a line from the posts of a day."""
    books = Expected()
    for post in posts:
        document = json.loads(post.body, parse_float=Decimal)
        if post.path == GAMEBALL:
            for name in document["events"]:
                books.received[post.tenant] += 1
                books.events.add((post.tenant, "event", f"{post.idempotency_key}|{name}"))
            continue
        for item in document["items"] if isinstance(document, dict) else document:
            books.received[post.tenant] += 1
            data = item["data"]
            if spoilt(data):
                books.rejected[post.tenant] += 1
            else:
                _book(books, post.tenant, item["event"], data)
    return books


def spoilt(data: dict[str, Any]) -> list[str]:
    """The text fields that the generator of the day has made invalid with a number."""
    return [name for name in data if name.endswith(("_id", "timestamp")) and data[name] == 12]


def _book(books: Expected, tenant: str, event: str, data: dict[str, Any]) -> None:
    if event == "realtime-payment":
        identity = f"{data['payment_id']}|{data['type']}|{data['status']}"
    elif event == "realtime-sports-bet":
        identity = f"{data['activity_id']}|{data['type']}|{data['status']}"
    else:
        identity = data["unique_id"]
    key = (tenant, event, identity)
    if key in books.events:
        return
    books.events.add(key)
    if event == "gameround":
        round_ = books.rounds[tenant, data["player_id"], data["round_id"]]
        amount = Decimal(data["amount"])
        if data["is_win"]:
            round_.wins += amount
        else:
            round_.bets += amount
            round_.bonus_bets += amount if data["is_bonus"] else ZERO
        round_.events += 1
    elif event == "realtime-casino":
        round_ = books.rounds[tenant, data["user_id"], data["round_id"]]
        amount = Decimal(data["amount"])
        if data["type"] == "bet":
            round_.bets += amount
            round_.bonus_bets += Decimal(data["bonus_wager_amount"])
        elif data["type"] == "win":
            round_.wins += amount
        elif data["type"] == "rollbackbet":
            round_.bets_back += amount
        round_.events += 1
    elif event == "realtime-gameround":
        round_ = books.rounds[tenant, data["user_id"], data["unique_id"]]
        round_.bets += Decimal(data["total_bet_user"])
        round_.bonus_bets += Decimal(data["bonus_bet_user"])
        round_.wins += Decimal(data["total_win_user"])
        round_.events += 1 + (data["total_win_user"] > 0)


def read_topic(
    bootstrap: str,
    topic: str,
    contract: str,
    partitions: int,
    newer: Mapping[int, str] | None = None,
) -> list[dict[str, Any]]:
    """All committed records of a topic, in order within each partition; amounts are ``Decimal``.

    ``newer``: the schemas of other versions of the contract, by id; their records are read with today's
    schema.
    """
    writers = {
        number: fastavro.parse_schema(json.loads(text), _ignore_default_error=True)
        for number, text in (newer or {}).items()  # a default of bytes is text in JSON
    }
    schema = fastavro.schema.load_schema(str(AVRO / f"{contract}.avsc"))
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "oracle",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 20,
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    found: list[dict[str, Any]] = []
    ended = 0
    while ended < partitions:
        for message in consumer.consume(10_000, 0.5):
            error = message.error()
            if error is None:
                value = message.value() or b""
                writer = writers.get(int.from_bytes(value[1:5], "big"), schema)
                record = fastavro.schemaless_reader(BytesIO(value[5:]), writer, schema)
                assert isinstance(record, dict)
                found.append(record)
            elif error.code() == KafkaError._PARTITION_EOF:
                ended += 1
            else:
                raise AssertionError(error)
    consumer.close()
    return found
