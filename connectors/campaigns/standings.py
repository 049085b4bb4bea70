"""Standings: a Polars frame with one row for each player with a score, and the rows as tuples.

A campaign may have a million players, so the frame is what is kept, compared and written; a tuple is
made only of a row that somebody reads. Amounts are ``Decimal(38, 18)``, times have microseconds and are
UTC.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import NamedTuple, Self, overload

import polars

MONEY = polars.Decimal(38, 18)
TIME = polars.Datetime("us", "UTC")

SCHEMA = polars.Schema(
    {
        "rank": polars.Int64(),
        "player_id": polars.String(),
        "score": MONEY,
        "reached_at": TIME,
        "entries": polars.Int64(),
        "step": polars.Int64(),
        "prize": MONEY,
        "unpaid": MONEY,
        "items": polars.String(),
        "items_cost": MONEY,
        "stage": polars.Int64(),
        "team": polars.String(),
        "team_score": MONEY,
    }
)

OFTEN_EQUAL = {
    "step": 0, "unpaid": 0, "items": "", "items_cost": 0, "stage": 0, "team": "", "team_score": 0
}  # fmt: skip
"""What columns have in every row of campaigns that have no steps, no budget, …"""


HAS_PRIZE = (polars.col("prize") != 0) | (polars.col("items") != "")
"""Whether a standing has a prize, in money or else."""


class Standing(NamedTuple):
    """The standing of a player, or of the person that it is merged into.

    ``step``: steps reached in a challenge; ``unpaid``: the part of the prize beyond the budget;
    ``items``: what is won beside money, like ``20 free spins; 1 hat``, and what it costs; ``stage``:
    the last stage of a tournament in which the player has a score, which is then that stage's;
    ``team``: the player's, whose are the rank and ``team_score``.
    """

    rank: int
    player_id: str
    score: Decimal
    reached_at: datetime
    entries: int
    step: int
    prize: Decimal
    unpaid: Decimal
    items: str = ""
    items_cost: Decimal = Decimal(0)
    stage: int = 0
    team: str = ""
    team_score: Decimal = Decimal(0)


class Standings(Sequence[Standing]):
    """The standings of a campaign in the order of their ranks; a slice is standings again."""

    def __init__(self, frame: polars.DataFrame) -> None:
        """``frame`` has the columns of :data:`SCHEMA`, those of :data:`OFTEN_EQUAL` only if they say
        something; others are left out."""
        equal = [
            polars.lit(value).alias(name)
            for name, value in OFTEN_EQUAL.items()
            if name not in frame.columns
        ]
        self.frame = frame.with_columns(equal).select(SCHEMA.names()).cast(SCHEMA)

    def __len__(self) -> int:
        return self.frame.height

    @overload
    def __getitem__(self, at: int) -> Standing: ...
    @overload
    def __getitem__(self, at: slice) -> Self: ...
    def __getitem__(self, at: int | slice) -> Standing | Self:
        if isinstance(at, slice):
            return type(self)(self.frame[at])
        return Standing(*self.frame.row(at))

    def __iter__(self) -> Iterator[Standing]:
        return map(Standing._make, self.frame.iter_rows())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Standings) and self.frame.equals(other.frame)

    __hash__ = None  # type: ignore[assignment]

    @property
    def player_ids(self) -> polars.Series:
        """The players with a score."""
        return self.frame["player_id"]

    @property
    def winners(self) -> Self:
        """The standings with a prize."""
        return type(self)(self.frame.filter(HAS_PRIZE))

    @cached_property
    def money(self) -> Decimal:
        """The sum of all paid prizes."""
        return Decimal(self.frame["prize"].sum())

    @cached_property
    def unpaid(self) -> Decimal:
        """The sum of the parts of prizes beyond the budget; items are not in it."""
        return Decimal(self.frame["unpaid"].sum())

    @cached_property
    def cost(self) -> Decimal:
        """The sum of all paid prizes, and of what items cost."""
        return self.money + Decimal(self.frame["items_cost"].sum())
