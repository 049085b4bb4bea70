"""What is computed in C is what Python, its oracle, computes: on plain input and on odd input."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.event import Batch, Kind
from streams.core.identity import erased_mark, key_of
from streams.core.round import Round, Transaction, of_state, to_state
from streams.errors import EnvelopeError
from streams.formats import native
from streams.formats.bulk_body import bulk_reader
from streams.formats.validation import Invalid, Item, Reader
from streams.records import staged_chunk
from streams.records.raw_batch import RawRecord, headers_of
from streams.records.staged_chunk import PackedGroup, StagedItem, unpack
from streams.stages import process as processing
from streams.stages import translate as translating
from tests.line import CONTENTS, Line

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


AMOUNTS = st.one_of(
    st.just(b"\x00"),
    st.integers(0, 10**38 - 1).map(lambda units: units.to_bytes(units.bit_length() // 8 + 1, "big")),
    st.binary(min_size=0, max_size=17),
)
TEXTS = st.text(max_size=40)
TRANSACTIONS = st.builds(
    Transaction,
    TEXTS,
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from(["bet", "win", "loss", "rollback_bet", "rollback_win", "bonus"]),
    *[TEXTS] * 4,
    *[AMOUNTS] * 2,
)
STAGED = st.builds(
    StagedItem,
    st.integers(-1, 2**31),
    st.sampled_from([Kind.GAME_TRANSACTION, Kind.GAME_TRANSACTION, Kind.LOGIN]),
    st.booleans(),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=7, max_size=300),
    TEXTS,
    st.lists(st.binary(max_size=300), max_size=2),
    st.lists(TRANSACTIONS, max_size=2),
)


@compiled
@given(items=st.lists(STAGED, max_size=20), cut=st.integers(0, 400), byte=st.integers(0, 255))
def test_staged_items_are_read_in_c_as_python_reads_them(
    items: list[StagedItem], cut: int, byte: int
) -> None:
    whole = msgspec.msgpack.encode(items)
    for packed in (whole, whole[:cut], whole[:cut] + bytes([byte]) + whole[cut + 1 :]):
        group = PackedGroup(0, 0, 0, "acme", "native", "batch", 0, True, packed)
        with pytest.MonkeyPatch.context() as patch:
            found = unpacked(group)
            patch.setattr(staged_chunk, "compiled", None)
            assert found == unpacked(group)


def unpacked(group: PackedGroup) -> Any:
    """The fields of the items of a group; None if it is refused."""
    try:
        items = unpack(group, CONTENTS).items
    except ValueError:
        return None
    return [[getattr(item, field) for field in StagedItem.__struct_fields__] for item in items]


ROUNDS = st.builds(
    Round,
    *[TEXTS] * 3,
    st.integers(0, 2**40),
    st.integers(0, 2**31),
    st.sampled_from(["native", "fasttrack", "other"]),
    *[TEXTS] * 3,
    st.booleans(),
    *[st.integers(-(2**60), 2**60)] * 3,
    *[st.integers(0, 2**31)] * 5,
    *[AMOUNTS.filter(lambda amount: 0 < len(amount) < 17)] * 9,
    st.none() | st.integers(-(2**60), 2**60),
)


@compiled
@given(state=ROUNDS, fields=st.sampled_from([26, 27, 28]))
def test_a_round_that_c_reads_is_written_as_it_was(state: Round, fields: int) -> None:
    from streams.stages import _process

    stored = msgspec.msgpack.encode(msgspec.msgpack.decode(to_state(state))[:fields])
    found = _process.of_state(stored)
    assert found is None or found.to_state() == to_state(of_state(stored))


CASINO = st.builds(
    lambda number, kind, amount, second, *more: (
        "fasttrack",
        f'{{"event":"realtime-casino","data":{{"unique_id":"u-{number}","type":"{kind}",'
        f'"amount":{amount},"timestamp":"2026-03-14T12:00:0{second}Z","user_id":"{more[0]}",'
        f'"round_id":"{more[1]}","game_id":"{more[2]}","currency":"{more[3]}",'
        f'"bonus_wager_amount":{more[4]}}}}}',
    ),
    st.integers(0, 40),
    st.sampled_from(["bet", "win", "loss", "rollbackbet", "rollbackwin"]),
    st.sampled_from([*["1.5", "2", "3.25", "0.500000000000000001"] * 3, "9" * 20]),
    st.integers(0, 3),
    st.sampled_from(["p-1", "p-1", "p|2"]),
    st.sampled_from(["r-1", "r-1", "é%2"]),
    st.sampled_from(["g-1", "g|2", "å"]),
    st.sampled_from([*["EUR"] * 8, "SEK"]),
    st.sampled_from(["0", "0.5"]),
)
GAMEROUND = st.builds(
    lambda number, bet, win: (
        "fasttrack",
        f'{{"event":"realtime-gameround","data":{{"unique_id":"r-{number}","total_bet_user":{bet},'
        f'"total_win_user":{win},"timestamp":"2026-03-14T12:00:01Z","user_id":"p-1","game_id":"g-1",'
        '"user_currency":"EUR","bonus_bet_user":0,"bonus_win_user":0}}',
    ),
    st.integers(1, 3),
    st.sampled_from(["1", "2"]),
    st.sampled_from(["0", "3"]),
)
NATIVE_KINDS = st.builds(
    lambda number, player, more: ("native", more % {"number": number, "player": player}),
    st.integers(0, 5),
    st.sampled_from(["p-1", "p|2"]),
    st.sampled_from(
        [
            '{"event":"gameround","data":{"unique_id":"n-%(number)d","timestamp":"2026-03-14T12:00:00Z",'
            '"player_id":"%(player)s","game_id":"g-1","round_id":"n-1","amount":2,"currency":"EUR",'
            '"is_win":false,"is_bonus":true}}',
            '{"event":"login","data":{"unique_id":"l-%(number)d","timestamp":"2026-03-14T12:00:00Z",'
            '"player_id":"%(player)s"}}',
            '{"event":"player","data":{"unique_id":"c-%(number)d","timestamp":"2026-03-14T12:00:00Z",'
            '"player_id":"%(player)s","country":"S%(number)d"}}',
            '{"event":"game","data":{"unique_id":"d-%(number)d","timestamp":"2026-03-14T12:00:00Z",'
            '"game_id":"g-1","name":"%(player)s"}}',
        ]
    ),
)
POSTS = st.lists(
    st.tuples(
        st.lists(st.one_of(CASINO, CASINO, CASINO, GAMEROUND, NATIVE_KINDS), min_size=1, max_size=9),
        st.sampled_from(["acme", "acme", "a|b"]),
        st.sampled_from([*["batch"] * 12, "correction-1"]),
        st.integers(0, 5),
        st.booleans(),
        st.sampled_from([*["settle"] * 9, *["wait"] * 6, "erase"]),
    ),
    min_size=1,
    max_size=8,
)


def settled(posts: list[Any]) -> Line:
    """A line after it has processed the posts."""
    line = Line(1)
    for texts, tenant, batch_id, received, counts, then in posts:
        for source in ("fasttrack", "native"):
            body = ",".join(text for origin, text in texts if origin == source)
            batch = Batch(
                tenant, source, batch_id, 1_773_500_000_000_000 + received, counts, False, None
            )
            line.post(f"[{body}]".encode(), batch)
        if then == "erase":
            line.states[0].erased.add(erased_mark(key_of("acme", "p|2")))
        if then != "wait":
            line.settle()
    line.settle()
    return line


@compiled
@given(posts=POSTS)
def test_items_are_processed_in_c_as_python_processes_them(posts: list[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        found = settled(posts)
        patch.setattr(staged_chunk, "compiled", None)
        patch.setattr(processing, "COMPILED", False)
        due = settled(posts)
    assert found.datums == due.datums
    assert found.states[0].entries == due.states[0].entries


@compiled
def test_plain_items_are_processed_in_c() -> None:
    assert processing.COMPILED
    assert translating.COMPILED
    [group] = settled_groups()
    assert type(group.items[0]).__name__ == "PlainItem"


def settled_groups() -> list[staged_chunk.Group]:
    line = Line(1)
    bet = ",".join(f'"{name}":{text}' for name, text in USUAL.items())
    line.post(f'[{{"event":"gameround","data":{{{bet}}}}}]'.encode())
    return [unpack(group, CONTENTS) for group in line.staged[0]]
