"""The query service on the loopback address: which clients and which statements it accepts."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import connect
from connectors.clickhouse.migrate import HERE, migrate, statements
from connectors.clickhouse.questions import ask
from connectors.clickhouse.service import create_app
from streams.errors import ConfigurationError, NotReadOnly
from streams.settings import Settings


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clickhouse")


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[Client]:
    opened = connect(Settings(data_dir=home))
    opened.command("CREATE DATABASE IF NOT EXISTS door")
    opened.database = "door"
    opened.command("CREATE TABLE IF NOT EXISTS t (a Int8) ENGINE = MergeTree ORDER BY a")
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("SELECT 1 AS x, 'a;b' AS y", "x,y\n1,a;b\n"),
        ("select 2 -- a comment; with a semicolon", "2\n2\n"),
        ("  (SELECT 3 AS z);", "z\n3\n"),
        ("WITH 4 AS x SELECT x", "x\n4\n"),
        ("EXISTS t", "result\n1\n"),
    ],
)
def test_questions_are_answered(client: Client, query: str, answer: str) -> None:
    assert ask(client, query, "csv").decode().replace('"', "") == answer


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t FORMAT TSV\n1",
        "DROP TABLE t",
        "SELECT 1; DROP TABLE t",
        "SELECT 1 INTO OUTFILE 'x'",
        "/* SELECT */ TRUNCATE TABLE t",
        "SET readonly = 0",
        "",
    ],
)
def test_what_could_write_is_not_a_question(client: Client, query: str) -> None:
    with pytest.raises(NotReadOnly):
        ask(client, query, "table")
    assert client.query("SELECT count() FROM t").result_rows == [(0,)]


def test_asking_leaves_the_connection_able_to_write(client: Client) -> None:
    ask(client, "SELECT 1", "json")
    client.command("CREATE TABLE IF NOT EXISTS u (a Int8) ENGINE = MergeTree ORDER BY a")
    client.command("DROP TABLE u")


def test_the_door_asks_for_its_token(client: Client) -> None:
    app = create_app([client], "secret")

    async def post(token: str, query: str, form: str = "csv") -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://door") as http:
            headers = {"x-token": token}
            return await http.post(f"/sql?format={form}", content=query, headers=headers)

    assert asyncio.run(post("wrong", "SELECT 1")).status_code == 403
    assert asyncio.run(post("secret", "SELECT 1 AS a")).text == '"a"\n1\n'
    assert asyncio.run(post("secret", "SELECT nonsense")).status_code == 400
    assert asyncio.run(post("secret", "SELECT 1", "xml")).status_code == 400


def test_a_long_question_holds_up_neither_an_insert_nor_a_short_question(
    client: Client, home: Path
) -> None:
    asked = [connect(Settings(data_dir=home)) for _ in "ab"]
    endless = "SELECT sum(sipHash64(number)) FROM numbers(1000000000000000)"
    running = "SELECT count() AS n FROM system.processes WHERE query LIKE '%sipHash64%'"

    async def questions() -> None:
        transport = httpx.ASGITransport(create_app(asked, "secret"))
        async with httpx.AsyncClient(transport=transport, base_url="http://door") as http:

            async def post(query: str) -> httpx.Response:
                path = "/sql?format=tsv&threads=1&within_s=300"
                return await http.post(path, content=query, headers={"x-token": "secret"})

            long = asyncio.create_task(post(endless))
            while (await post(running)).text.split()[-1] != "2":  # the question itself is one of them
                assert not long.done()
            client.command("INSERT INTO t VALUES (7)")
            assert not long.done()
            client.command("KILL QUERY WHERE query LIKE 'SELECT sum(sipHash64%'")
            assert (await long).status_code == 400

    asyncio.run(questions())
    client.command("TRUNCATE TABLE t")
    for each in asked:
        each.close()


def test_migrations_are_applied_once_and_may_not_change(client: Client, tmp_path: Path) -> None:
    for path in HERE.glob("*.sql"):
        (tmp_path / path.name).write_text(path.read_text())
    assert migrate(client, "moving", tmp_path) == sorted(path.name for path in HERE.glob("*.sql"))
    assert migrate(client, "moving", tmp_path) == []
    (tmp_path / "0001_tables.sql").write_text("SELECT 1;\n")
    with pytest.raises(ConfigurationError, match="0001_tables"):
        migrate(client, "moving", tmp_path)


def test_every_column_that_analysts_see_says_what_it_means(client: Client) -> None:
    migrate(client, "commented")
    silent = client.query(
        "SELECT table, name FROM system.columns "
        "WHERE database = 'commented' AND comment = '' AND table NOT IN "
        "(SELECT name FROM system.tables WHERE database = 'commented' "
        "AND (engine = 'MaterializedView' OR name = 'schema_migrations'))"
    )
    client.database = "door"
    assert silent.result_rows == []
    client.database = "door"


def test_a_semicolon_within_a_line_does_not_end_a_statement() -> None:
    assert statements("SELECT 'a; b';\n\nSELECT 2;\n", "x") == ["SELECT 'a; b'", "SELECT 2"]
