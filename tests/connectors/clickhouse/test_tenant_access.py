"""A ClickHouse user of one tenant: what is rendered, what the filters let through, and its end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from clickhouse_connect.driver.client import Client

from connectors.cli.main import main
from connectors.clickhouse import tenant_access
from connectors.clickhouse.client import connect
from connectors.clickhouse.cluster import SHARDED_BY
from connectors.clickhouse.commands import check_alone
from connectors.clickhouse.migrate import migrate
from connectors.clickhouse.targets import EMPTY
from connectors.clickhouse.tenant_access import OF_ALL, Reader, seen_of_others
from connectors.edge.tenants import Registry
from streams.errors import ConfigurationError, QueryFailed
from streams.settings import Settings
from tests.clickhouse_server import PASSWORD, USER, running
from tests.connectors.clickhouse.apart import answer_of
from tests.connectors.clickhouse.shards import value
from tests.connectors.clickhouse.tenant_reader import DATABASE, PARAMETERS

READER = Reader.named("ann", DATABASE)
RUNS = {
    "a": "00000000-0000-0000-0000-00000000000a",
    "b": "00000000-0000-0000-0000-00000000000b",
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clickhouse")


@pytest.fixture(scope="module")
def client(directory: Path) -> Iterator[Client]:
    """The database with rows of the tenants a and b in every table."""
    opened = connect(Settings(data_dir=directory, clickhouse_dsn=f"chdb:///{directory}/data"))
    migrate(opened, DATABASE)
    for table in tenant_access.tables():
        if table.endswith("_rows"):
            columns = opened.query(f"DESCRIBE TABLE {table}").result_rows
            given = {n: at for n, kind, *_ in columns if (at := value(str(n), str(kind)))}
            opened.command(
                f"INSERT INTO {table} ({', '.join(given)}) SELECT {', '.join(given.values())} "
                "FROM numbers(300)"
            )
    for tenant, run in RUNS.items():
        opened.command(f"INSERT INTO campaign_runs (run_id, tenant) SELECT '{run}', '{tenant}'")
        opened.command(f"INSERT INTO campaign_results (run_id, player_id) SELECT '{run}', '{tenant}'")
        for table in ("replays", "corrections"):
            opened.command(f"INSERT INTO {table} (tenant, reject_id) SELECT '{tenant}', 'x'")
        opened.command(f"INSERT INTO erasures (tenant, pseudonym) SELECT '{tenant}', 'x'")
        opened.command(f"INSERT INTO merge_corrections (tenant, player_id) SELECT '{tenant}', 'x'")
        opened.command(f"INSERT INTO kept_play (tenant, by) SELECT '{tenant}', 'game'")
    opened.command("INSERT INTO rates (base, quote, day, rate) SELECT 'USD', 'EUR', '2026-03-01', 0.9")
    yield opened
    opened.close()


def test_every_table_and_view_has_a_condition_or_is_named_as_one_of_all(client: Client) -> None:
    """A new table or view without a column `tenant` must be added to tenant_access.py."""
    there = client.query(
        f"SELECT name, name IN (SELECT table FROM system.columns WHERE database = '{DATABASE}' "
        f"AND name = 'tenant') FROM system.tables WHERE database = '{DATABASE}' "
        "AND engine NOT IN ('Null', 'MaterializedView')"  # store nothing, and no reader sees them
    ).result_rows
    policies = dict(READER.policies("a"))
    assert {name for name, _ in there} == {*policies, "schema_migrations"}
    for name, has_tenant in there:
        if name == "schema_migrations" or name in OF_ALL:
            assert not has_tenant, name
        elif name == "campaign_results":
            assert "campaign_runs" in str(policies[name])
        else:
            assert has_tenant or name in PARAMETERS, name
            assert policies[name] == "tenant = 'a'"


def test_nobody_but_the_reader_sees_less(client: Client) -> None:
    everyone = [text for text in READER.granted("a") if "roundhouse_everyone" in text]
    mine = [text for text in READER.granted("a") if "RESTRICTIVE" in text]
    assert len(everyone) == len(mine) == len(READER.policies("a")) - len(OF_ALL)
    assert all("USING 1 AS PERMISSIVE TO ALL" in text for text in everyone)


@pytest.mark.parametrize("cluster", [None, "all_nodes"])
def test_every_statement_is_one_that_clickhouse_parses(client: Client, cluster: str | None) -> None:
    reader = Reader.named("ann", DATABASE, cluster)
    for statement in [
        reader.created("pass'word"),
        reader.changed("pass'word"),
        *reader.granted("o'brien"),
        *reader.revoked(),
    ]:
        client.query(f"EXPLAIN AST {statement}")
        assert "word" not in statement.replace("PASSWORD", "")
        assert ("ON CLUSTER all_nodes" in statement) == bool(cluster)


def test_on_a_cluster_the_tables_of_the_shards_have_the_policies() -> None:
    statements = Reader.named("ann", DATABASE, "all_nodes").granted("a")
    for table in SHARDED_BY.keys() - EMPTY:
        limited = f" ON {DATABASE}.{table}_local USING tenant = 'a' AS RESTRICTIVE TO ann"
        assert any(limited in text for text in statements), table
        for name in (table, f"{table}_local"):
            assert f"GRANT ON CLUSTER all_nodes SELECT ON {DATABASE}.{name} TO ann" in statements
        assert not any(f" ON {DATABASE}.{table} USING" in text for text in statements), table


def test_on_two_shards_the_reader_sees_its_tenant_in_every_distributed_table_and_view(
    tmp_path: Path,
) -> None:
    found = answer_of("tests.connectors.clickhouse.sharded_reader", tmp_path)
    assert found["seen"] == {name: ["a"] for name in found["seen"]}
    for table, (rows, due) in found["rows"].items():
        assert rows == due > 0, table


def test_policies_stand_before_the_first_grant() -> None:
    kinds = [text.split()[0] for text in READER.granted("a")]
    assert kinds == sorted(kinds)  # CREATE, then GRANT


def test_a_user_who_sees_other_tenants_is_noticed(client: Client) -> None:
    others = seen_of_others(client, READER, "a")
    assert others.keys() == set(tenant_access.tables()) - OF_ALL
    assert others["campaign_results"] == 1


def test_the_reader_sees_its_tenant_in_every_table_and_view_and_changes_nothing(
    client: Client, directory: Path
) -> None:
    client.close()  # chDB admits one process to a directory
    found = answer_of("tests.connectors.clickhouse.tenant_reader", directory)
    assert found["seen"].pop("rates") == ["USD"]
    assert found["seen"] == {name: ["a"] for name in found["seen"]}
    assert found["refused"] == 3


class Server:
    """Answers what ``grant`` asks of a server, and keeps what it is told."""

    def __init__(self, answers: dict[str, list[tuple[object, ...]]]) -> None:
        self.answers = answers
        self.told: list[str] = []

    def command(self, statement: str) -> None:
        self.told.append(statement)

    def query(self, text: str) -> "Server":
        self.result_rows = next((rows for part, rows in self.answers.items() if part in text), [])
        return self


THERE: dict[str, Any] = {"system.users": [(1,)]}
READS_A = {**THERE, "select_filter": [("tenant = 'a'",)]}


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (THERE, "`roundhouse tenant grant` has not made"),
        ({**THERE, "select_filter": [("tenant = 'b'",)]}, "reads another tenant"),
        ({"system.tables": [("players",)]}, "do not hold in them: players"),
        ({"NOT is_restrictive": [("mine ON roundhouse.rounds",)]}, "would widen: mine ON"),
    ],
)
def test_a_grant_that_would_not_hold_is_refused_before_anything_is_changed(
    answers: dict[str, Any], message: str
) -> None:
    server: Any = Server(answers)
    with pytest.raises(ConfigurationError, match=message):
        tenant_access.grant(server, READER, "a", "a new password")
    assert server.told == []


def test_a_second_grant_repeats_the_policies_and_keeps_the_password() -> None:
    server: Any = Server(READS_A)
    tenant_access.grant(server, READER, "a", None)
    assert server.told == READER.granted("a")
    tenant_access.grant(server, READER, "a", "a new password")
    assert (
        sum(text.startswith("ALTER USER ann IDENTIFIED WITH sha256_hash") for text in server.told) == 1
    )


@pytest.fixture(scope="module")
def server_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A server with a login, and rows of the tenant b in two tables."""
    with running(tmp_path_factory.mktemp("server")) as dsn:
        settings = Settings(data_dir=tmp_path_factory.mktemp("data"), clickhouse_dsn=dsn)
        opened = connect(settings)
        migrate(opened, DATABASE)
        opened.command("INSERT INTO logins_rows (tenant, player_id) SELECT 'b', 'x'")
        opened.command(f"INSERT INTO campaign_runs (run_id, tenant) SELECT '{RUNS['b']}', 'b'")
        opened.close()
        yield settings


