"""Rows that the sink inserts as columns are equal to the same rows inserted as Avro."""

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.clickhouse import blocks
from connectors.clickhouse.blocks import Blocks
from connectors.clickhouse.client import connect
from connectors.clickhouse.migrate import migrate
from connectors.clickhouse.sink import ClickHouseTables
from connectors.clickhouse.targets import TARGETS, Target
from streams.errors import SinkMismatch
from streams.records.topics import ROUNDS
from streams.settings import Settings
from streams.wire import money
from streams.wire.avro import Container, codec
from streams.wire.avro_encoder import encoder
from streams.wire.contracts import on_the_wire, schema
from tests.contracts import grown, records, sample

LOGICAL = {  # what the line can write
    "timestamp-micros": st.integers(-2_208_988_800_000_000, 10_413_791_999_999_999),  # 1900 to 2299
    "decimal": st.integers(-money.LIMIT + 1, money.LIMIT - 1).map(money.to_bytes),
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    found = connect(Settings(clickhouse_dsn=f"chdb://{tmp_path_factory.mktemp('blocks')}"))
    migrate(found, "roundhouse")
    for target in TARGETS.values():
        for copy in ("as_rows", "as_columns"):
            name = f"{copy}_{target.table}"
            found.command(f"CREATE TABLE {name} AS {target.table} ENGINE = Memory")
    yield found
    found.close()


in_c = pytest.param(
    True,
    id="in C",
    marks=pytest.mark.skipif(blocks.compiled is None, reason="installed without a C compiler"),
)
without_c = pytest.param(False, id="with Polars")


@pytest.mark.parametrize("compiled", [in_c, without_c])
@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.table)
@settings(max_examples=15)
@given(data=st.data())
def test_columns_hold_what_the_rows_held(
    client: Client, target: Target, compiled: bool, data: st.DataObject
) -> None:
    drawn = records(schema(target.contract), LOGICAL)
    events = data.draw(st.lists(drawn, min_size=1, max_size=5))
    rows = [codec(target.contract).encode(event) for event in events]
    container = Container(schema(target.contract))
    with pytest.MonkeyPatch.context() as patch:
        if not compiled:
            patch.setattr(blocks, "compiled", None)
        maker = Blocks(target.contract, container)
    made = maker.of(rows)
    found = []
    for copy, form, insert in (
        ("as_rows", "Avro", container.file(rows)),
        ("as_columns", made.format, made.data),
    ):
        table = f"{copy}_{target.table}"
        client.command(f"TRUNCATE TABLE {table}")
        client.raw_insert(table, insert_block=insert, fmt=form)
        found.append(client.raw_query(f"SELECT * FROM {table} FORMAT RowBinary"))
    assert found[0] == found[1]


def test_of_two_revisions_in_one_block_the_newest_counts(client: Client) -> None:
    target, contract = TARGETS[ROUNDS], schema("round")
    encode = codec("round").encode
    rows = [
        encode(sample(contract) | {"round_id": "twice", "revision": revision, "bet_count": revision})
        for revision in (1, 2)
    ]
    ClickHouseTables(lambda: client).insert(target, Container(contract), rows, "revisions")
    of_the_round = "WHERE round_id = 'twice'"
    found = client.query(f"SELECT revision, bet_count FROM rounds {of_the_round}").result_rows
    assert found == [(2, 2)]
    sql = f"SELECT count(), uniqExact(_part) FROM {target.stored} {of_the_round}"
    assert client.query(sql).result_rows == [(2, 1)]


NEW = {"name": "channel", "type": "string", "default": "web"}


@pytest.mark.parametrize("at", [0, 3, 99])
@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.table)
def test_rows_of_two_versions_go_into_a_table_that_knows_the_newer(
    client: Client, target: Target, at: int
) -> None:
    name = f"grown_{target.table}"
    client.command(f"CREATE OR REPLACE TABLE {name} AS {target.table} ENGINE = Memory")
    tables = ClickHouseTables(lambda: client)
    old, new = schema(target.contract), grown(target.contract, at, **NEW)
    copy = target._replace(table=name)
    assert tables.lacking(copy, Container(old)) == []
    assert tables.lacking(copy, Container(new)) == ["channel"]
    client.command(f"ALTER TABLE {name} ADD COLUMN channel String DEFAULT 'web' FIRST")
    assert tables.lacking(copy, Container(new)) == []
    event = sample(old) | {"channel": "app"}
    for version in (old, new):
        row = encoder(on_the_wire(version))(event)
        tables.insert(copy, Container(version), [row], str(len(version["fields"])))
    rows = client.query(f"SELECT channel, tenant FROM {name} ORDER BY channel").result_rows
    assert [channel for channel, _ in rows] == ["app", "web"]
    assert rows[0][1] == rows[1][1] != ""


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.table)
def test_a_table_has_the_columns_of_its_contract_with_their_defaults(
    client: Client, target: Target
) -> None:
    fields = on_the_wire(schema(target.contract))["fields"]
    found = client.query(f"DESCRIBE TABLE {target.table}").result_rows
    assert {str(name) for name, *_ in found} == {field["name"] for field in fields}
    name = f"empty_{target.table}"
    client.command(f"CREATE OR REPLACE TABLE {name} AS {target.table} ENGINE = Memory")
    client.command(f"INSERT INTO {name} (tenant) VALUES ('t')")
    [row] = client.query(f"SELECT * FROM {name}").named_results()
    for field in fields:
        if "default" in field:
            assert row[field["name"]] == field["default"], f"{target.table}.{field['name']}"


@pytest.mark.parametrize("compiled", [in_c, without_c])
@pytest.mark.parametrize("row", [b"", b"\xff", b"\x02a"])
def test_rows_of_something_else_are_refused(
    row: bytes, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(blocks, "compiled", None)
    with pytest.raises(SinkMismatch, match="contract outcome"):
        Blocks("outcome", Container(schema("outcome"))).of([row])
