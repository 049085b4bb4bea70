"""Rounds: a commutative fold of bets, wins, losses and rollbacks.

The state is sums, counts, minima and maxima, so the events of a round may come in any order, late,
and a rollback before its bet. What order does decide is which currency and which reporting kind a
round has when its events disagree: the first to be accepted; the others are refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import msgspec

from streams.canonical import Batch, Translated
from streams.codec import Record, codec
from streams.money import LIMIT, from_bytes, to_bytes
from streams.profiles import Profile, value_of

_CODEC = codec("round")


@dataclass(slots=True)
class Round:
    """The fold of a round's events. Amounts in units of 10**-18, times in microseconds, UTC."""

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
    bet_amount: int = 0
    bet_bonus_amount: int = 0
    win_amount: int = 0
    win_bonus_amount: int = 0
    rollback_bet_amount: int = 0
    rollback_bet_bonus_amount: int = 0
    rollback_win_amount: int = 0
    rollback_win_bonus_amount: int = 0
    largest_win_amount: int = 0


_NAMES = tuple(field.name for field in fields(Round))
_MONEY = tuple(name for name in _NAMES if name.endswith("_amount"))
_PLAIN = tuple(name for name in _NAMES if name not in _MONEY)
_ZERO = to_bytes(0)


class Transaction(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a round needs of a game transaction; amounts as Avro decimals, the time in microseconds."""

    source_event: str
    occurred_at: int
    type: str
    player_id: str
    round_id: str
    game_id: str
    currency: str
    amount: bytes
    bonus_amount: bytes


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
    """An empty round that ``event`` may be folded into."""
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
    turned_over = (
        state.bet_amount
        + state.win_amount
        + state.rollback_bet_amount
        + state.rollback_win_amount
        + sum([from_bytes(each.amount) for each in events])
    )
    if turned_over >= LIMIT:
        return ("round_overflow", "the round's amounts together have more than 20 digits")
    return None


def fold(state: Round, batch: Batch, event: Transaction) -> None:
    """Adds ``event``, which was not refused, to ``state``."""
    when = event.occurred_at
    if (when, event.game_id) < (state.first_event_at, state.game_id):
        state.first_event_at = when
        state.game_id = event.game_id
    state.last_event_at = max(state.last_event_at, when)
    state.last_received_at = max(state.last_received_at, batch.received_at)
    state.counts = state.counts and batch.counts
    amount = from_bytes(event.amount)
    bonus = from_bytes(event.bonus_amount)
    if event.type == "bet":
        state.bet_count += 1
        state.bet_amount += amount
        state.bet_bonus_amount += bonus
    elif event.type == "win":
        state.win_count += 1
        state.win_amount += amount
        state.win_bonus_amount += bonus
        state.largest_win_amount = max(state.largest_win_amount, amount)
    elif event.type == "rollback_bet":
        state.rollback_bet_count += 1
        state.rollback_bet_amount += amount
        state.rollback_bet_bonus_amount += bonus
    elif event.type == "rollback_win":
        state.rollback_win_count += 1
        state.rollback_win_amount += amount
        state.rollback_win_bonus_amount += bonus
    else:
        state.loss_count += 1


def encode(state: Round, player: Profile | None, game: Profile | None) -> bytes:
    """The ``round`` datum: the state, enriched with the profiles as they are known now."""
    record: Record = {name: getattr(state, name) for name in _PLAIN}
    for name in _MONEY:
        units = getattr(state, name)
        record[name] = to_bytes(units) if units else _ZERO
    record["player_country"] = value_of(player, "country")
    record["player_currency"] = value_of(player, "currency")
    record["player_affiliate"] = value_of(player, "affiliate")
    record["player_registered_at"] = value_of(player, "registered_at")
    record["player_tags"] = value_of(player, "tags", [])
    record["game_name"] = value_of(game, "name")
    record["game_provider"] = value_of(game, "provider")
    record["game_categories"] = value_of(game, "categories", [])
    record["game_features"] = value_of(game, "features", [])
    return _CODEC.encode(record)


def decode(datum: bytes) -> Round:
    """The state within a ``round`` datum."""
    record = _CODEC.decode(datum)
    for name in _MONEY:
        record[name] = from_bytes(record[name])
    return Round(**{name: record[name] for name in _NAMES})