def test_the_check_logs_in_as_the_user_and_lets_one_of_a_single_tenant_be(server_of: Settings) -> None:
    administrator: Any = Server(READS_A)
    check_alone(server_of, administrator, Reader.named(USER, DATABASE), "b", PASSWORD)
    assert administrator.told == []


@pytest.mark.parametrize(
    ("password", "message"),
    [
        (PASSWORD, "saw rows of other tenants in logins_rows, campaign_runs, and was removed"),
        ("a wrong one", "could not be checked, so it was removed"),
    ],
)
def test_a_user_who_sees_too_much_or_cannot_be_checked_is_removed(
    server_of: Settings, password: str, message: str
) -> None:
    reader = Reader.named(USER, DATABASE)
    administrator: Any = Server(READS_A)
    with pytest.raises((ConfigurationError, QueryFailed), match=message):
        check_alone(server_of, administrator, reader, "a", password)
    assert administrator.told == reader.revoked()


def test_a_user_of_somebody_else_is_not_removed() -> None:
    server: Any = Server(THERE)
    with pytest.raises(ConfigurationError, match="has not made"):
        tenant_access.revoke(server, READER)
    assert server.told == []


def test_the_command_prints_the_statements_of_a_known_tenant_and_says_that_chdb_has_no_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDHOUSE_DATA_DIR", str(tmp_path))
    Registry(Settings.load().tenants_path).add("a", channel_merging=False, campaigns_enabled=True)

    def run(*arguments: str) -> str:
        return CliRunner().invoke(main, ["tenant", *arguments]).output

    assert run("grant", "a", "ann", "--print").split(";\n")[:-1] == READER.granted("a")
    assert run("revoke-user", "ann", "--print").split(";\n")[:-1] == READER.revoked()
    assert "there is no tenant b" in run("grant", "b", "ann", "--print")
    assert "user name '1; DROP'" in run("grant", "a", "1; DROP", "--print")
    assert "chDB has no users" in run("grant", "a", "ann")
