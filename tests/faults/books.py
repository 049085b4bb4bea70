"""Compares the contents of topics and ClickHouse with independent books of the acknowledged posts."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from confluent_kafka.schema_registry import SchemaRegistryClient

from connectors.clickhouse.query import query
from connectors.demo.day import Post
from connectors.demo.run import accounts
from streams.core.event import Kind
from streams.kafka.schemas import learned
from streams.settings import Settings
from streams.wire.contracts import published
from tests.oracle import Expected, expect, read_topic

Key = tuple[str, ...]
Sums = tuple[Decimal, ...]
_COLUMNS = ("bet_amount", "win_amount", "rollback_bet_amount", "bet_bonus_amount")


class Acknowledged(NamedTuple):
    """A post that was answered with 204 or 422, its batch id, and the fault while it was sent."""

    fault: str
    post: Post
    batch_id: str
    began: float


@dataclass
class Held:
    """Contents of a line: the number of records of each event, the newest revision of each round in
    Kafka and in ClickHouse, and the accounts of each tenant."""

    events: Counter[Key]
    rounds: dict[Key, Sums]
    stored_rounds: dict[Key, Sums]
    accounts: dict[str, dict[str, int]]


@dataclass
class Verdict:
    """The differences found, and the numbers of lost and doubled events by the fault of their posts."""

    wrong: list[str] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    doubled: Counter[str] = field(default_factory=Counter)


def newer_schemas(settings: Settings) -> dict[int, str]:
    """The schemas of all versions, by id; ``learned`` has those that this version does not know."""
    if settings.schema_registry_url is None:
        known = {version.schema_id: json.dumps(version.schema) for version in published()}
        return learned(settings) | known
    with SchemaRegistryClient({"url": settings.schema_registry_url}) as registry:
        found = [
            registry.get_version(subject, number)
            for subject in registry.get_subjects()
            for number in registry.get_versions(subject)
        ]
    return {version.schema_id: version.schema.schema_str for version in found}


def topics_held(settings: Settings) -> tuple[Counter[Key], dict[Key, Sums]]:
    """The number of records of each event in the canonical topics, and each round's newest sums."""
    events: Counter[Key] = Counter()
    newer = newer_schemas(settings)
    for kind in Kind:
        topic = settings.topic_prefix + kind.topic
        for event in read_topic(
            settings.kafka_bootstrap, topic, kind.contract, settings.partitions, newer
        ):
            if kind is Kind.PLAYER and event["source_event"] == "event":
                continue  # derived from a custom event, not an item
            leg = event["type"] if kind is Kind.GAME_TRANSACTION else ""
            events[event["tenant"], event["source_event"], event["event_id"], leg] += 1

    rounds: dict[Key, Sums] = {}
    revisions: dict[Key, int] = defaultdict(int)
    topic = settings.topic_prefix + "rounds"
    for record in read_topic(settings.kafka_bootstrap, topic, "round", settings.partitions, newer):
        key = record["tenant"], record["player_id"], record["round_id"]
        assert record["revision"] == revisions[key] + 1, f"a revision of {key} was lost or doubled"
        revisions[key] = record["revision"]
        rounds[key] = tuple(record[column] for column in _COLUMNS)
    return events, rounds


def held(settings: Settings) -> Held:
    """Reads the canonical topics and ``rounds`` (read committed), and ClickHouse."""
    events, rounds = topics_held(settings)
    texts = ", ".join(f"toString({column})" for column in _COLUMNS)
    rows = query(settings, f"SELECT tenant, player_id, round_id, {texts} FROM rounds", "json")
    stored: dict[Key, Sums] = {}
    for row in json.loads(rows)["data"]:
        values = list(row.values())
        assert tuple(values[:3]) not in stored, "ClickHouse has two rows of one round"
        stored[tuple(values[:3])] = tuple(map(Decimal, values[3:]))
    return Held(events, rounds, stored, accounts(settings))


def compare(posted: Sequence[Acknowledged], found: Held, *, retried: bool) -> Verdict:
    """Compares the acknowledged posts with the contents of the line.

    ``retried``: some requests were sent again, so more items may be received than acknowledged.
    """
    books = expect(entry.post for entry in posted)
    verdict = differences(books, found, retried=retried)
    if verdict.wrong:
        origin = _origins(posted)
        held_ids = {key[:3] for key in found.events}
        verdict.lost.update(origin[key] for key in books.events - held_ids)
        verdict.doubled.update(origin.get(key[:3], "?") for key, n in found.events.items() if n > 1)
    return verdict


def _origins(posted: Iterable[Acknowledged]) -> dict[Key, str]:
    """By event, the fault during which it was first acknowledged."""
    origins: dict[Key, str] = {}
    for entry in posted:
        for key in expect([entry.post]).events:
            origins.setdefault(key, entry.fault)
    return origins


def differences(expected: Expected, found: Held, *, retried: bool = False) -> Verdict:
    """The lost, doubled and wrong events, rounds and accounts; none of them if the line is correct."""
    events: Counter[Key] = Counter({key[:3]: 1 for key in found.events})
    wrong = [f"lost event {key}" for key in expected.events - set(events)]
    wrong += [f"event that was not posted {key}" for key in set(events) - expected.events]
    wrong += [f"doubled event {key}: {n} times" for key, n in found.events.items() if n > 1]
    books = {
        key: (round_.bets, round_.wins, round_.bets_back, round_.bonus_bets)
        for key, round_ in expected.rounds.items()
    }
    for name, rounds in (("topic", found.rounds), ("ClickHouse", found.stored_rounds)):
        for key in books.keys() | rounds.keys():
            due, has = books.get(key), rounds.get(key)
            if due != has:
                wrong.append(f"round {key} in {name}: {has}, expected {due}")
    accepted = Counter(event[0] for event in expected.events)
    for tenant, account in found.accounts.items():
        if account["accepted"] != accepted[tenant] or account["conflict"]:
            wrong.append(f"{tenant} accepted {account['accepted']}, due {accepted[tenant]}: {account}")
        due_received, due_rejected = expected.received[tenant], expected.rejected[tenant]
        has_received, has_rejected = account["received"], account["rejected"]
        exact = has_received == due_received and has_rejected == due_rejected
        more = retried and has_received >= due_received and has_rejected >= due_rejected
        if not exact and not more:
            wrong.append(f"{tenant}: the received items are not those posted: {account}")
    return Verdict(wrong)
