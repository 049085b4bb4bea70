"""``kpi_play`` with results that are kept gives what it computes from rounds, whatever has changed."""

import json
import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import connect
from connectors.clickhouse.kept_play import Keeper, View, keep_all, rebuild, views
from connectors.clickhouse.migrate import migrate
from streams.settings import Settings
from tests.waiting import wait_until

START = datetime(2026, 2, 20, tzinfo=UTC)
DAYS = 25
FORMS = [
    View("day", "game", "EUR"),
    View("hour", "tenant", "EUR"),
    View("week", "provider", ""),
    View("month", "country", "EUR"),
]
KEPT = [form for form in FORMS if form.grain != "hour"]


def text_of(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S.%f}"


def played(number: int, at: datetime, revision: int = 1, **changes: Any) -> dict[str, Any]:
    """The row of a round; the same number gives the same round."""
    dice = random.Random(number)
    player = dice.randrange(40)
    won = dice.random() < 0.4
    stake = f"{dice.randrange(1, 5000) / 100:.2f}"
    payout = f"{dice.randrange(1, 9000) / 7:.7f}" if won else "0"
    return {
        "tenant": dice.choice(["acme", "blue"]),
        "player_id": f"p{player}",
        "round_id": f"r{number}",
        "segment": 0,
        "revision": revision,
        "game_id": f"g{number % 7}",
        "currency": ("EUR", "SEK", "BTC")[player % 3],
        "counts": True,
        "first_event_at": text_of(at),
        "last_event_at": text_of(at),
        "last_received_at": text_of(at),
        "bet_count": 1,
        "bet_amount": stake,
        "bet_bonus_amount": stake if number % 9 == 0 else "0",
        "win_count": int(won),
        "win_amount": payout,
        "player_country": ("FI", "SE", None)[player % 3],
        "game_provider": ("north", "south")[number % 2],
        "game_categories": ["slots"] if number % 3 else [],
    } | changes


FALSIFIED = (
    "INSERT INTO kept_play SELECT * REPLACE (now64(6, 'UTC') AS kept_at, [] AS results) "
    "FROM kept_play FINAL WHERE grain = 'day' AND by = 'game' AND tenant = 'acme' "
    "AND period = '2026-03-03'"
)
"""Empties the results of a day."""


