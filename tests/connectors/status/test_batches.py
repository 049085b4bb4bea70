"""What became of a batch, asked of ClickHouse's tables as the line fills them."""

from collections.abc import Iterator
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import connect
from connectors.status.batches import Page, status
from connectors.status.canonical import TABLES
from streams.core.event import Batch, Kind
from streams.records.topics import OUTCOMES, REJECTS
from streams.settings import Settings
from tests.line import NATIVE, bet, casino
from tests.stored_line import StoredLine

CANONICAL = frozenset(kind.topic for kind in Kind)


class Stored(StoredLine):
    """A line whose batches can be asked for."""

    def status(self, batch_id: str, tenant: str = "acme", **page: Any) -> dict[str, Any] | None:
        return status(self.rows, tenant, batch_id, Page(**page))

    def outcomes(self, batch_id: str, **page: Any) -> list[str]:
        found = self.status(batch_id, **page)
        assert found is not None
        return [item["outcome"] for item in found["items"]]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    found = connect(Settings(data_dir=tmp_path_factory.mktemp("status")))
    yield found
    found.close()


@pytest.fixture
def stored(client: Client) -> Stored:
    return Stored(client, "status")


def named(batch_id: str, **more: Any) -> Batch:
    return NATIVE._replace(batch_id=batch_id, **more)


MIXED = [bet("a"), bet("b", 2), bet("c", currency="euro"), {"event": "x"}, bet("d"), bet("d")]


def test_every_item_has_its_outcome_and_refused_ones_their_errors(stored: Stored) -> None:
    stored.line.run([bet("a"), bet("b", 1)], named("first"))
    stored.line.run(MIXED, named("second", received_at=NATIVE.received_at + 1))
    stored.store()
    found = stored.status("second")
    assert found is not None
    items = found.pop("items")
    assert found == {
        "batch_id": "second",
        "received_at": "2026-03-14T14:53:20.000001Z",
        "source": "native",
        "settled": True,
        "received": 6,
        "accepted": 1,
        "duplicate": 2,
        "conflict": 1,
        "rejected": 2,
        "on_the_way": 0,
        "next_offset": None,
    }
    assert [(item["index"], item["outcome"]) for item in items] == [
        (0, "duplicate"), (1, "conflict"), (2, "rejected"), (3, "rejected"), (4, "accepted"),
        (5, "duplicate"),
    ]  # fmt: skip
    assert [
        (error["code"], error["pointer"]) for item in items for error in item.get("errors", ())
    ] == [("id_conflict", ""), ("malformed", "/2/data/currency"), ("unknown_event", "/3/event")]
    refused = {item["reject_id"] for item in items if "reject_id" in item}
    assert refused == {row["reject_id"] for row in stored.rows("SELECT reject_id FROM rejects")}


def test_a_batch_is_its_own_tenants_alone(stored: Stored) -> None:
    stored.line.run([bet("a")], named("mine"))
    stored.store()
    assert stored.status("mine") is not None
    assert stored.status("mine", tenant="other") is None
    assert stored.status("' OR 1 = 1 --") is None


def test_an_item_with_two_events_is_one_item(stored: Stored) -> None:
    won = {
        "user_id": "p", "timestamp": "2026-03-14T12:00:00Z", "unique_id": "g", "game_id": "g",
        "user_currency": "EUR", "total_bet_user": 1, "bonus_bet_user": 0, "total_win_user": 3,
        "bonus_win_user": 0,
    }  # fmt: skip
    body = [{"event": "realtime-gameround", "data": won}, casino("bet", "c")]
    stored.line.run(body, named("two", source="fasttrack"))
    stored.store()
    assert stored.outcomes("two") == ["accepted", "accepted"]


def test_items_are_on_the_way_until_the_process_stage_has_counted_them(stored: Stored) -> None:
    stored.line.post([bet("a"), bet("b", currency="euro")], named("late"))
    stored.store()
    found = stored.status("late")
    assert found is not None
    assert (found["settled"], found["on_the_way"]) == (False, 1)
    assert [item["outcome"] for item in found["items"]] == ["on_the_way", "rejected"]
    stored.line.settle()
    stored.store()
    assert stored.outcomes("late") == ["accepted", "rejected"]


def test_items_that_the_tables_do_not_show_yet_are_named_only_where_the_counts_leave_no_choice(
    stored: Stored,
) -> None:
    stored.line.run([bet("a")], named("first"))
    stored.line.run([bet("a"), bet("b")], named("both"))
    stored.line.run([bet("c"), bet("e")], named("new"))
    stored.line.run([bet("a", 2)], named("against"))
    stored.store(frozenset((OUTCOMES,)))
    assert stored.outcomes("both") == ["counted", "counted"]
    assert stored.outcomes("new") == ["accepted", "accepted"]
    assert stored.outcomes("against") == ["conflict"]
    stored.store(CANONICAL | {REJECTS})
    assert stored.outcomes("both") == ["duplicate", "accepted"]


def test_a_batch_whose_outcome_has_not_arrived_is_not_known(stored: Stored) -> None:
    stored.line.run([bet("a")], named("early"))
    stored.store(CANONICAL)
    assert stored.status("early") is None


def test_large_batches_are_read_in_pages_of_all_items_or_of_one_outcome(stored: Stored) -> None:
    items = [bet(f"i-{at}", currency="EUR" if at % 3 else "euro") for at in range(10)]
    stored.line.run(items, named("large"))
    stored.store()
    seen, offset = [], 0
    while offset is not None:
        found = stored.status("large", offset=offset, limit=4)
        assert found is not None
        seen += [item["index"] for item in found["items"]]
        offset = found["next_offset"]
    assert seen == list(range(10))
    found = stored.status("large", outcome="rejected", offset=1, limit=2)
    assert found is not None
    assert [item["index"] for item in found["items"]] == [3, 6]
    assert found["next_offset"] == 3
    assert all(item["errors"] for item in found["items"])


def test_lookups_use_the_indexes_of_every_table(stored: Stored) -> None:
    for table in TABLES.values():
        stored.client.command(f"INSERT INTO {table} (tenant) VALUES ('acme')")
        for name in ("batch", "event"):
            explained = f"EXPLAIN indexes = 1 SELECT position FROM {table} WHERE {name}_id = 'x'"
            plan = "\n".join(row["explain"] for row in stored.rows(explained))
            assert f"Name: by_{name}" in plan, f"{table}: {plan}"


def test_a_body_that_was_refused_as_a_whole_has_one_item_without_an_index(stored: Stored) -> None:
    stored.line.run(b"{", named("whole"))
    stored.store()
    found = stored.status("whole")
    assert found is not None
    assert [(item["index"], item["errors"][0]["code"]) for item in found["items"]] == [(-1, "not_json")]
