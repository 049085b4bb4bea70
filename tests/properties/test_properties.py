"""Properties that hold for any input: of arithmetic, of encodings, and of the sums of rounds."""

import json
import string
import types
import typing
from collections.abc import Mapping
from functools import reduce
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from streams.core import profile as profiles
from streams.core.accounting import encode_outcome, encode_reject
from streams.core.identity import hash_after, key_of, lengthened
from streams.core.profile import Value
from streams.errors import EnvelopeError
from streams.formats import READERS, fasttrack, native, stored_body
from streams.formats.validation import Data, Invalid, errors_of
from streams.records.raw_batch import RawRecord, Request, headers_of, join_requests, requests_of
from streams.records.staged_chunk import encode_chunk, groups_of, unpack
from streams.stages.process import At, process
from streams.stages.translate import translate
from streams.wire import avro_encoder, money
from streams.wire.avro import Codec, Container, codec, frame, unframe
from streams.wire.avro_encoder import Encoder
from streams.wire.contracts import SCHEMA_IDS, on_the_wire, schema
from streams.wire.json_text import decode, members
from tests.contracts import TEXT, records
from tests.line import CONTENTS, FRAMES, NATIVE, Line
from tests.standins import MemoryState

UNITS = st.integers(-money.LIMIT + 1, money.LIMIT - 1)


@given(UNITS)
def test_money_survives_every_form(units: int) -> None:
    assert money.to_units(money.to_decimal(units)) == units
    assert money.from_bytes(money.to_bytes(units)) == units
    assert len(money.to_bytes(units)) <= 16


@given(st.lists(TEXT, min_size=1, max_size=4), st.lists(TEXT, min_size=1, max_size=4))
def test_keys_and_hashes_tell_lists_apart(one: list[str], other: list[str]) -> None:
    assert (key_of(*one) == key_of(*other)) == (one == other)
    first, second = (
        hash_after(reduce(lengthened, parts[:-1], ""), parts[-1]) for parts in (one, other)
    )
    assert (first == second) == (one == other)


class Encoders(NamedTuple):
    """Two encoders of the same format; the one in C is not installed everywhere."""

    encoder: typing.Callable[..., Encoder]
    joined: typing.Callable[[bytes, int, list[bytes]], list[bytes]]


WITH_FASTAVRO = Encoders(avro_encoder.with_fastavro, avro_encoder.joined_in_python)
ENCODERS = [
    pytest.param(WITH_FASTAVRO, id="fastavro"),
    pytest.param(
        avro_encoder.compiled,
        id="c",
        marks=pytest.mark.skipif(
            avro_encoder.compiled is None, reason="installed without a C compiler"
        ),
    ),
]


@pytest.mark.parametrize("name", SCHEMA_IDS)
@given(data=st.data())
def test_every_contract_survives_its_encoding(name: str, data: st.DataObject) -> None:
    record = data.draw(records(schema(name)))
    datum = codec(name).encode(record)
    assert codec(name).decode(datum) == record
    assert unframe(frame(SCHEMA_IDS[name]) + datum) == datum


@pytest.mark.parametrize("encoders", ENCODERS)
@pytest.mark.parametrize("name", SCHEMA_IDS)
@given(data=st.data())
def test_an_encoder_writes_what_fastavro_writes(
    encoders: Encoders, name: str, data: st.DataObject
) -> None:
    parsed = codec(name).schema
    record = data.draw(records(schema(name)))
    oracle = BytesIO()
    fastavro.schemaless_writer(oracle, parsed, record)
    assert encoders.encoder(parsed)(record) == oracle.getvalue()
    told = types.SimpleNamespace(**record)
    assert encoders.encoder(parsed, attributes=record.keys())(told) == oracle.getvalue()


