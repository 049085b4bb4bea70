"""Code that the Python peers share: validation with pydantic, Avro with fastavro, a round's sums."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

_AVRO = Path(__file__).resolve().parents[2] / "avro"
_TRANSACTION = parse_schema(json.loads((_AVRO / "game-transaction.avsc").read_text()))
_ROUND = parse_schema(json.loads((_AVRO / "published" / "round" / "1.avsc").read_text()))
_TRANSACTION_HEAD, _ROUND_HEAD = b"\x00\x00\x00\x00\x01", b"\x00\x00\x00\x00\x08"
_TRANSACTION_SCHEMA_ID_BYTES = 5

Event = dict[str, Any]
Id = Annotated[str, Field(min_length=1, max_length=256)]


class Gameround(BaseModel):
    """A bet or a win."""

    model_config = ConfigDict(extra="ignore")

    unique_id: Id
    timestamp: AwareDatetime
    player_id: Id
    game_id: Id
    round_id: Id
    amount: Annotated[Decimal, Field(ge=0, max_digits=38, decimal_places=18)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    is_win: bool
    is_bonus: bool


class Item(BaseModel):
    """One entry of a body."""

    event: Literal["gameround"]
    data: Gameround


_ITEM = TypeAdapter(Item)


def events(body: bytes, headers: Mapping[str, bytes]) -> Iterator[Event]:
    """The valid events of a body."""
    received_at = datetime.fromtimestamp(int(headers["received-at"]) / 1e6, UTC)
    for position, raw in enumerate(json.loads(body, parse_float=Decimal)):
        if isinstance(raw["data"]["amount"], str):
            continue
        try:
            data = _ITEM.validate_python(raw).data
        except ValidationError:
            continue
        yield {
            "tenant": headers["tenant"].decode(),
            "source": "native",
            "batch_id": headers["batch-id"].decode(),
            "received_at": received_at,
            "counts": True,
            "position": position,
            "source_event": "gameround",
            "event_id": data.unique_id,
            "occurred_at": data.timestamp,
            "player_id": data.player_id,
            "round_id": data.round_id,
            "game_id": data.game_id,
            "type": "win" if data.is_win else "bet",
            "amount": data.amount,
            "bonus_amount": data.amount if data.is_bonus else Decimal(0),
            "currency": data.currency,
            "base_amount": None,
            "reporting_currency": None,
        }


def key_of(event: Event) -> str:
    """The key of an event on the canonical topic."""
    return f"{event['tenant']}|{event['player_id']}"


def encode_event(event: Event) -> bytes:
    """The bytes of an event's record in the canonical topic."""
    out = BytesIO()
    out.write(_TRANSACTION_HEAD)
    schemaless_writer(out, _TRANSACTION, event)
    return out.getvalue()


def decode_event(value: bytes) -> Event:
    """The inverse of :func:`encode_event`."""
    event: Any = schemaless_reader(BytesIO(value[_TRANSACTION_SCHEMA_ID_BYTES:]), _TRANSACTION, None)
    return dict(event)


def opened_by(event: Event) -> dict[str, Any]:
    """The state of a new round as JSON values: amounts are texts, times are in microseconds."""
    return {
        "game_id": event["game_id"],
        "currency": event["currency"],
        "first_event_at": event["occurred_at"].isoformat(),
        "last_event_at": event["occurred_at"].isoformat(),
        "revision": 0,
        "bet_count": 0,
        "win_count": 0,
        "bet_amount": "0",
        "win_amount": "0",
        "largest_win_amount": "0",
    }


def fold(state: dict[str, Any], event: Event) -> None:
    """Adds an event to its round."""
    kind, when = event["type"], event["occurred_at"].isoformat()
    state["revision"] += 1
    state["first_event_at"] = min(state["first_event_at"], when)
    state["last_event_at"] = max(state["last_event_at"], when)
    state[f"{kind}_count"] += 1
    state[f"{kind}_amount"] = str(Decimal(state[f"{kind}_amount"]) + event["amount"])
    if kind == "win":
        state["largest_win_amount"] = str(max(Decimal(state["largest_win_amount"]), event["amount"]))


def encode_round(state: Mapping[str, Any], event: Event) -> bytes:
    """The bytes of a round's record in the topic of rounds."""
    nothing = Decimal(0)
    out = BytesIO()
    out.write(_ROUND_HEAD)
    record = {
        "tenant": event["tenant"],
        "player_id": event["player_id"],
        "round_id": event["round_id"],
        "segment": 0,
        "revision": state["revision"],
        "source": "native",
        "source_event": "gameround",
        "game_id": state["game_id"],
        "currency": state["currency"],
        "counts": True,
        "first_event_at": datetime.fromisoformat(state["first_event_at"]),
        "last_event_at": datetime.fromisoformat(state["last_event_at"]),
        "last_received_at": event["received_at"],
        "bet_count": state["bet_count"],
        "win_count": state["win_count"],
        "loss_count": 0,
        "rollback_bet_count": 0,
        "rollback_win_count": 0,
        "bet_amount": Decimal(state["bet_amount"]),
        "bet_bonus_amount": nothing,
        "win_amount": Decimal(state["win_amount"]),
        "win_bonus_amount": nothing,
        "rollback_bet_amount": nothing,
        "rollback_bet_bonus_amount": nothing,
        "rollback_win_amount": nothing,
        "rollback_win_bonus_amount": nothing,
        "largest_win_amount": Decimal(state["largest_win_amount"]),
        "player_country": None,
        "player_currency": None,
        "player_affiliate": None,
        "player_registered_at": None,
        "player_tags": [],
        "game_name": None,
        "game_provider": None,
        "game_categories": [],
        "game_features": [],
    }
    schemaless_writer(out, _ROUND, record)
    return out.getvalue()
