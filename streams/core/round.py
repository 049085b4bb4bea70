"""Rounds: a commutative fold of bets, wins, losses and rollbacks.

The state is sums, counts, minima and maxima, so the events of a round may arrive in any order,
late, and a rollback before its bet. Arrival order matters only if events of a round disagree on its
currency or reporting kind: the first accepted event decides, and the others are refused.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from streams.core.event import Batch, Kind, Translated
from streams.core.profile import Profile, value_of
from streams.wire.avro import Codec, field_index
from streams.wire.contracts import schema
from streams.wire.money import LIMIT, ZERO, add, from_bytes, to_bytes

Amount = Annotated[bytes, Meta(min_length=1, max_length=16)]
"""An Avro decimal(38, 18)."""


class Round(msgspec.Struct, array_like=True, gc=False):
    """The fold of a round's events; times in microseconds, UTC.

    Kept as MessagePack in the window table: fields are appended with a default, never moved. The
    contract ``round`` has them under the same names.
    """

    tenant: str
    player_id: str
    round_id: str
    segment: int
    revision: int
    source: str
    source_event: str
    game_id: str
    currency: str
    counts: bool
    first_event_at: int
    last_event_at: int
    last_received_at: int
    bet_count: int = 0
    win_count: int = 0
    loss_count: int = 0
    rollback_bet_count: int = 0
    rollback_win_count: int = 0
    bet_amount: Amount = ZERO
    bet_bonus_amount: Amount = ZERO
    win_amount: Amount = ZERO
    win_bonus_amount: Amount = ZERO
    rollback_bet_amount: Amount = ZERO
    rollback_bet_bonus_amount: Amount = ZERO
    rollback_win_amount: Amount = ZERO
    rollback_win_bonus_amount: Amount = ZERO
    largest_win_amount: Amount = ZERO
    first_bet_at: int | None = None
    """Earliest time of a bet; None without a bet, and unknown if a state of 0.1.0, which lacks it,
    already had bets."""


_FAR_FROM_LIMIT_BYTES = 15
"""A sum of a hundred amounts of so many bytes stays below the limit."""

# A datum has three runs of fields: the state, the player's profile, and the game's profile.
_PLAYER_AT = field_index(schema("round"), "player_country")
_GAME_AT = field_index(schema("round"), "game_name")
_STATE = Codec("round", 0, _PLAYER_AT, attributes=Round.__struct_fields__)
_PLAYER = Codec("round", _PLAYER_AT, _GAME_AT)
_GAME = Codec("round", _GAME_AT)


def is_of(state_fields: Sequence[str], datum_fields: Sequence[str]) -> bool:
    """Whether these are the fields of a state, and of the first run of a datum, in their order."""
    datum = [field["name"] for field in schema("round")["fields"][:_PLAYER_AT]]
    return Round.__struct_fields__ == tuple(state_fields) and datum == list(datum_fields)


to_state: Callable[[Round], bytes] = msgspec.msgpack.Encoder().encode
"""The round as the window table stores it."""

of_state: Callable[[bytes], Round] = msgspec.msgpack.Decoder(Round).decode
"""The inverse of :data:`to_state`."""


class Transaction(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The fields of a game transaction that a round needs. The time is in microseconds since the
    epoch.
    """

    source_event: str
    occurred_at: int
    type: str
    player_id: str
    round_id: str
    game_id: str
    currency: str
    amount: Amount
    bonus_amount: Amount


def transactions_of(item: Translated) -> list[Transaction]:
    """The transactions of a translated game item."""
    return [
        Transaction(
            item.source_event,
            item.occurred_at,
            body["type"],
            body["player_id"],
            body["round_id"],
            body["game_id"],
            body["currency"],
            body["amount"],
            body["bonus_amount"],
        )
        for body in item.bodies
    ]


def opened_by(batch: Batch, event: Transaction, segment: int) -> Round:
    """A round without events, for ``event`` to be folded into."""
    return Round(
        tenant=batch.tenant,
        player_id=event.player_id,
        round_id=event.round_id,
        segment=segment,
        revision=0,
        source=batch.source,
        source_event=event.source_event,
        game_id=event.game_id,
        currency=event.currency,
        counts=batch.counts,
        first_event_at=event.occurred_at,
        last_event_at=event.occurred_at,
        last_received_at=batch.received_at,
    )


def refusal(state: Round, events: Sequence[Transaction]) -> tuple[str, str] | None:
    """Why the events of an item must not be folded into ``state``, as (code, message), or None."""
    event = events[0]
    if event.source_event != state.source_event:
        return (
            "round_reported_twice",
            f"round is already reported by {state.source_event}; "
            f"{event.source_event} would count it twice",
        )
    if event.currency != state.currency:
        return (
            "round_currency_conflict",
            f"round is in {state.currency}, this event is in {event.currency}",
        )
    if _is_overflow(state, events):
        return ("round_overflow", "the round's amounts together have more than 20 digits")
    return None


def _is_overflow(state: Round, events: Sequence[Transaction]) -> bool:
    amounts = (
        state.bet_amount,
        state.win_amount,
        state.rollback_bet_amount,
        state.rollback_win_amount,
        *[event.amount for event in events],
    )
    for amount in amounts:
        if len(amount) > _FAR_FROM_LIMIT_BYTES:
            return sum(map(from_bytes, amounts)) >= LIMIT
    return False