class Database:
    """A database with the rounds of 25 days."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self.client = client
        self.settings = settings

    def insert(self, table: str, *rows: dict[str, Any], token: str = "") -> None:
        lines = b"\n".join(json.dumps(row).encode() for row in rows)
        settings = {"async_insert": 0} | ({"insert_deduplication_token": token} if token else {})
        self.client.raw_insert(table, insert_block=lines, fmt="JSONEachRow", settings=settings)

    def answers(self) -> dict[View, list[Any]]:
        sql = "SELECT * FROM kpi_play({}) ORDER BY ALL"
        return {form: list(self.client.query(sql.format(form)).result_rows) for form in FORMS}

    def holding(self, form: View) -> dict[tuple[str, str], bool]:
        sql = f"SELECT tenant, toString(period), holds FROM kept_play_at({form.between()})"
        return {(tenant, day): bool(holds) for tenant, day, holds in self.client.query(sql).result_rows}

    def check(self) -> None:
        """Asserts that the results are those that are computed where nothing is kept."""
        found = self.answers()
        self.client.command("TRUNCATE TABLE kept_play")
        assert found == self.answers()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("kept"), kpis_settled_s=0.001)
    client = connect(settings)
    migrate(client, settings.clickhouse_database)
    made = Database(client, settings)
    rate = {"base": "SEK", "quote": "EUR", "day": "2026-02-22", "rate": "0.0901234567891234567"}
    made.insert("rates", rate)
    made.insert(
        "rounds_rows",
        *(
            played(number, START + timedelta(minutes=17 * number))
            for number in range(DAYS * 1440 // 17)
        ),
    )
    yield made
    made.client.close()


@pytest.fixture
def database(filled: Database) -> Database:
    """All results are kept when a test begins."""
    keep_all(filled.client, 0.001, KEPT)
    return filled


def test_results_that_are_kept_equal_what_is_computed_and_are_used(database: Database) -> None:
    assert all(all(database.holding(form).values()) for form in KEPT)
    database.check()
    keep_all(database.client, 0.001, KEPT)
    database.client.command(FALSIFIED)
    rows = database.answers()[FORMS[0]]
    assert not [row for row in rows if row[0] == "acme" and f"{row[1]:%m-%d}" == "03-03"]
    database.client.command("TRUNCATE TABLE kept_play")


def test_a_later_revision_or_one_that_moves_a_round_changes_the_results(database: Database) -> None:
    at = START + timedelta(minutes=17 * 900)
    before = database.answers()
    database.insert("rounds_rows", played(900, at, 2, win_amount="77.7", win_count=1))
    changed = [key for key, holds in database.holding(FORMS[0]).items() if not holds]
    assert changed == [(played(900, at)["tenant"], f"{at:%Y-%m-%d}")]
    moved = START + timedelta(minutes=17 * 1000)
    earlier = text_of(moved - timedelta(days=3))
    database.insert("rounds_rows", played(1000, moved, 2, first_event_at=earlier))
    assert database.answers() != before
    database.check()


def test_a_round_whose_events_lie_years_apart_counts_once_where_it_has_moved_to(
    database: Database,
) -> None:
    at = START + timedelta(minutes=17 * 600)
    counted = "SELECT count(), uniqExact(tenant, player_id, round_id) FROM rounds"
    [before] = database.client.query(counted).result_rows
    wide = {"first_event_at": "1990-01-01 00:00:00", "last_event_at": "2026-12-01 00:00:00"}
    database.insert("rounds_rows", played(600, at, 2, **wide))
    [after] = database.client.query(counted).result_rows
    assert before == after
    rows = database.answers()[View("month", "country", "EUR")]
    assert sum(row[4] + row[5] for row in rows) == after[0]
    database.check()


def test_a_block_that_comes_again_changes_no_result(database: Database) -> None:
    again = [played(number, START + timedelta(minutes=17 * number)) for number in range(50)]
    before = database.answers()
    for _ in range(2):
        database.insert("rounds_rows", *again, token="again")
        assert database.answers() == before
    database.check()


def test_a_new_day_and_a_round_of_a_past_day_are_in_the_results_at_once(database: Database) -> None:
    total = sum(row[4] for row in database.answers()[FORMS[0]])
    database.insert(
        "rounds_rows",
        played(90_001, START + timedelta(days=DAYS + 2)),
        played(90_003, START + timedelta(days=2)),
    )
    assert sum(row[4] + row[5] for row in database.answers()[FORMS[0]]) >= total + 1
    database.check()


def test_a_rate_that_is_imported_later_changes_the_days_from_its_day_on(database: Database) -> None:
    rate = {"base": "BTC", "quote": "EUR", "day": "2026-03-01", "rate": "61234.56789"}
    database.insert("rates", rate)
    held = database.holding(FORMS[0])
    assert {day < "2026-03-01" for (_, day), holds in held.items() if holds} == {True}
    assert {day >= "2026-03-01" for (_, day), holds in held.items() if not holds} == {True}
    assert all(database.holding(View("week", "provider", "")).values()), "it converts nothing"
    database.check()


def test_players_who_become_one_person_are_one_active_player(database: Database) -> None:
    before = database.answers()
    contacts = [
        {"tenant": "acme", "player_id": f"p{number}", "event_id": f"e{number}", "email": "a@b.example",
         "received_at": text_of(START), "occurred_at": text_of(START)}
        for number in range(20)
    ]  # fmt: skip
    database.insert("custom_events_rows", *contacts)
    assert {tenant for (tenant, _), holds in database.holding(FORMS[0]).items() if holds} == {"blue"}
    assert database.answers() != before
    keep_all(database.client, 0.001, KEPT)
    undone = {
        "tenant": "acme",
        "player_id": "p1",
        "other_player_id": "p2",
        "contact_sha256": "",
        "holds": True,
    }
    database.insert("merge_corrections", undone | {"corrected_by": "me", "reason": "twins"})
    assert {tenant for (tenant, _), holds in database.holding(FORMS[0]).items() if holds} == {"blue"}
    database.check()


def test_a_day_that_changed_a_moment_ago_is_not_kept(database: Database) -> None:
    database.insert("rounds_rows", played(90_001, START + timedelta(days=DAYS + 2)))
    assert keep_all(database.client, 3600, KEPT) == 0
    assert keep_all(database.client, 0.001, KEPT) > 0


def test_a_rebuild_gives_the_same_and_names_what_was_wrong(database: Database) -> None:
    before, now, differing = rebuild(database.client, 0.001, KEPT)
    assert before == now > 0
    assert differing == []
    database.client.command(FALSIFIED)
    assert rebuild(database.client, 0.001, KEPT).differing == [(FORMS[0], "acme", "2026-03-03")]


def test_every_dimension_is_kept_by_each_grain_in_each_currency_of_a_rate(database: Database) -> None:
    found = list(views(database.client))
    assert len(found) == 3 * 6 * 2 == len(set(found))


def test_the_keeper_keeps_what_settles_while_it_runs(database: Database) -> None:
    database.client.command("TRUNCATE TABLE kept_play")
    failures: list[BaseException] = []
    opened = threading.Event()

    def connected() -> Client:
        opened.set()
        client = connect(database.settings)
        client.database = database.settings.clickhouse_database
        return client

    keeper = Keeper(connected, 0.001, failures.append, lambda client: KEPT)
    keeper.start()
    try:
        wait_until(lambda: all(database.holding(FORMS[0]).values()), "the results of all days")
        database.insert("rounds_rows", played(90_001, START + timedelta(days=DAYS + 2)))
        wait_until(lambda: all(database.holding(FORMS[0]).values()), "the results of the new day")
    finally:
        keeper.stop()
    assert opened.is_set()
    assert failures == []
