"""The platform's native format, ``POST /api/v1/events`` (contracts/native-events)."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from msgspec import Raw
from pydantic import Field

from streams.core.event import Batch, Kind, Translated, player_body
from streams.formats.bulk_body import bulk_reader
from streams.formats.validation import (
    Amount,
    Currency,
    Data,
    Id,
    Item,
    Number,
    Reader,
    Text,
    Timestamp,
)
from streams.wire.money import to_bytes

try:
    from streams.formats import _native
except ImportError:
    _native = None  # type: ignore[assignment]

compiled = _native
"""The reader of plain bets and wins in C; None if there was no C compiler at installation."""

Labels = Annotated[list[Id], Field(max_length=1000)]


class Event(Data):
    """The fields that every native event has; ``unique_id`` is its idempotency key."""

    unique_id: Id
    timestamp: Timestamp

    def _translated(self, kind: Kind, subject: str, event: str, body: dict[str, Any]) -> Translated:
        return Translated(kind, subject, event, self.unique_id, self.timestamp, [body])


class Gameround(Event):
    """A bet or a win."""

    player_id: Id
    game_id: Id
    round_id: Id
    amount: Amount
    currency: Currency
    is_win: bool
    is_bonus: bool

    def translate(self, batch: Batch) -> Translated:
        """A game transaction; the bonus amount is either the whole amount or zero."""
        amount = to_bytes(self.amount)
        return self._translated(
            Kind.GAME_TRANSACTION,
            self.player_id,
            "gameround",
            {
                "player_id": self.player_id,
                "round_id": self.round_id,
                "game_id": self.game_id,
                "type": "win" if self.is_win else "bet",
                "amount": amount,
                "bonus_amount": amount if self.is_bonus else b"\x00",
                "currency": self.currency,
                "base_amount": None,
                "reporting_currency": None,
            },
        )


class Payment(Event):
    """The fields that a deposit and a withdrawal share."""

    player_id: Id
    amount: Number
    currency: Currency
    method: Text

    def _payment(self, batch: Batch, event: str, direction: str, eur: int | None) -> Translated:
        return self._translated(
            Kind.PAYMENT,
            self.player_id,
            event,
            {
                "player_id": self.player_id,
                "payment_id": self.unique_id,
                "direction": direction,
                "type": event,
                "status": "Approved",
                "successful": True,
                "amount": to_bytes(self.amount),
                "currency": self.currency,
                "base_amount": None,
                "amount_eur": None if eur is None else to_bytes(eur),
                "method": self.method,
            },
        )


class Deposit(Payment):
    """A successful deposit."""

    amount_eur: Number | None = None

    def translate(self, batch: Batch) -> Translated:
        return self._payment(batch, "deposit", "deposit", self.amount_eur)


class Withdraw(Payment):
    """A successful withdrawal."""

    def translate(self, batch: Batch) -> Translated:
        return self._payment(batch, "withdraw", "withdrawal", None)


class Player(Event):
    """A registration, or an update to any field."""

    player_id: Id
    username: Text | None = None
    registration_date: Timestamp | None = None
    country: Text | None = None
    currency: Text | None = None
    gender: Literal["M", "F"] | None = None
    affiliate: Text | None = None
    operator: Text | None = None
    tags: Labels | None = None
    consent_email: bool | None = None
    is_blocked: bool | None = None

    def translate(self, batch: Batch) -> Translated:
        """A player update: an absent or null field sets no value."""
        body = player_body(
            self.player_id,
            username=self.username,
            registered_at=self.registration_date,
            country=self.country,
            currency=self.currency,
            gender=self.gender,
            affiliate=self.affiliate,
            operator=self.operator,
            has_tags=self.tags is not None,
            tags=self.tags or [],
            consent_email=self.consent_email,
            is_blocked=self.is_blocked,
        )
        return self._translated(Kind.PLAYER, self.player_id, "player", body)


class Game(Event):
    """A new game, or an update to any field."""

    game_id: Id
    name: Text | None = None
    provider: Text | None = None
    categories: Labels | None = None
    features: Labels | None = None
    themes: Labels | None = None
    device: Text | None = None
    has_freespins: Literal["yes", "no", "unknown"] | None = None

    def translate(self, batch: Batch) -> Translated:
        """A game update: an absent or null field sets no value."""
        return self._translated(
            Kind.GAME,
            self.game_id,
            "game",
            {
                "game_id": self.game_id,
                "name": self.name,
                "provider": self.provider,
                "has_categories": self.categories is not None,
                "categories": self.categories or [],
                "has_features": self.features is not None,
                "features": self.features or [],
                "has_themes": self.themes is not None,
                "themes": self.themes or [],
                "device": self.device,
                "has_freespins": self.has_freespins,
            },
        )


class Login(Event):
    player_id: Id

    def translate(self, batch: Batch) -> Translated:
        return self._translated(Kind.LOGIN, self.player_id, "login", {"player_id": self.player_id})


KINDS: dict[str, type[Data]] = {
    "gameround": Gameround,
    "deposit": Deposit,
    "withdraw": Withdraw,
    "player": Player,
    "game": Game,
    "login": Login,
}


def _reader() -> Reader:
    if compiled is None:
        return bulk_reader(KINDS)

    class Plain(_native.Gameround):
        """A bet or a win that was read in C."""

        __slots__ = ()
        translate = Gameround.translate
        _translated = Event._translated

    def plain(texts: list[Raw]) -> Sequence[Item | None]:
        return cast(Sequence[Item | None], _native.gamerounds(Plain, texts))

    return bulk_reader(KINDS, plain=plain)


read = _reader()
