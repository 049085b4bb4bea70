"""Invalid items are rejected with the expected code and pointer."""

import json
from typing import Any

import pytest

from streams.core.event import Batch
from streams.errors import EnvelopeError, TooManyItems
from streams.formats import READERS
from streams.formats.validation import Invalid, ItemError
from streams.wire.json_text import raw_items

BATCH = Batch("acme", "native", "batch-1", 1, True, False, None)
BET: dict[str, Any] = {
    "unique_id": "u",
    "timestamp": "2026-03-14T12:00:00Z",
    "player_id": "p",
    "game_id": "g",
    "round_id": "r",
    "amount": 1,
    "currency": "EUR",
    "is_win": False,
    "is_bonus": False,
}
CASINO: dict[str, Any] = {
    "user_id": "p",
    "timestamp": "2026-03-14T12:00:00Z",
    "unique_id": "u",
    "game_id": "g",
    "round_id": "r",
    "type": "bet",
    "amount": 1,
    "currency": "EUR",
    "bonus_wager_amount": 0,
}


def read(source: str, body: bytes | str) -> list[Any]:
    data = body.encode() if isinstance(body, str) else body
    return list(READERS[source](data, BATCH, 10))


def native(text: str) -> list[tuple[str, str]]:
    [item] = read("native", '[{"event": "gameround", "data": ' + text + "}]")
    return [] if not isinstance(item, Invalid) else [(e.code, e.pointer) for e in item.errors]


def with_field(name: str, text: str) -> str:
    return json.dumps({**BET, name: "?"}).replace('"?"', text)


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("amount", '"1.0"', "wrong_type"),
        ("amount", "true", "wrong_type"),
        ("amount", "-1", "out_of_range"),
        ("amount", "123456789012345678901", "out_of_range"),
        ("amount", "0.1234567890123456789", "out_of_range"),
        ("amount", "1e400", "out_of_range"),
        ("amount", "1e99999999999999999999", "out_of_range"),
        ("amount", "9" * 5000, "out_of_range"),
        ("unique_id", "7", "wrong_type"),
        ("unique_id", '""', "too_short"),
        ("unique_id", '"' + "x" * 257 + '"', "too_long"),
        ("currency", '"eur"', "malformed"),
        ("is_win", "1", "wrong_type"),
        ("timestamp", "1773489600", "wrong_type"),
        ("timestamp", '"2026-03-14"', "malformed_timestamp"),
        ("timestamp", '"2026-13-14T00:00:00Z"', "malformed_timestamp"),
        ("timestamp", '"1899-12-31T23:59:59Z"', "out_of_range"),
        ("timestamp", '"9999-12-31T23:59:59-23:59"', "out_of_range"),
    ],
)
def test_a_wrong_field_is_refused_where_it_stands(name: str, text: str, code: str) -> None:
    assert native(with_field(name, text)) == [(code, f"/0/data/{name}")]


@pytest.mark.parametrize("text", ["12345678901234567.89", "1E+5", "0", "-0.0", "1.50"])
def test_numbers_are_taken_to_the_digit(text: str) -> None:
    assert native(with_field("amount", text)) == []


def test_every_error_of_every_item_is_reported() -> None:
    items = read(
        "native",
        json.dumps(
            {
                "items": [
                    {"event": "gameround", "data": {**BET, "amount": "1", "is_win": None}},
                    {"event": "gameround", "data": BET | {"unknown": {"ignored": 1}}},
                    {"event": "spin", "data": {}},
                    {"event": "login"},
                    {"data": {}},
                    "text",
                    {"event": ["gameround"], "data": {}},
                ]
            }
        ),
    )
    found = [
        [(e.code, e.pointer) for e in i.errors] if isinstance(i, Invalid) else "valid" for i in items
    ]
    assert found == [
        [("wrong_type", "/items/0/data/amount"), ("wrong_type", "/items/0/data/is_win")],
        "valid",
        [("unknown_event", "/items/2/event")],
        [("required", "/items/3/data")],
        [("required", "/items/4/event")],
        [("wrong_type", "/items/5")],
        [("unknown_event", "/items/6/event")],
    ]


