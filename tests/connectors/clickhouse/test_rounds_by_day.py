"""Stored rounds are moved to the table by day, stand under their days, and are rebuilt."""

import asyncio
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from click.testing import CliRunner
from clickhouse_connect.driver.client import Client

from connectors.cli.main import main
from connectors.clickhouse.client import connect
from connectors.clickhouse.migrate import HERE, migrate, statements
from connectors.clickhouse.rebuilding import Slice
from connectors.clickhouse.service import create_app
from streams.settings import Settings

MOVE = "0016_rounds_by_day.sql", "0017_rounds_rows.sql"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A database of 0.1.0: without the last two migrations."""
    opened = connect(Settings(data_dir=tmp_path))
    before = tmp_path / "before"
    before.mkdir()
    for path in HERE.glob("[0-9]*.sql"):
        if path.name < MOVE[0]:
            shutil.copy(path, before)
    migrate(opened, "older", before)
    yield opened
    opened.close()


def insert(client: Client, round_id: str, revision: int, first: str, last: str, bets: int = 1) -> None:
    """Inserts a revision as a sink of 0.1.0 does."""
    client.command(
        "INSERT INTO rounds_rows (tenant, player_id, round_id, revision, first_event_at, "
        "last_event_at, last_received_at, bet_count, bet_amount) SELECT "
        f"'acme', 'p', '{round_id}', {revision}, '{first}', '{last}', '{last}', {bets}, {revision}"
    )


def stored(client: Client) -> list[Any]:
    rows = client.query(
        "SELECT round_id, revision, toString(first_event_at), stake, toString(first_bet_at) "
        "FROM rounds ORDER BY round_id"
    ).result_rows
    return [(str(a), int(b), str(c)[:16], int(d), e and str(e)[:16]) for a, b, c, d, e in rows]


#   a  one event                       its time is that of the bet
#   b  a bet and a later win           the time of the bet is not known
#   c  revision 2 begins a day before revision 1
DUE = [
    ("a", 1, "2026-03-01 10:00", 1, "2026-03-01 10:00"),
    ("b", 2, "2026-03-01 10:00", 2, None),
    ("c", 2, "2026-02-28 23:59", 2, None),
]


def test_stored_rounds_are_moved_and_those_in_doubt_are_marked(client: Client) -> None:
    insert(client, "a", 1, "2026-03-01 10:00:00", "2026-03-01 10:00:00")
    insert(client, "b", 1, "2026-03-01 10:00:00", "2026-03-01 10:00:00")
    insert(client, "b", 2, "2026-03-01 10:00:00", "2026-03-01 10:01:00")
    insert(client, "c", 1, "2026-03-01 00:01:00", "2026-03-01 00:01:00")
    insert(client, "c", 2, "2026-02-28 23:59:00", "2026-03-01 00:01:00")
    assert migrate(client, "older") == [
        path.name for path in sorted(HERE.glob("[0-9]*.sql")) if path.name >= MOVE[0]
    ]
    assert stored(client) == DUE
    doubt = client.query(
        "SELECT DISTINCT round_id FROM rounds_by_day_rows FINAL WHERE in_doubt ORDER BY round_id"
    ).result_rows
    assert [name for (name,) in doubt] == ["b", "c"]
    # a sink of 0.1.0 goes on
    insert(client, "c", 3, "2026-02-28 23:59:00", "2026-03-01 00:01:00")
    assert stored(client)[2] == ("c", 3, "2026-02-28 23:59", 3, None)
    assert client.query("SELECT count() FROM rounds_rows").result_rows == [(0,)]


def test_a_move_that_was_interrupted_anywhere_is_repeated_from_its_beginning(client: Client) -> None:
    insert(client, "a", 1, "2026-03-01 10:00:00", "2026-03-01 10:00:00")
    insert(client, "b", 2, "2026-03-01 10:00:00", "2026-03-01 10:01:00")
    insert(client, "c", 1, "2026-03-01 00:01:00", "2026-03-01 00:01:00")
    for name in MOVE:
        steps = statements((HERE / name).read_text(), "older")
        for done in range(1, len(steps)):
            for statement in steps[:done]:
                client.command(statement)
            if (name, done) == (MOVE[0], 4):  # a sink inserts between the view and the copy
                insert(client, "c", 2, "2026-02-28 23:59:00", "2026-03-01 00:01:00")
        for statement in steps:
            client.command(statement)
    migrate(client, "older")
    assert stored(client) == DUE


def test_a_row_stands_under_every_day_of_its_round_but_at_most_62_before_the_last(
    client: Client,
) -> None:
    migrate(client, "older")
    insert(client, "short", 1, "2026-02-27 23:00:00", "2026-03-02 01:00:00")
    insert(client, "long", 1, "1900-01-01 00:00:00", "2026-03-02 01:00:00")
    found = client.query(
        "SELECT round_id, count(), toString(min(day)), toString(max(day)) FROM rounds_by_day_rows "
        "GROUP BY round_id ORDER BY round_id"
    ).result_rows
    assert [tuple(row) for row in found] == [
        ("long", 63, "1900-01-01", "2026-03-02"),
        ("short", 4, "2026-02-27", "2026-03-02"),
    ]
    assert len(stored(client)) == 2


@pytest.fixture
def settings(client: Client, tmp_path: Path) -> Settings:
    """A database with a round whose row has lost a bet."""
    settings = Settings(data_dir=tmp_path)
    migrate(client, settings.clickhouse_database)
    insert(client, "a", 1, "2026-03-01 10:00:00", "2026-03-01 10:00:00")
    client.command(
        "INSERT INTO game_transactions_rows (tenant, player_id, round_id, event_id, type, amount, "
        "occurred_at, received_at) SELECT 'acme', 'p', 'a', toString(number), 'bet', 1, "
        "'2026-03-01 10:00:00', '2026-03-01 10:00:00' FROM numbers(2)"
    )
    return settings


def test_the_command_reports_what_differs_and_writes_it(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDHOUSE_DATA_DIR", str(settings.data_dir))

    def said(*more: str) -> list[str]:
        result = CliRunner().invoke(main, ["rounds", "rebuild", "acme", *more])
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    differs = "0 same, 0 confirmed, 1 differs, 0 several segments, 0 events missing"
    assert said("--dry-run") == [
        f"2026-03  {differs}",
        f"all  {differs}  (dry run: nothing is written)",
    ]
    assert stored(client)[0][3] == 1
    assert said("--from", "2026-04-01")[0].startswith("all  0 same, 0 confirmed, 0 differs")
    assert said("--from", "2026-03-31", "--to", "2026-04-01")[0] == f"2026-03  {differs}"
    assert stored(client) == [("a", 1, "2026-03-01 10:00", 2, "2026-03-01 10:00")]
    assert said()[0].startswith("2026-03  1 same")


def test_the_sink_process_rebuilds_what_it_is_asked_for(settings: Settings, client: Client) -> None:
    app = create_app([client], "secret")
    wanted = Slice("acme", date(2026, 3, 1), 0, 1, write=True)

    async def posted() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://sink") as asking:
            body, headers = msgspec.json.encode(wanted), {"x-token": "secret"}
            return await asking.post("/rebuild", content=body, headers=headers)

    assert asyncio.run(posted()).json() == {"differs": 1}
    assert stored(client) == [("a", 1, "2026-03-01 10:00", 2, "2026-03-01 10:00")]
