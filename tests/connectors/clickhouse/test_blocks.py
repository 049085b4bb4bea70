"""What the sink inserts as columns is what ClickHouse makes of the same rows in Avro."""

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.clickhouse.blocks import block
from connectors.clickhouse.client import connect
from connectors.clickhouse.migrate import migrate
from connectors.clickhouse.sink import TARGETS, Target
from streams.errors import SinkMismatch
from streams.settings import Settings
from streams.wire import money
from streams.wire.avro import codec, container
from streams.wire.contracts import schema
from tests.contracts import records

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


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.table)
@settings(max_examples=15)
@given(data=st.data())
def test_columns_hold_what_the_rows_held(client: Client, target: Target, data: st.DataObject) -> None:
    drawn = records(schema(target.contract), LOGICAL)
    events = data.draw(st.lists(drawn, min_size=1, max_size=5))
    rows = [codec(target.contract).encode(event) for event in events]
    made = block(target.contract, rows)
    found = []
    for copy, form, insert in (
        ("as_rows", "Avro", container(target.contract, rows)),
        ("as_columns", made.format, made.data),
    ):
        table = f"{copy}_{target.table}"
        client.command(f"TRUNCATE TABLE {table}")
        client.raw_insert(table, insert_block=insert, fmt=form)
        found.append(client.raw_query(f"SELECT * FROM {table} FORMAT RowBinary"))
    assert found[0] == found[1]


@pytest.mark.parametrize("row", [b"", b"\xff", b"\x02a"])
def test_rows_of_something_else_are_refused(row: bytes) -> None:
    with pytest.raises(SinkMismatch, match="contract outcome"):
        block("outcome", [row])
