"""CSV files and their mappings."""

import json
from pathlib import Path
from typing import Any

import pytest

from connectors.backfill.entry import Entry
from connectors.backfill.files import Source, entries
from connectors.backfill.mapping import load
from connectors.backfill.requests import units
from streams.errors import ConfigurationError
from tests.connectors.backfill.test_requests import contents, job, units_of
from tests.line import bet, win

ROOT = Path(__file__).parent.parent.parent.parent
_, _page = (ROOT / "docs" / "operations.md").read_text().split("### The mapping of a CSV file")
MAPPING = _page.split("```yaml\n")[1].split("```")[0]
HEADER = "Time;Transaction;Player;Game;Round;Amount;Type;Note\n"


def entries_of(
    tmp_path: Path, mapping: str, rows: str | bytes, source: str = "native", longest: int = 10_000
) -> list[Entry]:
    (tmp_path / "map.yml").write_text(mapping)
    path = tmp_path / "rows.csv"
    path.write_bytes(rows.encode() if isinstance(rows, str) else rows)
    found = load(tmp_path / "map.yml").mapping
    return list(entries(Source(path, "csv", source, longest, found)))


def test_a_row_becomes_the_events_of_the_same_item_posted_as_json(tmp_path: Path) -> None:
    rows = (
        "\ufeff"
        + HEADER
        + '14.03.2026 13:00:00;b-1;p-1;g-1;r-1;1.234.567,500000000000000001;BET;"a\nb"\n'
        "14.07.2026 14:00:00;b-2;p-1;g-1;r-1;0,10;WIN;\n"
    )
    found = entries_of(tmp_path, MAPPING, rows)
    assert [entry.number for entry in found] == [2, 4]
    posted = tmp_path / "posted.ndjson"
    items = [
        json.dumps(bet("b-1", 1)).replace('"amount": 1', '"amount": 1234567.500000000000000001'),
        json.dumps(win("b-2", 0.1, timestamp="2026-07-14T12:00:00Z")),
    ]
    posted.write_text("\n".join(items))
    mapped = list(contents(list(units(job(), found, 0))))
    assert mapped == list(contents(units_of(posted)))
    assert len(mapped) == 2


@pytest.mark.parametrize(
    ("row", "pointer", "message"),
    [
        ("14.03.2026;b;p;g;r;1;BET;", "/data/timestamp", "Column Time"),
        ("14.03.2026 13:00:00;b;p;g;r;1.5,0,0;BET;", "/data/amount", "'1.5,0,0' is no number"),
        ("14.03.2026 13:00:00;b;p;g;r;NaN;BET;", "/data/amount", "is no number"),
        ("14.03.2026 13:00:00;b;p;g;r;1;LOSS;", "/data/is_win", "'LOSS' is none of WIN, BET"),
        ("14.03.2026 13:00:00;b;p;g;r;1;BET", "", "7 cells and the header 8"),
        ('14.03.2026 13:00:00;"b"x;p;g;r;1;BET;', "", "no row of CSV"),
        ("14.03.2026 13:00:00;\udcff;p;g;r;1;BET;", "/data/unique_id", "not in the encoding"),
    ],
)
def test_a_row_that_is_no_item_is_refused_with_line_column_and_field(
    tmp_path: Path, row: str, pointer: str, message: str
) -> None:
    rows = HEADER + "\n" + row + "\n14.03.2026 13:00:00;b-2;p-1;g-1;r-1;1;BET;\n"
    bad, good = entries_of(tmp_path, MAPPING, rows.encode(errors="surrogateescape"))
    assert (bad.number, good.number) == (3, 4)
    assert bad.problem is not None
    assert bad.problem.pointer == pointer
    assert message in bad.problem.message
    assert good.problem is None


def test_an_empty_cell_sets_no_field_and_the_reader_of_the_format_decides(tmp_path: Path) -> None:
    rows = HEADER + "14.03.2026 13:00:00;;p-1;g-1;r-1;1;BET;\n"
    [unit] = units(job(), entries_of(tmp_path, MAPPING, rows), 0)
    [refusal] = unit.refusals
    assert (refusal.number, refusal.problem.code) == (2, "required")
    assert refusal.problem.pointer == "/data/unique_id"


def test_a_column_may_name_the_kind_and_hold_times_since_1970_lists_and_json(tmp_path: Path) -> None:
    mapping = """
kind: {column: what, values: {"1": player, "2": login}}
columns:
  id: [unique_id, player_id]
  at: {field: timestamp, type: time, format: unix_ms}
  tags: {field: tags, type: list, separator: "|"}
  blocked: {field: is_blocked, type: json}
names: [what, id, at, tags, blocked]
encoding: cp1252
"""
    rows = "1,ä,1773489600123,vip | new,true\n2,b,1773489600000,,\n3,c,1,,\n".encode("cp1252")
    first, second, third = entries_of(tmp_path, mapping, rows)
    expected: dict[str, Any] = {"unique_id": "ä", "timestamp": "2026-03-14T12:00:00.123000Z"}
    expected |= {"player_id": "ä", "tags": ["vip", "new"], "is_blocked": True}
    assert json.loads(first.text) == {"event": "player", "data": expected}
    assert json.loads(second.text)["event"] == "login"
    assert third.problem is not None
    assert "Column what" in third.problem.message


def test_a_row_of_gameball_is_a_request_whose_other_columns_are_metadata(tmp_path: Path) -> None:
    mapping = """
kind: spin
columns:
  player: playerUniqueId
  key: idempotencyKey
  value: {field: stake, type: number}
"""
    [entry] = entries_of(tmp_path, mapping, "player,key,value\np-1,k-1,2.50\n", "gameball")
    [unit] = units(job("gameball"), [entry], 0)
    [request] = unit.requests
    assert request.batch.idempotency_key == "k-1"
    assert b'"events":{"spin":{"stake":2.50}}' in request.body


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("kind: [", "is no YAML"),
        ("", "is no mapping"),
        ("kind: a\ncolumns: {A: {field: b, type: time}}", "columns.A.0.time.format: Field required"),
        ("kind: a\ncolumns: {A: b}\nconstants: {b: 1}", "the field b is given twice"),
        ("kind: a\ncolumns: {A: {field: b, type: time, format: x, zone: Mars}}", "is no time zone"),
        ("kind: a\ncolumns: {A: b}\nencoding: klingon", "klingon is no encoding"),
        ("kind: a\ncolumns: {A: b}\nconstants: {c: 1.5}", "constants.c"),
        ("kind: a\ncolumns: {A: b, B: c}", "needs these columns once: B"),
    ],
)
def test_a_wrong_mapping_is_refused_with_the_place_of_each_mistake(
    tmp_path: Path, mapping: str, message: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        entries_of(tmp_path, mapping, "A\n1\n")
    assert message in str(refused.value)


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="a line of more than 100 characters"):
        entries_of(tmp_path, MAPPING, HEADER + "x" * 101, longest=100)
