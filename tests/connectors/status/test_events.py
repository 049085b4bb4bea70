"""The history of an id, and what differs between a conflict and what was accepted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import connect
from connectors.edge.openapi import SAMPLES
from connectors.status.batches import Page, status
from connectors.status.events import history, id_of
from streams.core.event import Batch
from streams.formats import KINDS
from streams.settings import Settings
from streams.stages.preview import preview
from tests.line import NATIVE, bet
from tests.stored_line import StoredLine


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    found = connect(Settings(data_dir=tmp_path_factory.mktemp("events")))
    yield found
    found.close()


@pytest.fixture
def stored(client: Client) -> StoredLine:
    return StoredLine(client, "events")


def named(batch_id: str, later_s: int = 0, **more: Any) -> Batch:
    received_at = NATIVE.received_at + later_s * 1_000_000
    return NATIVE._replace(batch_id=batch_id, received_at=received_at, **more)


def items_of(path: Path) -> list[Any]:
    body = json.loads(path.read_text())
    items: list[Any] = body if isinstance(body, list) else body["items"]
    return items


def differences(stored: StoredLine, batch_id: str) -> dict[str, tuple[Any, Any]]:
    """The differences of the conflict that is the only item of a batch."""
    found = status(stored.rows, "acme", batch_id, Page())
    assert found is not None
    [item] = found["items"]
    assert item["outcome"] == "conflict"
    return {each["field"]: (each["accepted"], each["refused"]) for each in item.get("differences", ())}


def test_an_id_has_its_acceptance_and_its_refusals_the_newest_first(stored: StoredLine) -> None:
    stored.line.run([bet("x", currency="euro"), bet("x-2")], named("one"))
    stored.line.run([bet("x", 1)], named("two", 1))
    stored.line.run([bet("x", 2), bet("y", currency="x")], named("three", 2))
    stored.store()
    found = history(stored.rows, "acme", "native", "gameround", "x")
    [accepted] = found["accepted"]
    assert (accepted["batch_id"], accepted["index"], accepted["received_at"]) == (
        "two", 0, "2026-03-14T14:53:21.000000Z",
    )  # fmt: skip
    assert accepted["events"][0]["amount"] == "1"
    assert [(r["batch_id"], r["outcome"], r["errors"][0]["code"]) for r in found["refused"]] == [
        ("three", "conflict", "id_conflict"), ("one", "rejected", "malformed"),
    ]  # fmt: skip
    assert found["refused"][0]["differences"] == [{"field": "amount", "accepted": "1", "refused": "2"}]
    assert found["refused"][0]["accepted"]["batch_id"] == "two"


def test_an_id_that_two_players_have_was_accepted_twice(stored: StoredLine) -> None:
    """The limit of idempotency: it is decided within a player's partition."""
    stored.line.run([bet("x"), bet("x", player_id="p-4")], named("two"))
    stored.store()
    found = history(stored.rows, "acme", "native", "gameround", "x")["accepted"]
    assert [item["events"][0]["player_id"] for item in found] == ["p-1", "p-4"]
    [one] = history(stored.rows, "acme", "native", "gameround", "x", subject="p-4")["accepted"]
    assert one["index"] == 1


def test_times_and_amounts_of_a_conflict_are_compared_as_values(stored: StoredLine) -> None:
    stored.line.run(b'[{"event":"gameround","data":' + _data("1.10", "EUR") + b"}]", named("one"))
    stored.line.run(b'[{"event":"gameround","data":' + _data("1.100000000000000001", "USD") + b"}]",
                    named("two", 1))  # fmt: skip
    stored.store()
    assert differences(stored, "two") == {
        "amount": ("1.1", "1.100000000000000001"),
        "currency": ("EUR", "USD"),
    }


def _data(amount: str, currency: str) -> bytes:
    data = bet("x", 0, currency=currency)["data"] | {"amount": "AMOUNT"}
    return json.dumps(data).replace('"AMOUNT"', amount).encode()


