"""The migrations on a cluster of ClickHouse: what is rendered, and what of it runs on chDB.

chDB has no Keeper: it parses ``ON CLUSTER`` and the replicated engines, and runs the same tables
without replication, on two shards in one process (:mod:`tests.connectors.clickhouse.shards`).
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import connect
from connectors.clickhouse.cluster import SHARDED_BY, SHARED, Cluster
from connectors.clickhouse.migrate import HERE, migrate, statements
from connectors.clickhouse.targets import TARGETS
from streams.errors import ConfigurationError
from streams.settings import Settings
from tests.connectors.clickhouse.apart import answer_of

CLUSTER = Cluster("all_nodes", "roundhouse")
MIGRATIONS = [
    statement
    for path in sorted(HERE.glob("[0-9]*.sql"))
    for statement in statements(path.read_text(), "roundhouse")
]
VERSIONED = {
    "rounds_by_day_rows_local": ", revision",
    "changed_days": ", changed_at",
    "changed_tenants": ", changed_at",
    "kept_play": ", kept_at",
}
RENDERED = [each for statement in MIGRATIONS for each in CLUSTER.rendered(statement)]


class Recorder:
    """Keeps the statements that a migration sends, and answers its questions from a table."""

    def __init__(self, answers: dict[str, list[tuple[object, ...]]] | None = None) -> None:
        self.answers = answers or {}
        self.sent: list[str] = []
        self.database = ""

    def command(self, statement: str) -> None:
        self.sent.append(statement)

    def query(self, text: str) -> "Recorder":
        self.result_rows = next((rows for part, rows in self.answers.items() if part in text), [])
        return self


def sent(recorder: Recorder, cluster: str | None) -> list[str]:
    migrate(recorder, "roundhouse", cluster=cluster)  # type: ignore[arg-type]
    return [each for each in recorder.sent if not re.search(r"^INSERT", each, re.MULTILINE)]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    opened = connect(Settings(data_dir=tmp_path_factory.mktemp("clickhouse")))
    yield opened
    opened.close()


def test_without_a_cluster_the_statements_are_those_of_the_files() -> None:
    assert sent(Recorder(), None) == [
        "CREATE DATABASE IF NOT EXISTS roundhouse",
        "CREATE TABLE IF NOT EXISTS schema_migrations "
        "(name String, sha256 String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3)) "
        "ENGINE = ReplacingMergeTree ORDER BY name",
        *(each for each in MIGRATIONS if not re.search(r"^INSERT", each, re.MULTILINE)),
    ]


def test_a_view_names_the_database_of_every_view_with_parameters_that_it_reads(client: Client) -> None:
    """ClickHouse does not add it, so such a view would only be found by users of that database."""
    migrate(client, "elsewhere")
    client.database = "default"
    for view in ("merged_players", "persons", "kpi_play(grain = 'day', by = 'tenant', reporting = '')"):
        assert client.query(f"SELECT * FROM elsewhere.{view}").result_rows == []


def test_every_statement_for_a_cluster_is_one_that_clickhouse_parses(client: Client) -> None:
    recorder = Recorder({"system.clusters": [(1,)]})
    for statement in sent(recorder, "all_nodes"):
        formatted = client.query("SELECT formatQuery({text:String})", {"text": statement})
        # the replicas of a shared table take a change of columns from one another
        altered = re.search(r"^ALTER TABLE (\w+)\n", statement, re.MULTILINE)
        everywhere = altered is None or altered[1] not in SHARED
        assert ("ON CLUSTER all_nodes" in formatted.result_rows[0][0]) == everywhere


def test_every_table_is_replicated_under_its_own_path_and_every_view_stays_as_it_is() -> None:
    tables = {
        found[1]: statement
        for statement in RENDERED
        if (found := re.search(r"CREATE TABLE IF NOT EXISTS roundhouse\.(\w+) ON CLUSTER", statement))
    }
    assert tables.keys() == {
        *SHARDED_BY,
        *(f"{name}_local" for name in SHARDED_BY),
        *SHARED - {"schema_migrations"},
    }
    assert "ENGINE = Null\n" in tables.pop("rounds_rows_local")
    for name, statement in tables.items():
        if name in SHARDED_BY:
            keys = ", ".join(SHARDED_BY[name])
            engine = f"Distributed('all_nodes', 'roundhouse', '{name}_local', cityHash64({keys}))"
        else:
            [node] = {"all"} if name in SHARED else {"{shard}"}
            replica = "{shard}-{replica}" if name in SHARED else "{replica}"
            version = VERSIONED.get(name, "")
            path = f"/clickhouse/tables/{node}/{{database}}/{{table}}"
            engine = f"ReplicatedReplacingMergeTree('{path}', '{replica}'{version})"
        assert statement.count("ENGINE = ") == statement.count(f"ENGINE = {engine}\n") == 1
        assert "non_replicated" not in statement
    views = [statement for statement in MIGRATIONS if "CREATE OR REPLACE VIEW" in statement]
    for view in views:
        [rendered] = CLUSTER.rendered(view)
        assert re.sub(r"roundhouse\.(\w+) ON CLUSTER all_nodes", r"\1", rendered) == view


def test_all_rows_of_a_replacing_key_stand_on_one_shard() -> None:
    stored = {target.table for target in TARGETS.values()} | {"rounds_by_day_rows"}
    assert stored == SHARDED_BY.keys()
    keys = {
        found[1]: found[2].split(", ")
        for statement in MIGRATIONS
        if (found := re.search(r"TABLE IF NOT EXISTS (\w+)\n.*\nORDER BY \((.*)\)\n", statement, re.S))
    }
    for table, columns in SHARDED_BY.items():
        assert set(columns) <= set(keys[table]), table


def test_a_materialized_view_reads_and_fills_tables_of_its_own_shard() -> None:
    views = [each for each in RENDERED if "MATERIALIZED VIEW" in each]
    [view] = [each for each in views if "rounds_under_their_days" in each]
    assert "TO roundhouse.rounds_by_day_rows_local AS" in view
    assert view.endswith("FROM roundhouse.rounds_rows_local")
    assert SHARDED_BY["rounds_by_day_rows"] == SHARDED_BY["rounds_rows"]
    shared = [each for each in views if each != view]
    assert all(re.search(r" TO roundhouse\.changed_(days|tenants) AS\n", each) for each in shared)
    assert "FROM roundhouse.rounds_by_day_rows_local\nGROUP BY" in "".join(shared)
    assert "FROM roundhouse.merge_corrections\nGROUP BY" in "".join(shared)


def test_an_altered_table_is_altered_on_its_shards_before_the_distributed_table() -> None:
    comment, setting = "COMMENT COLUMN tenant 'x'", "MODIFY SETTING merge_selector_base = 10"
    local = "ALTER TABLE roundhouse.logins_rows_local ON CLUSTER all_nodes"
    assert CLUSTER.rendered(f"ALTER TABLE logins_rows {comment}") == [
        f"{local} {comment}",
        f"ALTER TABLE roundhouse.logins_rows ON CLUSTER all_nodes {comment}",
    ]
    assert CLUSTER.rendered(f"ALTER TABLE logins_rows {setting}") == [f"{local} {setting}"]
    index = "ADD INDEX IF NOT EXISTS by_batch batch_id TYPE bloom_filter(0.01) GRANULARITY 1"
    assert CLUSTER.rendered(f"ALTER TABLE logins_rows {index}") == [f"{local} {index}"]
    assert CLUSTER.rendered(f"ALTER TABLE rates {index}") == [f"ALTER TABLE rates {index}"]
    mutation = "DELETE WHERE tenant = 'x'"
    assert CLUSTER.rendered(f"ALTER TABLE logins_rows {mutation}") == [f"{local} {mutation}"]
    assert CLUSTER.rendered(f"ALTER TABLE campaign_results {mutation}") == [
        f"ALTER TABLE campaign_results {mutation}"
    ]
    assert CLUSTER.rendered(f"ALTER TABLE rates {comment}") == [f"ALTER TABLE rates {comment}"]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE IF NOT EXISTS bonuses_rows\n(a Int8)\nENGINE = ReplacingMergeTree\nORDER BY a",
        "CREATE TABLE IF NOT EXISTS rates\n(a Int8)\nENGINE = MergeTree\nORDER BY a",
        "CREATE MATERIALIZED VIEW sums TO t AS SELECT 1",
        "CREATE DICTIONARY games_by_id (a Int8) PRIMARY KEY a",
        "DROP TABLE logins_rows",
    ],
)
def test_a_statement_without_a_form_for_a_cluster_is_refused(statement: str) -> None:
    with pytest.raises(ValueError, match=r"no form|neither in|instead of once"):
        CLUSTER.rendered(statement)


@pytest.mark.parametrize(
    ("answers", "cluster", "message"),
    [
        ({}, "all_nodes", "has no cluster all_nodes"),
        ({"system.clusters": [(0,)]}, "all_nodes", "internal_replication"),
        (
            {"system.clusters": [(1,)], "system.tables": [("ReplacingMergeTree",)]},
            "all_nodes",
            "made without",
        ),
        ({"system.tables": [("ReplicatedReplacingMergeTree",)]}, None, "made with ROUNDHOUSE"),
    ],
)
def test_a_cluster_that_does_not_fit_is_refused_before_anything_is_made(
    answers: dict[str, list[tuple[object, ...]]], cluster: str | None, message: str
) -> None:
    recorder = Recorder(answers)
    with pytest.raises(ConfigurationError, match=message):
        sent(recorder, cluster)
    assert recorder.sent == []


def test_a_cluster_of_chdb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="chDB is one node"):
        connect(Settings(data_dir=tmp_path, clickhouse_cluster="all_nodes"))


def test_two_shards_answer_as_one_node_and_a_block_with_a_known_token_is_skipped(
    tmp_path: Path,
) -> None:
    found = answer_of("tests.connectors.clickhouse.shards", tmp_path)
    assert found["shards"] == 2
    assert found["differ"] == []
    assert set(found["empty"]) <= {
        "long-shots.yaml",
        "no-hedging.yaml",
        "wheel.yaml",  # campaigns of other kinds of events
        "campaign_standings",  # no evaluation is stored
    }
    assert found["kept"] == 20
