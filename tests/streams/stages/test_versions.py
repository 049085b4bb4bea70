"""An id that one version has accepted is a duplicate for another if both read the same fields."""

from io import BytesIO
from typing import Any

import fastavro
import pytest

from streams.core import event
from streams.core.event import Kind, Translated, encode_content, hash_of_content
from streams.core.identity import CONTENT_BYTES, content_hash
from streams.stages import translate
from streams.wire.contracts import Schema, on_the_wire, schema
from tests.line import Line

CONTRACT = Kind.PLAYER.contract
FIELD = "country"


def without_field() -> Schema:
    """The contract of an older version, which did not have the field."""
    older = dict(schema(CONTRACT))
    older["fields"] = [field for field in older["fields"] if field["name"] != FIELD]
    return older


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> "Versions":
    """Today's translate stage as the newer of two versions; the older one lacks a field."""
    encoders = event._Encoders.of(CONTRACT, without_field())
    monkeypatch.setitem(event._OLDER, Kind.PLAYER, [encoders])
    return Versions(monkeypatch)


class Versions:
    """Switches the translate stage between the two versions, which differ only in the hash."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def newer(self) -> None:
        self._patch.setattr(translate, "hash_of_content", hash_of_content)

    def older(self) -> None:
        def older(item: Translated, contents: list[bytes]) -> bytes:
            return hash_of_content(item, contents)[:CONTENT_BYTES]

        self._patch.setattr(translate, "hash_of_content", older)


def player(**said: Any) -> list[dict[str, Any]]:
    data = {"unique_id": "u", "timestamp": "2026-03-14T12:00:00Z", "player_id": "p-1"}
    return [{"event": "player", "data": data | said}]


FI, SE, NAMED = player(country="FI"), player(country="SE"), player(country="FI", username="n")


@pytest.mark.parametrize(
    ("first", "accepted", "then", "sent", "outcome"),
    [
        ("older", FI, "newer", FI, "duplicate"),  # the older did not see the field
        ("older", player(), "newer", FI, "duplicate"),
        ("older", FI, "newer", NAMED, "conflict"),
        ("newer", FI, "older", FI, "duplicate"),
        ("newer", FI, "older", SE, "duplicate"),  # the older does not see it
        ("newer", FI, "older", NAMED, "conflict"),
        ("newer", FI, "newer", FI, "duplicate"),
        ("newer", FI, "newer", SE, "conflict"),
        ("older", FI, "older", SE, "duplicate"),
    ],
)
def test_versions_agree_on_what_both_of_them_see(
    versions: Versions, first: str, accepted: Any, then: str, sent: Any, outcome: str
) -> None:
    line = Line()
    getattr(versions, first)()
    line.run(accepted)
    getattr(versions, then)()
    line.run(sent)
    assert (line.tally()["accepted"], line.tally()[outcome]) == (1, 1)


def test_a_hash_begins_with_that_of_the_older_contract(versions: Versions) -> None:
    body = event.player_body("p-1", country="FI", username="n")
    item = Translated(Kind.PLAYER, "p-1", "player", "u", 1_773_500_000_000_000, [body])
    older = fastavro.parse_schema(_content(without_field()), _ignore_default_error=True)
    out = BytesIO()
    origin = {name: getattr(item, name) for name in ("source_event", "event_id", "occurred_at")}
    fastavro.schemaless_writer(out, older, origin | body)
    found = hash_of_content(item, encode_content(item))
    assert found[:CONTENT_BYTES] == content_hash([out.getvalue()])
    assert found[CONTENT_BYTES:] == content_hash(encode_content(item))


def _content(whole: Schema) -> Schema:
    bare: Schema = on_the_wire(whole)
    names = [field["name"] for field in bare["fields"]]
    return bare | {"fields": bare["fields"][names.index("position") + 1 :]}


def test_what_an_older_contract_cannot_express_is_no_duplicate_of_anything_it_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An item with a new symbol of an enum is no duplicate: the older version rejected such items."""
    contract = Kind.GAME_TRANSACTION.contract
    older = dict(schema(contract))
    older["fields"] = [
        field | {"type": field["type"] | {"symbols": field["type"]["symbols"][1:]}}
        if field["name"] == "type"
        else field
        for field in older["fields"]
    ]
    encoders = event._Encoders.of(contract, older)
    monkeypatch.setitem(event._OLDER, Kind.GAME_TRANSACTION, [encoders])
    body = {
        "type": "bet", "player_id": "p", "round_id": "r", "game_id": "g", "amount": b"\x01",
        "bonus_amount": b"\x00", "currency": "EUR",
    }  # fmt: skip
    item = Translated(Kind.GAME_TRANSACTION, "p", "gameround", "u", 1, [body])
    found = hash_of_content(item, encode_content(item))
    assert len(found) == 2 * CONTENT_BYTES
    assert found[:CONTENT_BYTES] != found[CONTENT_BYTES:]