def test_a_win_that_an_accepted_item_lacks_is_named_leg_by_leg(stored: StoredLine) -> None:
    def played(won: float) -> list[Any]:
        data = {
            "user_id": "p", "timestamp": "2026-03-14T12:00:00Z", "unique_id": "g", "game_id": "g",
            "user_currency": "EUR", "total_bet_user": 1, "bonus_bet_user": 0, "total_win_user": won,
            "bonus_win_user": 0,
        }  # fmt: skip
        return [{"event": "realtime-gameround", "data": data}]

    stored.line.run(played(0), named("one", source="fasttrack"))
    stored.line.run(played(3), named("two", 1, source="fasttrack"))
    stored.store()
    found = differences(stored, "two")
    assert found["win/amount"] == (None, "3")
    assert "bet/amount" not in found


def test_metadata_of_a_gameball_event_is_compared_without_its_time(stored: StoredLine) -> None:
    def visit(**metadata: Any) -> dict[str, Any]:
        return {"playerUniqueId": "p", "events": {"visit": metadata}}

    as_gameball: dict[str, Any] = {"source": "gameball", "idempotency_key": "k"}
    stored.line.run(visit(page="a", times=[1, 2]), named("one", **as_gameball))
    stored.line.run(visit(page="b", times=[1, 3], value=4.5), named("two", 1, **as_gameball))
    stored.store()
    assert differences(stored, "two") == {
        "strings/page": ("a", "b"),
        "lists/times/1": ("2", "3"),
        "numbers/value": (None, "4.5"),
    }
    found = history(stored.rows, "acme", "gameball", "event", "k|visit")
    assert [item["batch_id"] for item in found["accepted"]] == ["one"]
    assert [item["batch_id"] for item in found["refused"]] == ["two"]


def test_the_legs_of_a_sports_bet_are_compared(stored: StoredLine) -> None:
    sample = items_of(SAMPLES / "fasttrack" / "realtime-sports-bet.json")[:1]
    stored.line.run(sample, named("one", source="fasttrack"))
    sample[0]["data"]["bets"][0]["odds"] = 99.5
    stored.line.run(sample, named("two", 1, source="fasttrack"))
    stored.store()
    assert [(path, new) for path, (_, new) in differences(stored, "two").items()] == [
        ("selections/0/odds", "99.5")
    ]


def test_a_conflict_whose_payload_was_erased_has_no_differences(stored: StoredLine) -> None:
    stored.line.run([bet("+", 1)], named("one"))
    stored.line.run([bet("+", 2)], named("two", 1))
    stored.store()
    stored.client.command(
        "ALTER TABLE rejects_rows UPDATE payload = '' WHERE true SETTINGS mutations_sync = 1"
    )
    assert differences(stored, "two") == {}
    assert history(stored.rows, "acme", "native", "gameround", "+")["refused"] == []


def test_a_conflict_whose_accepted_item_has_not_arrived_has_no_differences(stored: StoredLine) -> None:
    stored.line.run([bet("x", 1)], named("one"))
    stored.line.run([bet("x", 2)], named("two", 1))
    stored.store(frozenset(("rejects", "outcomes")))
    assert differences(stored, "two") == {}


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*/*.json")), ids=lambda path: path.stem)
def test_the_kind_and_the_id_of_every_sample_are_those_of_the_line(path: Path) -> None:
    source, body = path.parent.name, path.read_bytes()
    found = preview(named("b", source=source, idempotency_key="k"), body)
    for item in found:
        assert item.idempotency_key is not None
        name, event_id = item.idempotency_key["kind"], item.idempotency_key["id"]
        assert KINDS[source][name].contract == item.contract
        if source != "gameball":
            posted = json.dumps(items_of(path)[item.index])
            assert id_of(posted, is_canonical=False) == (name, event_id)
    assert found