def test_a_message_says_what_and_how_to_mend_it() -> None:
    [item] = read("native", json.dumps([{"event": "gameround", "data": {**BET, "amount": "1"}}]))
    assert item.errors == (
        ItemError("wrong_type", "/0/data/amount", "amount must be a JSON number, not in quotes"),
    )


def test_bonus_must_be_part_of_the_amount() -> None:
    body = [{"event": "realtime-casino", "data": {**CASINO, "bonus_wager_amount": 1.01}}]
    [item] = read("fasttrack", json.dumps(body))
    assert [(e.code, e.pointer) for e in item.errors] == [
        ("exceeds_whole", "/0/data/bonus_wager_amount")
    ]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "not_json"),
        (b"[1,]", "not_json"),
        (b"[NaN]", "not_json"),
        (b"\xff", "not_json"),
        (b'"\\ud800"', "wrong_envelope"),
        (b"[" * 100_000, "not_json"),
        (b"{}", "wrong_envelope"),
        (b'{"items": {}}', "wrong_envelope"),
        (b"7", "wrong_envelope"),
    ],
)
@pytest.mark.parametrize("source", ["native", "fasttrack"])
def test_a_wrong_envelope_is_refused_as_a_whole(source: str, body: bytes, code: str) -> None:
    with pytest.raises(EnvelopeError) as caught:
        read(source, body)
    assert caught.value.code == code


@pytest.mark.parametrize("source", ["native", "fasttrack"])
def test_too_many_items_are_refused_as_a_whole(source: str) -> None:
    with pytest.raises(TooManyItems):
        read(source, json.dumps([0] * 11))


def test_the_bytes_of_an_item_are_those_that_were_posted() -> None:
    body = b'{"x": 1, "items": [ {"a": 1.50 } , "t\\u00e9" ]}'
    assert raw_items(body) == [b'{"a": 1.50 }', b'"t\\u00e9"']


def gameball(events: str, more: str = "") -> list[list[tuple[str, str]]]:
    items = read("gameball", '{"playerUniqueId": "p", "events": ' + events + more + "}")
    return [[(e.code, e.pointer) for e in i.errors] if isinstance(i, Invalid) else [] for i in items]


def test_gameball_refuses_duplicates_in_the_text() -> None:
    assert gameball('{"a": {"k": 1, "k": 2}, "b": {}, "b": {}, "c": {}}') == [
        [("duplicate_key", "/events/a/k")],
        [("duplicate_event", "/events/b")],
        [("duplicate_event", "/events/b")],
        [],
    ]


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ('{"k": true}', "wrong_type"),
        ('{"k": null}', "wrong_type"),
        ('{"k": {}}', "wrong_type"),
        ('{"k": [[]]}', "wrong_type"),
        ('{"k": 1e400}', "out_of_range"),
        ('{"k": "\\ud800"}', "too_long"),
        ("7", "wrong_type"),
        ('{"k": "' + "x" * 5000 + '"}', "too_long"),
    ],
)
def test_gameball_metadata_is_a_number_a_string_or_a_list(metadata: str, code: str) -> None:
    [[(found, where)]] = gameball('{"e": ' + metadata + "}")
    assert found == code
    assert where.startswith("/events/e")


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{}",
        '{"playerUniqueId": "p"}',
        '{"playerUniqueId": 7, "events": {}}',
        '{"playerUniqueId": "", "events": {}}',
        '{"playerUniqueId": "p", "events": []}',
        '{"playerUniqueId": "p", "events": {}, "events": {}}',
        '{"playerUniqueId": "p", "email": 7, "events": {}}',
        '{"playerUniqueId": "p", "events": {"e": NaN}}',
    ],
)
def test_gameball_refuses_a_wrong_request_as_a_whole(body: str) -> None:
    with pytest.raises(EnvelopeError):
        read("gameball", body)


def test_gameball_keeps_the_text_of_a_refused_event() -> None:
    [item] = read("gameball", '{"playerUniqueId":"p","events": { "e" : {"k": [ true ]} }}')
    assert item.text == b'{"k": [ true ]}'
