"""What is computed in C is what Python, its oracle, computes: on plain input and on odd input."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.event import Batch
from streams.errors import EnvelopeError
from streams.formats import native
from streams.formats.bulk_body import bulk_reader
from streams.formats.validation import Invalid, Item, Reader
from streams.records.raw_batch import RawRecord, headers_of
from streams.stages import translate as translating

BATCH = Batch("acme", "native", "batch-1", 1_773_500_000_000_000, True, False, None)
compiled = pytest.mark.skipif(native.compiled is None, reason="installed without a C compiler")

IDS = st.one_of(
    st.from_regex(r"[a-z]{1,8}-[0-9]{1,4}", fullmatch=True),
    st.text(st.characters(codec="utf-8"), max_size=4),
    st.sampled_from(["x" * 256, "x" * 257, "é" * 128, "é" * 129, "a|b%c", "\x7f"]),
).map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
NUMBERS = st.one_of(
    st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?(e[0-9])?", fullmatch=True),
    st.from_regex(r"[0-9]{1,3}\.[0-9]{2}", fullmatch=True),
    st.sampled_from(["01", "1.", ".5", "0", "999999999999999999.999999999999999999", '"1"', "null"]),
)
TIMES = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z"),
    st.from_regex(
        r"(19|20|22)[0-9]{2}-[01][0-9]-[0-3][0-9][T t][0-2][0-9]:[0-6][0-9]:[0-6][0-9]"
        r"(\.[0-9]{1,9})?(Z|[+-][0-2][0-9]:[0-6][0-9])?",
        fullmatch=True,
    ),
    st.sampled_from(["2024-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "1970-01-01T00:00:00+23:59"]),
).map(lambda text: f'"{text}"')
CURRENCIES = st.sampled_from(['"EUR"', '"SEK"', '"eur"', '"EURO"', '"EU"', "1", '"E\\u0055R"'])
BOOLEANS = st.sampled_from(["true", "false", "null", "1", '"true"'])
FIELDS = {
    "unique_id": IDS,
    "timestamp": TIMES,
    "player_id": IDS,
    "game_id": IDS,
    "round_id": IDS,
    "amount": NUMBERS,
    "currency": CURRENCIES,
    "is_win": BOOLEANS,
    "is_bonus": BOOLEANS,
}
USUAL = {
    "unique_id": '"bet-1"',
    "timestamp": '"2026-03-14T12:00:00.000Z"',
    "player_id": '"player-1"',
    "game_id": '"game-1"',
    "round_id": '"round-1"',
    "amount": "1.25",
    "currency": '"EUR"',
    "is_win": "false",
    "is_bonus": "false",
}


@st.composite
def items(draw: st.DrawFn) -> str:
    """The JSON text of a bet or a win: a plain one, or with some odd fields, members or spaces."""
    odd = draw(st.lists(st.sampled_from(list(FIELDS)), max_size=3))
    fields = [(name, draw(FIELDS[name]) if name in odd else text) for name, text in USUAL.items()]
    fields = draw(st.one_of(st.just(fields), st.permutations(fields)))
    change = draw(st.sampled_from(["", "", "", "one more", "one twice", "one less"]))
    if change == "one more":
        fields.append(("more", draw(st.sampled_from(["1", '"a"', "{}", "1e400"]))))
    elif change == "one twice":
        fields.append((draw(st.sampled_from(list(FIELDS))), "1"))
    elif change == "one less":
        fields.pop()
    space = draw(st.sampled_from(["", " ", "\n\t "]))
    data = f",{space}".join(f'"{name}"{space}:{space}{text}' for name, text in fields)
    event = draw(st.sampled_from(["gameround", "gameround", "gameround", "login", "other"]))
    members = [f'"event":{space}"{event}"', f'"data":{space}{{{data}{space}}}']
    return f"{space}{{{','.join(draw(st.permutations(members)))}{space}}}{space}"


def read(reader: Reader, body: bytes) -> Any:
    """The items that a reader finds, or its refusal of the body."""
    try:
        return list(map(told, reader(body, BATCH, 10)))
    except EnvelopeError as error:
        return error.args


def told(item: Item | Invalid) -> Any:
    """All that an item says."""
    if isinstance(item, Invalid):
        return item
    fields = native.Gameround.model_fields
    return {name: getattr(item, name, None) for name in fields}, item.translate(BATCH)


@compiled
@given(texts=st.lists(items(), min_size=1, max_size=5))
def test_items_are_read_in_c_as_python_reads_them(texts: list[str]) -> None:
    body = f"[{','.join(texts)}]".encode()
    assert read(native.read, body) == read(bulk_reader(native.KINDS), body)


@compiled
def test_a_plain_item_is_read_in_c() -> None:
    data = ",".join(f'"{name}":{text}' for name, text in USUAL.items())
    [item] = native.read(f'[{{"event":"gameround","data":{{{data}}}}}]'.encode(), BATCH, 10)
    assert native.compiled is not None
    assert isinstance(item, native.compiled.Gameround)


@compiled
@given(
    texts=st.lists(items(), min_size=1, max_size=5),
    tenant=st.sampled_from(["acme", "a|b%c", "höger.test"]),
    partitions=st.sampled_from([1, 4, 64]),
)
def test_items_are_staged_in_c_as_python_stages_them(
    texts: list[str], tenant: str, partitions: int
) -> None:
    batch = BATCH._replace(tenant=tenant)
    record = RawRecord(2, 7, headers_of(batch, 0), f"[{','.join(texts)}]".encode())
    with pytest.MonkeyPatch.context() as patch:
        found = translating.translate(record, partitions)
        patch.setattr(translating, "COMPILED", False)
        assert found == translating.translate(record, partitions)


@compiled
def test_parts_are_divided_in_c_as_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    bet = ",".join(f'"{name}":{text}' for name, text in USUAL.items())
    bets = (f'{{"event":"gameround","data":{{{bet}}}}}'.replace("bet-1", f"b{n}") for n in range(2100))
    record = RawRecord(0, 0, headers_of(BATCH, 0), f"[{','.join(bets)}]".encode())
    found = translating.translate(record, 1)
    monkeypatch.setattr(translating, "COMPILED", False)
    assert found == translating.translate(record, 1)
    assert [group.part for group in found.groups[0]] == [0, 1, 2]
