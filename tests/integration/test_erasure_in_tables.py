"""The erasure of a player from ClickHouse's tables."""

import asyncio
import os
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from connectors.clickhouse.erasure import CORRECTIONS, MERGES, PERSONAL, REJECTS, Subject, erase
from connectors.clickhouse.migrate import migrate
from connectors.clickhouse.service import create_app
from tests.waiting import wait_until

SUBJECT = Subject("acme", "player-to-erase-4410", "erased-0011")
CONTACT = "erase.me.4410@example.com"
COLUMNS = {
    "tenant": "'acme'",
    "player_id": f"if(number < 3, '{SUBJECT.player_id}', concat('other-', toString(number)))",
    "email": f"'{CONTACT}'",
    "mobile": f"'{CONTACT}'",
    "username": f"'{CONTACT}'",
    "gender": f"'{CONTACT}'",
    "tags": f"['{CONTACT}']",
    "player_tags": f"['{CONTACT}']",
    "strings": f"map('note', '{CONTACT}')",
    "lists": f"map('notes', ['{CONTACT}'])",
    "amount": "number + 1",
    "bet_amount": "number + 1",
    "country": "'FI'",
    "event_id": "toString(number)",
    "award_id": "toString(number)",
    "round_id": "toString(number)",
    "run_id": "toUUID('00000000-0000-0000-0000-000000000001')",
    "rank": "number",
    "score": "number + 1",
}
PAYLOADS = (
    f'{{"event":"gameround","data":{{"player_id":"{SUBJECT.player_id}"}}}}',
    f'{{"event":"realtime-casino","data":{{"user_id":"{SUBJECT.player_id}"}}}}',
    f'{{"player_id":"{SUBJECT.player_id}"}}\n{{"player_id":"{SUBJECT.player_id}"}}',
    f'{{"anything":"of {CONTACT}"}}',
    '{"event":"gameround","data":{"player_id":"other-4"}}',
)


def filled(client: Client, database: str) -> None:
    """Makes the tables: five rows in each, three of them of the player; the rest has no contact."""
    migrate(client, database)
    client.database = database
    for table in PERSONAL:
        names = [str(name) for name, *_ in client.query(f"DESCRIBE TABLE {table}").result_rows]
        given = {name: COLUMNS[name] for name in names if name in COLUMNS}
        for first in (0, 3):
            values = ", ".join(
                f"if(number < 3, {value}, defaultValueOfArgumentType({value}))"
                if CONTACT in value
                else value
                for value in given.values()
            )
            client.command(
                f"INSERT INTO {table} ({', '.join(given)}) SELECT {values} "
                f"FROM numbers({first}, {3 if first == 0 else 2})"
            )
    client.command(f"INSERT INTO campaign_runs (run_id, tenant) SELECT {COLUMNS['run_id']}, 'acme'")
    rows = [["acme", str(number), payload] for number, payload in enumerate(PAYLOADS)]
    client.insert(REJECTS, rows, column_names=["tenant", "reject_id", "payload"])
    rows = [
        ["acme", player, f'[{{"player_id":"{player}"}}]', f'[{{"player_id":"{player}"}}]']
        for player in ("other-4", SUBJECT.player_id)
    ]
    rows[1][1] = "1"
    names = ["tenant", "reject_id", "replaced", "replacement"]
    client.insert(CORRECTIONS, rows, column_names=names)


def contents(client: Client) -> dict[str, list[Any]]:
    return {
        table: sorted(map(str, client.query(f"SELECT * FROM {table} FINAL").result_rows))
        for table in (*PERSONAL, REJECTS, CORRECTIONS)
    }


def test_every_table_with_a_player_is_erased(chdb: Client) -> None:
    migrate(chdb, "erasable")
    rows = chdb.query(
        "SELECT DISTINCT table FROM system.columns WHERE database = 'erasable' "
        "AND name IN ('player_id', 'mobile', 'email', 'payload', 'replaced', 'replacement') "
        "AND table IN "
        "(SELECT name FROM system.tables WHERE database = 'erasable' AND engine LIKE '%MergeTree')"
    ).result_rows
    assert {str(table) for (table,) in rows} == {*PERSONAL, REJECTS, CORRECTIONS, MERGES}


