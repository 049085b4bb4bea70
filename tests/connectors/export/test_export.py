"""Exports to Parquet: exact values, the contract in the file, resuming, and bounded slices."""

import hashlib
import itertools
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from pyarrow import parquet

from connectors.cli.main import main
from connectors.clickhouse.client import connect
from connectors.clickhouse.migrate import migrate
from connectors.clickhouse.query import query
from connectors.export import export as exporting
from connectors.export.datasets import DATASETS
from connectors.export.dbt import as_yaml
from connectors.export.export import Request, export
from connectors.export.months import months
from streams.settings import Settings
from streams.wire.contracts import schema
from tests.connectors.clickhouse.shards import value

ROOT = Path(__file__).parent.parent.parent.parent
START, END = datetime(2026, 2, 15, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
AS_OF = datetime(2026, 5, 1, tzinfo=UTC)
EXACT = Decimal("12345678901234567890.123456789012345678")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A database with 400 rows in every table, half of them twice, and a payment to the last digit."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("export"))
    client = connect(settings)
    migrate(client, settings.clickhouse_database)
    for table in [*(f"{view}_rows" for view in DATASETS), "outcomes_rows"]:
        columns = client.query(f"DESCRIBE TABLE {table}").result_rows
        given = {n: at for n, kind, *_ in columns if (at := value(str(n), str(kind)))}
        names, values = ", ".join(given), ", ".join(given.values())
        for first, count in ((0, 400), (100, 200)):
            client.command(
                f"INSERT INTO {table} ({names}) SELECT {values} FROM numbers({first}, {count})"
            )
    client.command(
        "INSERT INTO payments_rows "
        "(tenant, player_id, event_id, received_at, occurred_at, amount, currency) "
        f"SELECT 'a', 'åsa', 'exact', '2026-03-01', '2026-03-31 23:59:59.999999', '{EXACT}', 'EUR'"
    )
    client.command("INSERT INTO outcomes_rows (tenant, batch_id) SELECT 'a.test', 'x'")
    client.close()
    return settings


def request(*views: str, tenants: tuple[str, ...] = ()) -> Request:
    return Request(tuple(DATASETS[view] for view in views or DATASETS), tenants, START, END, AS_OF)


def counted(settings: Settings, view: str, tenant: str) -> int:
    dataset = DATASETS[view]
    sql = (
        f"SELECT count() AS n FROM {view} WHERE tenant = '{tenant}' AND {dataset.time} >= '2026-02-15' "
        f"AND {dataset.time} < '2026-04-01'"
    )
    return int(json.loads(query(settings, sql, "json"))["data"][0]["n"])


def metadata(path: Path) -> dict[str, str]:
    found = parquet.read_metadata(path).metadata
    return {k.decode().removeprefix("roundhouse."): v.decode() for k, v in found.items()}


def test_every_kind_of_every_tenant_is_whole_and_says_what_it_is(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "SLICE_ROWS", 120)
    files = list(export(settings, request(), tmp_path))
    for view, dataset in DATASETS.items():
        for tenant in "ab":
            mine = [file for file in files if file.path.startswith(f"{view}/{tenant}/")]
            assert sum(file.rows for file in mine) == counted(settings, view, tenant) > 0, view
            for file in mine:
                path = tmp_path / file.path
                said, table = metadata(path), parquet.read_table(path)
                assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
                assert json.loads(said["schema"]) == schema(dataset.contract)
                assert (said["contract"], said["tenant"]) == (dataset.contract, tenant)
                assert int(said["rows"]) == table.num_rows == file.rows
                assert table.column_names == [f["name"] for f in schema(dataset.contract)["fields"]]
                assert set(table["tenant"].to_pylist()) == {tenant}
                assert parquet.ParquetFile(path).num_row_groups > 1, "slices"
    assert not list(tmp_path.rglob("*.part"))


def test_decimals_and_times_are_exact_and_described(settings: Settings, tmp_path: Path) -> None:
    files = list(export(settings, request("payments", tenants=("a",)), tmp_path))
    assert [file.path for file in files] == ["payments/a/2026-03.parquet"]
    path = tmp_path / files[0].path
    table = parquet.read_table(path)
    [row] = [row for row in table.to_pylist() if row["event_id"] == "exact"]
    assert (row["amount"], row["player_id"]) == (EXACT, "åsa")
    assert row["occurred_at"] == datetime(2026, 3, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert (str(table.schema.field("amount").type), str(table.schema.field("occurred_at").type)) == (
        "decimal128(38, 18)",
        "timestamp[us, tz=UTC]",
    )
    units = json.loads(metadata(path)["units"])
    assert units["amount"] == "units of the currency, 18 digits after the point"
    assert units["occurred_at"].startswith("microseconds")


def test_the_hash_in_the_metadata_is_that_of_the_bytes_before_the_footer(
    settings: Settings, tmp_path: Path
) -> None:
    """And the same rows have the same hash in a later export."""
    for name in ("one", "two"):
        list(export(settings, request("rounds", tenants=("a",)), tmp_path / name))
    contents = (tmp_path / "one/rounds/a/2026-03.parquet").read_bytes()
    footer = int.from_bytes(contents[-8:-4], "little")
    said = metadata(tmp_path / "one/rounds/a/2026-03.parquet")
    assert hashlib.sha256(contents[: -8 - footer]).hexdigest() == said["data_sha256"]
    assert metadata(tmp_path / "two/rounds/a/2026-03.parquet")["data_sha256"] == said["data_sha256"]


def test_an_export_that_was_interrupted_writes_only_what_is_missing(
    settings: Settings, tmp_path: Path
) -> None:
    begun = next(export(settings, request("payments", "logins"), tmp_path))
    (tmp_path / "payments" / "a" / ".2026-03.parquet.part").write_bytes(b"half")
    files = {
        file.path: file.skipped for file in export(settings, request("payments", "logins"), tmp_path)
    }
    assert [path for path, skipped in files.items() if skipped] == [begun.path]
    assert len(files) == 4
    (tmp_path / begun.path).write_bytes(b"damaged")
    files = {
        file.path: file.skipped for file in export(settings, request("payments", "logins"), tmp_path)
    }
    assert [path for path, skipped in files.items() if not skipped] == [begun.path]


def test_rows_that_were_received_later_are_not_in_the_export(
    settings: Settings, tmp_path: Path
) -> None:
    early = request("payments", tenants=("a",))._replace(as_of=datetime(2026, 3, 1, 12, tzinfo=UTC))
    [file] = export(settings, early, tmp_path)
    assert file.rows == 1


def test_the_command_resumes_with_its_own_time_and_refuses_another_export(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDHOUSE_DATA_DIR", str(settings.data_dir))

    def run(*more: str) -> Any:
        period = ("--from", "2026-03-01", "--to", "2026-04-01", "--output", str(tmp_path))
        return CliRunner().invoke(main, ["export", *period, "--kinds", "logins", *more])

    assert "logins/a/2026-03.parquet  " in run().output
    assert run().output.count("(was there)") == 2
    assert "holds another export" in run("--tenant", "a").output
    assert "choose of game_transactions" in run("--kinds", "logouts").output


def test_months_cover_a_period_once() -> None:
    found = list(months(START, datetime(2027, 1, 2, tzinfo=UTC)))
    assert [month.name for month in found][:2] == ["2026-02", "2026-03"]
    assert (found[0].start, found[-1].end) == (START, datetime(2027, 1, 2, tzinfo=UTC))
    for before, after in itertools.pairwise(found):
        assert before.end == after.start


def test_the_dbt_sources_in_the_docs_are_those_of_the_migrations(settings: Settings) -> None:
    """``roundhouse dbt-sources > docs/dbt/sources.yml`` makes them anew."""
    assert as_yaml(settings) == (ROOT / "docs/dbt/sources.yml").read_text()


def test_every_table_and_column_of_the_dbt_sources_is_described(settings: Settings) -> None:
    [source] = yaml.safe_load(as_yaml(settings))["sources"]
    names = {table["name"] for table in source["tables"]}
    assert {*DATASETS, "players", "games", "campaign_results", "rates"} <= names
    assert not {name for name in names if name.endswith("_rows") or name.startswith("kpi_")}
    for table in source["tables"]:
        assert table["description"], table["name"]
        for column in table["columns"]:
            assert column["description"], f"{table['name']}.{column['name']}"