@pytest.mark.parametrize("encoders", ENCODERS)
def test_a_field_that_is_left_out_is_written_as_its_default(encoders: Encoders) -> None:
    leg = {"type": "record", "name": "Leg", "fields": [{"name": "n", "type": "int", "default": 7}]}
    fields: list[dict[str, Any]] = [
        {"name": "head", "type": "string"},
        {"name": "amount", "type": "bytes", "default": "\x00\xff"},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "tags", "type": {"type": "array", "items": "string"}, "default": ["a"]},
        {"name": "legs", "type": {"type": "map", "values": leg}, "default": {"x": {}}},
        {"name": "tail", "type": "long"},
    ]
    bare = on_the_wire({"type": "record", "name": "R", "fields": fields})
    whole = {"amount": b"\x00\xff", "note": None, "tags": ["a"], "legs": {"x": {"n": 7}}}
    expected = encoders.encoder(bare)({"head": "h", "tail": 1, **whole})
    assert encoders.encoder(bare)({"head": "h", "tail": 1}) == expected
    said = types.SimpleNamespace(head="h", tail=1)
    assert encoders.encoder(bare, attributes=["head", "tail"])(said) == expected
    parsed = fastavro.parse_schema({"type": "record", "name": "R", "fields": fields})
    assert fastavro.schemaless_reader(BytesIO(expected), parsed, None) == {
        "head": "h",
        "tail": 1,
        **whole,
    }


def test_an_encoder_refuses_an_object_that_cannot_have_a_field() -> None:
    with pytest.raises(ValueError, match=r"Round\.tenant: neither an attribute nor a default"):
        Codec("round", attributes=["player_id"])


@pytest.mark.parametrize("encoders", ENCODERS)
@given(number=st.integers(-(1 << 63), (1 << 63) - 1))
def test_a_long_is_written_as_fastavro_writes_it(encoders: Encoders, number: int) -> None:
    of_number = {"type": "record", "name": "N", "fields": [{"name": "n", "type": "long"}]}
    oracle = BytesIO()
    fastavro.schemaless_writer(oracle, of_number, {"n": number})
    assert encoders.encoder(of_number)({"n": number}) == oracle.getvalue()
    assert encoders.joined(b"", number, [b"", b"."]) == [oracle.getvalue(), oracle.getvalue() + b"."]


@pytest.mark.parametrize("encoders", ENCODERS[1:])
@pytest.mark.parametrize(
    "type_", ["double", "fixed", ["string", "null"], {"type": "array", "items": []}]
)
def test_an_encoder_refuses_a_type_it_does_not_know(encoders: Encoders, type_: Any) -> None:
    with pytest.raises(ValueError, match="supported"):
        encoders.encoder({"type": "record", "name": "N", "fields": [{"name": "n", "type": type_}]})


@pytest.mark.parametrize("encoders", ENCODERS)
@pytest.mark.parametrize(
    ("type_", "value"), [("long", "1"), ("string", 1), ("bytes", 1), ("string", None)]
)
def test_an_encoder_refuses_a_value_of_another_type(encoders: Encoders, type_: str, value: Any) -> None:
    encode = encoders.encoder({"type": "record", "name": "N", "fields": [{"name": "n", "type": type_}]})
    with pytest.raises((TypeError, AttributeError)):
        encode({"n": value})
    with pytest.raises(KeyError):
        encode({})


@pytest.mark.parametrize("encoders", ENCODERS)
def test_a_datum_has_any_length(encoders: Encoders) -> None:
    of_bytes = {"type": "record", "name": "B", "fields": [{"name": "b", "type": "bytes"}]}
    for size in (0, 500, 511, 512, 513, 100_000):
        datum = encoders.encoder(of_bytes)({"b": bytes(size)})
        assert fastavro.schemaless_reader(BytesIO(datum), of_bytes, None) == {"b": bytes(size)}


@given(st.lists(st.binary(max_size=12), max_size=300))
def test_a_container_is_an_avro_file_of_its_datums(payloads: list[bytes]) -> None:
    rows = [codec("window-changes").encode({"puts": p, "position": None}) for p in payloads]
    read = list(fastavro.reader(BytesIO(Container(schema("window-changes")).file(rows))))
    assert [row["puts"] for row in read if isinstance(row, dict)] == payloads


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KINDISH = st.sampled_from(["gameround", "player", "realtime-casino", "realtime-sports-bet", "x"])
FIELDS = st.sampled_from(["unique_id", "timestamp", "player_id", "amount", "tags", "bets", "user_id"])
ITEM = st.fixed_dictionaries({"event": KINDISH, "data": st.dictionaries(FIELDS, JSON)})
ITEMS = st.lists(ITEM | JSON, max_size=4)
GAMEBALLISH = st.fixed_dictionaries(
    {"playerUniqueId": JSON, "events": st.dictionaries(TEXT, JSON) | JSON}
)
BODIES = (
    st.binary(max_size=200)
    | st.text(alphabet='{}[]",:0123456789.eE+-ntrufalsi \\u', max_size=60).map(str.encode)
    | JSON.map(lambda value: json.dumps(value).encode())
    | ITEMS.map(lambda value: json.dumps(value).encode())
    | GAMEBALLISH.map(lambda value: json.dumps(value).encode())
)