def test_rows_stand_under_the_pseudonym_and_totals_are_the_same(chdb: Client) -> None:
    filled(chdb, "erased")
    sums = (
        "SELECT count(), sum(amount) FROM game_transactions UNION ALL "
        "SELECT count(), sum(bet_amount) FROM rounds UNION ALL "
        "SELECT count(), sum(score) FROM campaign_results UNION ALL "
        "SELECT countIf(country = 'FI'), 0 FROM player_events"
    )
    before = sorted(map(str, chdb.query(sums).result_rows))
    assert erase(chdb, SUBJECT, None) == {REJECTS: 4, CORRECTIONS: 1} | dict.fromkeys(PERSONAL, 3)
    assert sorted(map(str, chdb.query(sums).result_rows)) == before
    text = str(contents(chdb))
    assert SUBJECT.player_id not in text
    assert CONTACT not in text
    assert text.count(SUBJECT.pseudonym) == 3 * len(PERSONAL)
    assert text.count("other-4") == len(PERSONAL) + 1 + 3
    assert erase(chdb, SUBJECT, None) == {}


class Stopping:
    """A client that fails at its ``after``-th command, as if the process had ended there."""

    def __init__(self, client: Client, after: int) -> None:
        self.client, self.left, self.database = client, after, client.database

    def query(self, *arguments: Any, **more: Any) -> Any:
        return self.client.query(*arguments, **more)

    def command(self, *arguments: Any, **more: Any) -> Any:
        if not self.left:
            raise ClickHouseError("stopped")
        self.left -= 1
        return self.client.command(*arguments, **more)


def test_an_erasure_that_ends_between_its_statements_is_completed_by_the_next(chdb: Client) -> None:
    filled(chdb, "whole")
    erase(chdb, SUBJECT, None)
    expected = contents(chdb)
    for after in (2, 3):  # before the first table, and between its insert and its deletion
        filled(chdb, f"stopped_{after}")
        with pytest.raises(ClickHouseError, match="stopped"):
            erase(Stopping(chdb, after), SUBJECT, None)  # type: ignore[arg-type]
        erase(chdb, SUBJECT, None)
        assert contents(chdb) == expected


def test_the_files_of_the_tables_lose_the_player_with_the_replaced_parts(chdb: Client) -> None:
    filled(chdb, "files")
    for table in (*PERSONAL, REJECTS, CORRECTIONS):
        chdb.command(f"ALTER TABLE {table} MODIFY SETTING old_parts_lifetime = 1")
    paths = chdb.query(
        "SELECT arrayJoin(data_paths) FROM system.tables WHERE database = 'files'"
    ).result_rows
    directories = [Path(str(path)) for (path,) in paths]

    def found() -> list[str]:
        return [
            f"{parent}/{name}"
            for directory in directories
            for parent, _, names in os.walk(directory)
            for name in names
            if any(trace in _text(Path(parent, name)) for trace in (SUBJECT.player_id, CONTACT))
        ]

    assert len(found()) > len(PERSONAL)
    erase(chdb, SUBJECT, None)
    wait_until(lambda: not found(), "the end of the replaced parts")


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except FileNotFoundError:  # ClickHouse removes parts meanwhile
        return ""


def test_the_process_that_holds_chdb_erases_for_a_command(chdb: Client) -> None:
    filled(chdb, "held")

    async def post(token: str) -> httpx.Response:
        transport = httpx.ASGITransport(create_app([chdb], "secret"))
        async with httpx.AsyncClient(transport=transport, base_url="http://door") as http:
            body = msgspec.json.encode(SUBJECT)
            return await http.post("/erase", content=body, headers={"x-token": token})

    assert asyncio.run(post("wrong")).status_code == 403
    assert asyncio.run(post("secret")).json().keys() == {REJECTS, CORRECTIONS, *PERSONAL}
    assert SUBJECT.player_id not in str(contents(chdb))