def fold(state: Round, batch: Batch, event: Transaction) -> None:
    """Adds ``event``, which :func:`refusal` has allowed, to ``state``."""
    when = event.occurred_at
    if when < state.first_event_at:
        state.first_event_at = when
        state.game_id = event.game_id
    elif when == state.first_event_at and event.game_id < state.game_id:
        state.game_id = event.game_id
    if when > state.last_event_at:
        state.last_event_at = when
    if batch.received_at > state.last_received_at:
        state.last_received_at = batch.received_at
    state.counts = state.counts and batch.counts
    amount, bonus = event.amount, event.bonus_amount
    if event.type == "bet":
        first = state.first_bet_at
        if state.bet_count == 0 or (first is not None and when < first):
            state.first_bet_at = when
        state.bet_count += 1
        state.bet_amount = add(state.bet_amount, amount)
        state.bet_bonus_amount = add(state.bet_bonus_amount, bonus)
    elif event.type == "win":
        state.win_count += 1
        state.win_amount = add(state.win_amount, amount)
        state.win_bonus_amount = add(state.win_bonus_amount, bonus)
        if from_bytes(amount) > from_bytes(state.largest_win_amount):
            state.largest_win_amount = amount
    elif event.type == "rollback_bet":
        state.rollback_bet_count += 1
        state.rollback_bet_amount = add(state.rollback_bet_amount, amount)
        state.rollback_bet_bonus_amount = add(state.rollback_bet_bonus_amount, bonus)
    elif event.type == "rollback_win":
        state.rollback_win_count += 1
        state.rollback_win_amount = add(state.rollback_win_amount, amount)
        state.rollback_win_bonus_amount = add(state.rollback_win_bonus_amount, bonus)
    else:
        state.loss_count += 1


def correction_refusal(
    state: Round | None, before: Sequence[Transaction], after: Sequence[Transaction]
) -> tuple[str, str] | None:
    """Why :func:`correct` cannot replace events of a round, as (code, message), or None.

    Sums can be subtracted; first and last times, the game and the round's identity cannot, so events
    may differ in their amounts alone. ``state`` is None if the round is not known any more.
    """
    if [replace(event, amount=ZERO, bonus_amount=ZERO) for event in before] != [
        replace(event, amount=ZERO, bonus_amount=ZERO) for event in after
    ]:
        return ("not_correctable", "only the amounts of a bet, win or rollback can be corrected")
    if state is None or _is_underflow(state, before):
        return ("not_correctable", "the round is not remembered with what is to be corrected")
    if _largest_win_after(state, before, after) is None:
        return (
            "largest_win_unknown",
            "the round's largest win would be lowered, and its other wins are not remembered singly",
        )
    if _is_overflow(state, after):
        return ("round_overflow", "the round's amounts together have more than 20 digits")
    return None


def correct(
    state: Round, batch: Batch, before: Sequence[Transaction], after: Sequence[Transaction]
) -> None:
    """Replaces events of ``state``, which :func:`correction_refusal` has allowed."""
    state.largest_win_amount = _largest_win_after(state, before, after) or ZERO
    for old, new in zip(before, after, strict=True):
        if old.type == "loss":
            continue
        for field in ("amount", "bonus_amount"):
            name = f"{old.type}_{field}"
            sums = map(from_bytes, (getattr(state, name), getattr(new, field), getattr(old, field)))
            present, added, removed = sums
            setattr(state, name, to_bytes(present + added - removed))
    state.last_received_at = max(state.last_received_at, batch.received_at)
    state.counts = state.counts and batch.counts


def _is_underflow(state: Round, events: Sequence[Transaction]) -> bool:
    """Whether ``state`` cannot contain the events."""
    return any(
        getattr(state, f"{event.type}_count") < 1
        or (
            event.type != "loss"
            and from_bytes(getattr(state, f"{event.type}_amount")) < from_bytes(event.amount)
        )
        for event in events
    )


def _largest_win_after(
    state: Round, before: Sequence[Transaction], after: Sequence[Transaction]
) -> bytes | None:
    """The largest win once ``after`` has replaced ``before``; None if it is not known."""
    removed = [event.amount for event in before if event.type == "win"]
    if not removed:
        return state.largest_win_amount
    added = max((event.amount for event in after if event.type == "win"), key=from_bytes)
    if state.win_count == len(removed):
        return added
    largest = from_bytes(state.largest_win_amount)
    if from_bytes(added) >= largest:
        return added
    return state.largest_win_amount if max(map(from_bytes, removed)) < largest else None


def encode_state(state: Round) -> bytes:
    """The first of the three runs of a ``round`` datum. The runs of player and game complete it."""
    return _STATE.encode(state)


def encode_profile(kind: Kind, profile: Profile | None) -> bytes:
    """The second run of a ``round`` datum, for a player, or the third, for a game."""
    if kind is Kind.GAME:
        return _GAME.encode(
            {
                "game_name": value_of(profile, "name"),
                "game_provider": value_of(profile, "provider"),
                "game_categories": value_of(profile, "categories", []),
                "game_features": value_of(profile, "features", []),
            }
        )
    return _PLAYER.encode(
        {
            "player_country": value_of(profile, "country"),
            "player_currency": value_of(profile, "currency"),
            "player_affiliate": value_of(profile, "affiliate"),
            "player_registered_at": value_of(profile, "registered_at"),
            "player_tags": value_of(profile, "tags", []),
        }
    )