@pytest.mark.parametrize("source", READERS)
@given(body=BODIES)
def test_any_bytes_are_read_or_refused_and_never_raise(source: str, body: bytes) -> None:
    try:
        items = READERS[source](body, NATIVE, 1000)
    except EnvelopeError:
        return
    for item in items:
        if isinstance(item, Invalid):
            assert item.errors
            json.dumps([error._asdict() for error in item.errors]).encode()


@given(
    body=BODIES,
    source=st.sampled_from(sorted(READERS)),
    headers=st.dictionaries(
        st.sampled_from(["tenant", "received-at", "counts"]), st.binary(), max_size=2
    ),
)
def test_any_record_is_accounted_for(body: bytes, source: str, headers: dict[str, bytes]) -> None:
    batch = NATIVE._replace(source=source)
    given = dict(headers_of(batch, invalid=0)) | headers
    record = RawRecord(0, 0, list(given.items()), body)
    translation = translate(record, 3)
    [outcome] = translation.outcomes
    encode_outcome(outcome)
    for reject in translation.rejects:
        encode_reject(reject)
    assert outcome.rejected == len(translation.rejects)
    staged = sum(
        not item.lookup_only
        for groups in translation.groups.values()
        for group in groups
        for item in unpack(group, CONTENTS).items
    )
    assert outcome.received == staged + len(translation.rejects)


HEADERS = st.dictionaries(
    TEXT.filter(lambda name: name not in ("bytes", "layout")), st.binary(max_size=8)
)


@given(st.lists(st.tuples(HEADERS, st.binary(max_size=20)), min_size=1))
def test_requests_that_share_a_record_come_apart_again(
    sent: list[tuple[dict[str, bytes], bytes]],
) -> None:
    headers, value = join_requests([(list(own.items()), body) for own, body in sent])
    assert requests_of(RawRecord(0, 0, headers, value)) == [Request(*one) for one in sent]


CUTS = st.tuples(st.integers(0, 5_000), st.integers(0, 4), st.binary(max_size=4))
SAMPLES = [
    (path.parent.name, path.read_bytes())
    for path in sorted((Path(__file__).parents[2] / "connectors" / "edge" / "samples").glob("*/*.json"))
]


@settings(max_examples=2_000)
@given(
    sample=st.sampled_from(SAMPLES),
    cuts=st.lists(
        st.tuples(st.integers(0, 5_000), st.integers(0, 4), st.binary(max_size=4)), max_size=3
    ),
)
def test_a_staged_record_is_processed_or_refused_whatever_its_bytes(
    sample: tuple[str, bytes], cuts: list[tuple[int, int, bytes]]
) -> None:
    source, body = sample
    record = RawRecord(0, 0, headers_of(NATIVE._replace(source=source), invalid=0), body)
    for partition, groups in translate(record, 2).groups.items():
        datum = encode_chunk(groups)
        for at, length, fresh in cuts:
            datum = datum[: at % len(datum)] + fresh + datum[at % len(datum) + length :]
        try:
            found = groups_of(datum, CONTENTS)
        except ValueError:
            continue
        process(found, MemoryState(), FRAMES, At(partition, 0))


@given(st.dictionaries(TEXT, JSON, max_size=5))
def test_members_give_each_value_as_it_stands_in_the_text(document: dict[str, Any]) -> None:
    text = json.dumps(document, allow_nan=False) if _finite(document) else "{}"
    for member in members(text):
        assert json.loads(member.text) == document[member.name]


def _finite(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


EVENT_KINDS = ("bet", "win", "loss", "rollbackbet", "rollbackwin")
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(EVENT_KINDS),
        st.integers(0, 10**9),  # amount in thousandths
        st.integers(0, 100),  # bonus percent
        st.integers(0, 3),  # second of the day
        st.sampled_from(["r-1", "r-2"]),
        st.sampled_from(["p-1", "p-2", "p-3"]),
        st.sampled_from(["g-1", "g-2"]),
    ),
    min_size=1,
    max_size=12,
)


