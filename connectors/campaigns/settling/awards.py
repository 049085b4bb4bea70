"""Awards: the prizes of a result, one for each player and step, and how a later result differs."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import polars

from connectors.campaigns.evaluation import Result
from connectors.campaigns.model.forms import Challenge, Item, Leaderboard, Mission
from connectors.campaigns.standings import Standing, Standings
from streams.core.identity import key_of
from streams.wire.money import from_bytes, to_bytes, to_decimal, to_units
from streams.wire.times import to_micros

AWARD, CORRECTION = "award", "correction"
_AWARDS = uuid.UUID("5d0f5b52-6a0c-5b6e-9a3e-0f4f9d3b7a11")
_SETTLEMENTS = uuid.UUID("c1b6f6f0-2a63-5d1c-8f6e-7d1b0c5a9e42")

Place = tuple[str, int]
"""A player and a step: what a campaign awards at most once."""


class Prize(NamedTuple):
    """What a player gets: money, so many of an item, or both."""

    amount: Decimal = Decimal(0)
    item: str | None = None
    item_count: int | None = None


NOTHING = Prize()


class Award(NamedTuple):
    """A record of the topic ``awards``: see ``avro/award.avsc``."""

    award_id: str
    kind: str
    tenant: str
    campaign: str
    title: str
    settlement_id: str
    number: int
    player_id: str
    rank: int
    step: int
    score: Decimal
    prize: Prize
    currency: str | None
    corrects: str | None
    before: Prize | None
    reason: str
    definition_sha256: str
    as_of: datetime
    settled_at: datetime

    def record(self) -> dict[str, Any]:
        """The record as its contract has it."""
        before = self.before
        return {
            **self._asdict(),
            "score": _bytes(self.score),
            "amount": _bytes(self.prize.amount),
            "item": self.prize.item,
            "item_count": self.prize.item_count,
            "amount_before": None if before is None else _bytes(before.amount),
            "item_before": before and before.item,
            "item_count_before": before and before.item_count,
            "as_of": to_micros(self.as_of),
            "settled_at": to_micros(self.settled_at),
        }


class Difference(NamedTuple):
    """A player and step whose prize is another than the one that was published."""

    place: Place
    standing: Standing | None
    before: Prize
    after: Prize


class Published(NamedTuple):
    """What was published of a player and step: the first record's id, and the newest prize."""

    award_id: str
    prize: Prize


def settlement_id(tenant: str, campaign: str, number: int) -> str:
    """The id of a settlement (number 0) or a review."""
    return str(uuid.uuid5(_SETTLEMENTS, key_of(tenant, campaign, str(number))))


def award_id(tenant: str, campaign: str, number: int, place: Place) -> str:
    """The id of the record that a settlement or review publishes of a player and step."""
    player_id, step = place
    return str(uuid.uuid5(_AWARDS, key_of(tenant, campaign, str(number), player_id, str(step))))


def prizes(result: Result) -> dict[Place, tuple[Standing, Prize]]:
    """What each player gets for each step; step 0 in forms without steps.

    Raises ``ValueError`` if the prize of a player is not the sum of those of the first steps.
    """
    found = {}
    for standing in result.standings.winners:
        for step, prize in _by_step(result, standing):
            if prize != NOTHING:
                found[standing.player_id, step] = standing, prize
    return found


def _by_step(result: Result, standing: Standing) -> Iterable[tuple[int, Prize]]:
    form, has_items = result.campaign.form, bool(standing.items)
    if isinstance(form, Leaderboard):
        won = form.prize_of(standing.rank)
        return [(0, _prize(standing.prize, won.item if won and has_items else None))]
    if not isinstance(form, Challenge | Mission):
        return [(0, Prize(standing.prize))]
    left, paid = standing.prize, []
    for number, step in enumerate(form.steps[: standing.step], 1):
        if step.prize > left:
            break
        left -= step.prize
        paid.append((number, _prize(step.prize, step.item if has_items else None)))
    if left:
        raise ValueError(
            f"the prize of {standing.player_id} in {result.campaign.name}, {standing.prize}, is not "
            "the sum of the prizes of its first steps"
        )
    return paid


def _prize(amount: Decimal, item: Item | None) -> Prize:
    return Prize(amount, item.name, item.count) if item else Prize(amount)


def differences(result: Result, published: Mapping[Place, Published]) -> list[Difference]:
    """The players and steps whose prize in a later result is not the published one, in order."""
    due = prizes(result)
    changed = {}
    for place in sorted(due.keys() | published.keys()):
        after = due[place][1] if place in due else NOTHING
        before = published[place].prize if place in published else NOTHING
        if after != before:
            changed[place] = before, after
    players = polars.col("player_id").is_in([player_id for player_id, _ in changed])
    standings = Standings(result.standings.frame.filter(players))
    by_player = {standing.player_id: standing for standing in standings}
    return [Difference(place, by_player.get(place[0]), *both) for place, both in changed.items()]


def newest(records: Sequence[Mapping[str, Any]]) -> dict[Place, Published]:
    """What was published by player and step, from rows of ``awards`` with rising ``number``."""
    found: dict[Place, Published] = {}
    for row in records:
        place = row["player_id"], int(row["step"])
        first = found[place].award_id if place in found else row["award_id"]
        count = row["item_count"]
        prize = Prize(Decimal(row["amount"]), row["item"], None if count is None else int(count))
        found[place] = Published(first, prize)
    return found


def decimal_of(data: bytes) -> Decimal:
    """The amount of an Avro decimal."""
    return to_decimal(from_bytes(data))


def _bytes(amount: Decimal) -> bytes:
    return to_bytes(to_units(amount))
