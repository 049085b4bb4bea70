"""Today's code opens the state and topics of a released version and continues its work."""

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from connectors.demo.day import NATIVE, Post
from streams.kafka.clients import idempotent_producer
from streams.records.raw_batch import RawRecord
from streams.records.topics import RAW
from streams.settings import Settings
from tests.faults.books import Held, differences, topics_held
from tests.integration.test_line import Line
from tests.oracle import expect, read_topic
from tests.released import PARTITIONS, Captured, load, raw_records, unpacked

RELEASED = ["0.1.0"]
CONFLICTS = 7
_encode = msgspec.json.Encoder(decimal_format="number").encode


def bets(captured: Captured) -> list[dict[str, object]]:
    """The first bets that were posted, one for each round."""
    found: dict[str, dict[str, object]] = {}
    for post in captured.posts:
        if post.path == NATIVE and not post.invalid:
            document = json.loads(post.body, parse_float=Decimal)
            for item in document["items"] if isinstance(document, dict) else document:
                if item["event"] == "gameround" and not item["data"]["is_win"]:
                    found.setdefault(item["data"]["round_id"], item["data"])
    return list(found.values())


def further(captured: Captured) -> list[Post]:
    """Posts with bets and wins for open rounds, and the earlier posts a second time."""
    items = [
        {
            "event": "gameround",
            "data": {**data, "unique_id": f"{data['unique_id']}-{n}", "is_win": n == 2},
        }
        for data in bets(captured)
        for n in range(3)
    ]
    return [*captured.posts, Post("aurora", NATIVE, _encode(items), len(items), 0)]


def conflicting(captured: Captured) -> Post:
    """A post with ids that were accepted, and other amounts."""
    items = [
        {"event": "gameround", "data": {**data, "amount": Decimal("0.03")}}
        for data in bets(captured)[:CONFLICTS]
    ]
    return Post("aurora", NATIVE, _encode(items), len(items), 0)


def write_raw(line: Line, posts: Sequence[Post]) -> None:
    producer = idempotent_producer(line.settings)
    for number, (headers, body) in enumerate(raw_records(posts, "later")):
        producer.produce(
            line.settings.topic_prefix + RAW,
            body,
            partition=number % PARTITIONS,
            headers=headers,  # type: ignore[arg-type]  # declared with a wider type of pair
        )
    assert producer.flush(60) == 0


def go_on(line: Line, captured: Captured) -> None:
    """Translates the remaining raw records, and one record of each partition again; then processes."""

    def due(record: RawRecord) -> bool:
        return record.offset >= captured.translated[record.partition] - 1

    line.translate(list(filter(due, line.raw())))
    line.cluster = captured.cluster
    for partition in range(PARTITIONS):
        staged = line.staged(partition)
        with line.owned(partition) as owned:
            assert owned.position.staged_offset >= 0, "the position was not found"
            for start in range(0, len(staged), 2):
                owned.apply(staged[start : start + 2])


def accounts(settings: Settings) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    topic = settings.topic_prefix + "outcomes"
    ids = set()
    for outcome in read_topic(settings.kafka_bootstrap, topic, "outcome", PARTITIONS):
        if outcome["outcome_id"] not in ids:  # translate may send an outcome twice
            ids.add(outcome["outcome_id"])
            counts = ("received", "accepted", "duplicate", "conflict", "rejected")
            found[outcome["tenant"]].update({name: outcome[name] for name in counts})
    return {tenant: dict(counts) for tenant, counts in found.items()}


@pytest.mark.parametrize("kept", [True, False], ids=["with its state", "from its changelog"])
@pytest.mark.parametrize("version", RELEASED)
def test_todays_code_goes_on_from_a_released_line(version: str, kept: bool, settings: Settings) -> None:
    state = settings.state_path / "w"
    state.parent.mkdir(parents=True)
    captured = unpacked(version, state)
    if not kept:
        shutil.rmtree(state)
    load(captured, settings)
    line = Line(settings)
    later, conflicts = further(captured), conflicting(captured)
    write_raw(line, [*later, conflicts])

    go_on(line, captured)

    events, rounds = topics_held(settings)
    found = accounts(settings)
    for account in found.values():
        parts = account["accepted"] + account["duplicate"] + account["conflict"] + account["rejected"]
        assert account["received"] == parts
    assert found["aurora"]["conflict"] == CONFLICTS
    found["aurora"]["conflict"] -= CONFLICTS
    found["aurora"]["received"] -= CONFLICTS
    expected = expect([*captured.posts, *later])
    assert differences(expected, Held(events, rounds, rounds, found)).wrong == []
    assert min(account["duplicate"] for account in found.values()) > 50


def test_a_captured_line_is_whole(tmp_path: Path) -> None:
    """Every topic has records, and each step has unfinished work."""
    for version in RELEASED:
        captured = unpacked(version, tmp_path / version)
        assert all(any(log.records for log in logs) for logs in captured.topics.values())
        for partition in range(PARTITIONS):
            assert captured.translated[partition] < len(captured.topics[RAW][partition].records)