def casino_item(number: int, event: tuple[str, int, int, int, str, str, str]) -> dict[str, Any]:
    kind, thousandths, percent, second, round_id, player, game = event
    amount = thousandths / 1000
    return {
        "event": "realtime-casino",
        "data": {
            "user_id": player,
            "timestamp": f"2026-03-14T12:00:0{second}Z",
            "unique_id": f"u-{number}",
            "game_id": game,
            "round_id": round_id,
            "type": kind,
            "amount": amount,
            "currency": "EUR",
            "bonus_wager_amount": thousandths * percent // 100 / 1000,
        },
    }


def outcome_of(line: Line) -> tuple[dict[str, Any], list[str]]:
    """The results that must not depend on order: each round's newest state, and the events sent."""
    volatile = ("revision", "segment", "last_received_at")
    rounds = {
        f"{sent['player_id']}|{sent['round_id']}": {k: v for k, v in sent.items() if k not in volatile}
        for sent in line.sent["rounds"]
    }
    return rounds, sorted(sent["event_id"] for sent in line.sent["canonical.game-transactions"])


@given(events=EVENTS, data=st.data())
def test_any_order_duplication_and_batching_give_the_same_rounds(
    events: list[tuple[str, int, int, int, str, str, str]], data: st.DataObject
) -> None:
    batch = NATIVE._replace(source="fasttrack")
    items = [casino_item(number, event) for number, event in enumerate(events)]
    straight = Line()
    straight.run(items, batch)

    again = data.draw(st.lists(st.sampled_from(items), max_size=5))
    shuffled = data.draw(st.permutations(items + again))
    crooked = Line()
    while shuffled:
        size = data.draw(st.integers(1, len(shuffled)))
        crooked.post(shuffled[:size], batch)
        shuffled = shuffled[size:]
        if data.draw(st.booleans()):
            crooked.settle()
    crooked.settle()

    assert outcome_of(crooked) == outcome_of(straight)
    tally = crooked.tally()
    assert (tally["accepted"], tally["duplicate"]) == (len(items), len(again))


VALUES = st.builds(
    Value,
    st.integers(0, 3),
    st.just("player"),
    st.sampled_from(string.ascii_lowercase[:4]),
    st.just("v"),
).map(lambda value: value._replace(value=f"{value.occurred_at}{value.event_id}"))
PROFILES = st.dictionaries(st.sampled_from(["country", "tags", "email"]), VALUES, max_size=3)


@given(PROFILES, PROFILES, PROFILES)
def test_merging_profiles_is_commutative_associative_and_idempotent(
    a: dict[str, Value], b: dict[str, Value], c: dict[str, Value]
) -> None:
    merge = profiles.merge
    assert merge(a, b) == merge(b, a)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, a) == a


MODELS = [
    *[("native", event, model) for event, model in native.KINDS.items()],
    *[("fasttrack", event, model) for event, model in fasttrack.KINDS.items()],
]
_ODD = """
    null true false {} [] ["a"] [""] ["a",1] {"a":{"b":1}}
    0 -0 -0.0 1 1.0 1.50 1e2 1E-18 -1 12345678901234567890.5
    1e-19 123456789012345678901 1e400 1e99999999999999999999
    77777777777777777777777777777777777777777777777777 0.00000000000000000000000000000000000000000000
    "" "a" "EUR" "EUR\\n" "eur" "bet" "win" "yes" "Approved" "1.0"
    "\\u0000" "\\ud800" "\\ud83d\\ude00" "\u00e9\u0301" "a|b%c"
    "2026-03-14T12:00:00Z" "2026-03-14t12:00:00.123456789+05:30" "2026-03-14" "20260314T120000Z"
    "1899-12-31T23:59:59Z" "2026-02-30T00:00:00Z"
"""
_LONG = [json.dumps("x" * 256), json.dumps("x" * 257), json.dumps("\u00e9" * 256)]
FIELD_TEXTS = st.one_of(
    st.sampled_from([*_ODD.split(), *_LONG]),
    TEXT.map(json.dumps),
    st.integers().map(str),
)


