"""FastTrack's format, ``POST /api/v1/integrations/fasttrack/bulk`` (contracts/fasttrack-bulk)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, Field, PlainValidator
from pydantic_core import PydanticCustomError

from streams.core.event import Batch, Kind, Translated, player_body
from streams.core.identity import key_of
from streams.formats.bulk_body import bulk_reader
from streams.formats.validation import (
    Amount,
    CryptoCurrency,
    Currency,
    Data,
    Id,
    Number,
    PartOf,
    Text,
    Timestamp,
)
from streams.wire.money import to_bytes

_TRANSACTION = {
    "bet": "bet",
    "win": "win",
    "loss": "loss",
    "rollbackbet": "rollback_bet",
    "rollbackwin": "rollback_win",
}
_DIRECTION = {
    "deposit": "deposit",
    "credit": "deposit",
    "withdraw": "withdrawal",
    "withdrawal": "withdrawal",
    "debit": "withdrawal",
}
_SUCCESSFUL = {"approved", "completed", "success", "successful"}
_JSON_LENGTH_MAX = 16_384


class Event(Data):
    """The fields that every FastTrack event has."""

    user_id: Id
    timestamp: Timestamp
    entry_timestamp: Timestamp | None = None
    process_timestamp: Timestamp | None = None

    def _translated(
        self, kind: Kind, event: str, event_id: str, *bodies: Mapping[str, object]
    ) -> Translated:
        bodies_with_player = [{"player_id": self.user_id, **body} for body in bodies]
        return Translated(kind, self.user_id, event, event_id, self.timestamp, bodies_with_player)


class Casino(Event):
    """``realtime-casino``: a bet, win, loss or rollback; ``bonus_wager_amount`` is part of amount."""

    unique_id: Id
    game_id: Id
    round_id: Id
    type: Literal["bet", "win", "loss", "rollbackbet", "rollbackwin"]
    amount: Amount
    currency: Currency
    bonus_wager_amount: Annotated[Amount, AfterValidator(PartOf("amount"))]

    def translate(self, batch: Batch) -> Translated:
        return self._translated(
            Kind.GAME_TRANSACTION,
            "realtime-casino",
            self.unique_id,
            {
                "round_id": self.round_id,
                "game_id": self.game_id,
                "type": _TRANSACTION[self.type],
                "amount": to_bytes(self.amount),
                "bonus_amount": to_bytes(self.bonus_wager_amount),
                "currency": self.currency,
                "base_amount": None,
                "reporting_currency": None,
            },
        )


class Gameround(Event):
    """``realtime-gameround``: a bet and possibly a win; ``unique_id`` is also the round."""

    unique_id: Id
    game_id: Id
    user_currency: CryptoCurrency
    meta_reporting_currency: Currency | None = None
    total_bet_user: Amount
    bonus_bet_user: Annotated[Amount, AfterValidator(PartOf("total_bet_user"))]
    total_bet_base: Amount | None = None
    total_win_user: Amount
    bonus_win_user: Annotated[Amount, AfterValidator(PartOf("total_win_user"))]
    total_win_base: Amount | None = None

    def translate(self, batch: Batch) -> Translated:
        """One item with a bet, and a win if an amount was won."""
        legs = [("bet", self.total_bet_user, self.bonus_bet_user, self.total_bet_base)]
        if self.total_win_user:
            legs.append(("win", self.total_win_user, self.bonus_win_user, self.total_win_base))
        return self._translated(
            Kind.GAME_TRANSACTION,
            "realtime-gameround",
            self.unique_id,
            *(
                {
                    "round_id": self.unique_id,
                    "game_id": self.game_id,
                    "type": leg,
                    "amount": to_bytes(amount),
                    "bonus_amount": to_bytes(bonus),
                    "currency": self.user_currency,
                    "base_amount": None if base is None else to_bytes(base),
                    "reporting_currency": self.meta_reporting_currency,
                }
                for leg, amount, bonus, base in legs
            ),
        )


class Payment(Event):
    """``realtime-payment``: a payment in one of its states."""

    payment_id: Id
    type: Id
    status: Id
    amount: Number
    currency: Currency
    base_amount: Number | None = None
    vendor_name: Text

    def translate(self, batch: Batch) -> Translated:
        """A payment; each state of it has an event of its own."""
        return self._translated(
            Kind.PAYMENT,
            "realtime-payment",
            key_of(self.payment_id, self.type, self.status),
            {
                "payment_id": self.payment_id,
                "direction": _DIRECTION.get(self.type.lower(), "other"),
                "type": self.type,
                "status": self.status,
                "successful": self.status.lower() in _SUCCESSFUL,
                "amount": to_bytes(self.amount),
                "currency": self.currency,
                "base_amount": None if self.base_amount is None else to_bytes(self.base_amount),
                "amount_eur": None,
                "method": self.vendor_name,
            },
        )


class Registration(Event):
    """``realtime-registration``: a registration or account update."""

    unique_id: Id
    username: Text
    registration_date: Timestamp
    country: Text
    currency: Text
    gender: Text | None
    consent_email: bool | None
    segmentation_isPromoBanned: bool | None = None  # noqa: N815  the contract's name

    def translate(self, batch: Batch) -> Translated:
        """A player update; a null sets no field."""
        body = player_body(
            self.user_id,
            username=self.username,
            registered_at=self.registration_date,
            country=self.country,
            currency=self.currency,
            gender=self.gender,
            consent_email=self.consent_email,
            is_promo_banned=self.segmentation_isPromoBanned,
        )
        return self._translated(Kind.PLAYER, "realtime-registration", self.unique_id, body)


_JSON = msgspec.json.Encoder(decimal_format="number", order="deterministic")


def _json_text(value: object) -> str:
    """Canonical JSON text of a free-form part; numbers keep every digit."""
    try:
        text = _JSON.encode(value).decode()
        msgspec.json.decode(
            text, type=msgspec.Raw
        )  # refuses the placeholder of a number beyond Decimal's range
    except (ValueError, RecursionError):
        raise PydanticCustomError("wrong_type", "must be plain JSON of valid Unicode text") from None
    if len(text) > _JSON_LENGTH_MAX:
        raise PydanticCustomError(
            "too_long", "must not be longer than {max} characters", {"max": _JSON_LENGTH_MAX}
        )
    return text


def _outcomes(value: object) -> str:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise PydanticCustomError("wrong_type", "must be a list of objects")
    return _json_text(value)


def _meta(value: object) -> str:
    if not isinstance(value, dict):
        raise PydanticCustomError("wrong_type", "must be an object")
    return _json_text(value)


class Selection(Data):
    """One leg of a sports bet."""

    is_free_bet: bool = False
    is_risk_free_bet: bool = False
    is_live: bool = False
    tournament_name: Text
    sports_name: Text
    odds: Number
    event_name: Text | None = None
    market: Text | None = None
    match_start: Timestamp | None = None
    outcomes: Annotated[str, PlainValidator(_outcomes, json_schema_input_type=list[dict[str, Any]])] = (
        "[]"
    )
    meta: Annotated[str, PlainValidator(_meta, json_schema_input_type=dict[str, Any])] = "{}"


class SportsBet(Event):
    """``realtime-sports-bet``: a slip in one of its states."""

    activity_id: Id
    activity_id_reference: Text
    amount: Amount
    bet_type: Literal["Single", "Multi", "System"]
    odds: Number | None = None
    total_odds: Number | None = None
    bets: Annotated[list[Selection], Field(max_length=100)] | None = None
    bonus_wager_amount: Annotated[Amount, AfterValidator(PartOf("amount"))]
    currency: Currency
    is_cashout: bool = False
    status: Id
    type: Id

    def translate(self, batch: Batch) -> Translated:
        """A sports bet; each state of it has an event of its own."""
        return self._translated(
            Kind.SPORTS_BET,
            "realtime-sports-bet",
            key_of(self.activity_id, self.type, self.status),
            {
                "activity_id": self.activity_id,
                "activity_id_reference": self.activity_id_reference,
                "type": self.type,
                "status": self.status,
                "bet_type": self.bet_type.lower(),
                "amount": to_bytes(self.amount),
                "bonus_amount": to_bytes(self.bonus_wager_amount),
                "currency": self.currency,
                "odds": None if self.odds is None else to_bytes(self.odds),
                "total_odds": None if self.total_odds is None else to_bytes(self.total_odds),
                "is_cashout": self.is_cashout,
                "selections": [
                    bet.model_dump() | {"odds": to_bytes(bet.odds)} for bet in self.bets or []
                ],
            },
        )


class Login(Event):
    """``realtime-login``."""

    unique_id: Id

    def translate(self, batch: Batch) -> Translated:
        return self._translated(Kind.LOGIN, "realtime-login", self.unique_id, {})


KINDS: dict[str, type[Data]] = {
    "realtime-casino": Casino,
    "realtime-payment": Payment,
    "realtime-registration": Registration,
    "realtime-gameround": Gameround,
    "realtime-sports-bet": SportsBet,
    "realtime-login": Login,
}

read = bulk_reader(KINDS, validated_only={"realtime-sports-bet"})