def _right(name: str, model: type[Data]) -> str:
    """A valid text for the field."""
    if "timestamp" in name or name == "registration_date":
        return '"2026-03-14T12:00:00Z"'
    kind = model.model_fields[name].annotation
    if typing.get_origin(kind) is typing.Literal:
        return json.dumps(typing.get_args(kind)[0])
    return {str: '"EUR"', int: "1", bool: "true"}.get(typing.cast(type, kind), "null")


each_model = pytest.mark.parametrize(
    ("source", "event", "model"), MODELS, ids=[f"{source}-{event}" for source, event, _ in MODELS]
)


@each_model
def test_an_odd_field_is_read_as_its_model_reads_it(source: str, event: str, model: type[Data]) -> None:
    for name in [*model.model_fields, "more"]:
        for text in [*_ODD.split(), *_LONG, None]:
            _read_as_the_model_does(source, event, model, {name: text})


@each_model
@given(data=st.data())
def test_an_item_is_read_as_its_model_reads_it(
    source: str, event: str, model: type[Data], data: st.DataObject
) -> None:
    names = st.sampled_from([*model.model_fields])
    _read_as_the_model_does(
        source, event, model, data.draw(st.dictionaries(names, FIELD_TEXTS, max_size=2))
    )


def _read_as_the_model_does(
    source: str, event: str, model: type[Data], changed: Mapping[str, str | None]
) -> None:
    texts: dict[str, str | None] = {name: _right(name, model) for name in model.model_fields}
    given = (texts | {**changed}).items()
    fields = ", ".join(f'"{name}": {text}' for name, text in given if text is not None)
    item = f'{{"event": "{event}", "data": {{{fields}}}}}'
    [found] = READERS[source](f"[{item}]".encode(), NATIVE, 10)
    due = _as_the_model_has_it(model, decode(item.encode())["data"])
    if isinstance(found, Invalid):
        assert found.errors == due
    else:
        assert {name: getattr(found, name) for name in model.model_fields} == dict(due)
        assert found.translate(NATIVE) == due.translate(NATIVE)


def _as_the_model_has_it(model: type[Data], data: Any) -> Any:
    """The model's object, or the errors that the model finds."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        return errors_of(error, 0, "data")


def _json_string(draw: st.DrawFn, text: str) -> str:
    """The text in JSON, some characters of it as escapes."""
    if draw(st.booleans()):
        return json.dumps(text, ensure_ascii=draw(st.booleans()))
    units = text.encode("utf-16-be").hex()
    return '"' + "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)) + '"'


@st.composite
def _with_contact(draw: st.DrawFn) -> tuple[str, str]:
    """A Gameball request, and the same text with null for its contact."""
    space = st.text(" \t\n\r", max_size=2)
    contact = st.text(min_size=1, max_size=20).filter(str.isprintable)
    metadata = st.dictionaries(st.sampled_from(("email", "mobile", "n", "é")), contact, max_size=3)
    values = {
        "playerUniqueId": (given_id := _json_string(draw, draw(contact)), given_id),
        "events": (events := json.dumps({"e": draw(metadata), "wrong": 1}), events),
        "Email": (other := json.dumps(draw(st.one_of(st.none(), contact))), other),
    }
    for name in ("mobile", "email"):
        if draw(st.booleans()):
            values[name] = _json_string(draw, draw(contact)), "null"
    before, after = [], []
    for name in draw(st.permutations(list(values))):
        begin = f"{draw(space)}{_json_string(draw, name)}{draw(space)}:{draw(space)}"
        end = draw(space)
        value, kept = values[name]
        before.append(begin + value + end)
        after.append(begin + kept + end)
    return "{" + ",".join(before) + "}", "{" + ",".join(after) + "}"


@given(request=_with_contact())
def test_a_contact_that_may_not_be_kept_is_all_that_raw_batches_lacks_of_a_request(
    request: tuple[str, str],
) -> None:
    posted, expected = (text.encode() for text in request)
    batch = NATIVE._replace(source="gameball", idempotency_key="k")
    stored = stored_body(batch, posted)
    assert stored == expected
    assert stored_body(batch._replace(merges_channels=True), posted) == posted
    assert translate(RawRecord(0, 0, headers_of(batch, 1), stored), 4) == translate(
        RawRecord(0, 0, headers_of(batch, 1), posted), 4
    )
