"""What counts in a campaign, and how it is measured."""

from typing import Annotated, Literal

from pydantic import Field

from connectors.campaigns.model.parts import CurrencyCode, Money, Names, Part

ROUNDS, DEPOSITS, LOGINS, CUSTOM, SPORTS = (
    "rounds",
    "deposits",
    "logins",
    "custom events",
    "sports bets",
)

MEASURES = {
    "turnover": ROUNDS,
    "rounds": ROUNDS,
    "largest_win": ROUNDS,
    "best_multiplier": ROUNDS,
    "wins_in_a_row": ROUNDS,
    "sum_of_wins": ROUNDS,
    "net_loss": ROUNDS,
    "deposits": DEPOSITS,
    "deposit_count": DEPOSITS,
    "login_days": LOGINS,
    "custom_events": CUSTOM,
    "sports_turnover": SPORTS,
}
"""The measures and the kinds of entries that each applies to."""

ADDED = frozenset(MEASURES) - {"largest_win", "best_multiplier", "wins_in_a_row", "net_loss"}
"""The measures that add up what entries are worth, none of which is meant to be negative."""


def known_measure(measure: str) -> str:
    """One of :data:`MEASURES`. Raises ``ValueError`` for another text."""
    if measure not in MEASURES:
        raise ValueError(f"must be one of {', '.join(MEASURES)}")
    return measure


ONLY_FOR = {
    "games": (ROUNDS,),
    "providers": (ROUNDS,),
    "categories": (ROUNDS,),
    "features": (ROUNDS,),
    "minimum_bet": (ROUNDS, SPORTS),
    "minimum_multiplier": (ROUNDS,),
    "money": (ROUNDS, SPORTS),
    "minimum_deposit": (DEPOSITS,),
    "event": (CUSTOM,),
    "minimum_odds": (SPORTS,),
    "exclude_opposite_bets": (SPORTS,),
    "currency": (ROUNDS, DEPOSITS, SPORTS),
    "first": (ROUNDS, DEPOSITS, SPORTS, CUSTOM),
}


class Counts(Part):
    """The rounds, deposits, … that count; a condition that is absent does not restrict."""

    LATER = frozenset({"exclude_opposite_bets"})

    games: Names | None = Field(None, description="Ids of games.")
    providers: Names | None = None
    categories: Names | None = Field(None, description="The game has at least one of these.")
    features: Names | None = Field(None, description="The game has at least one of these.")
    minimum_bet: Money | None = Field(None, description="Smallest stake of a round or sports bet.")
    minimum_multiplier: Money | None = Field(
        None, description="Payout at least so many times the stake."
    )
    minimum_deposit: Money | None = None
    minimum_odds: Money | None = Field(None, description="Smallest total odds of a sports bet.")
    money: Literal["all", "real"] = Field("all", description="Real money only, or bonus money too.")
    event: str | None = Field(None, description="Name of the custom event.")
    currency: CurrencyCode | None = Field(
        None, description="Amounts are converted to it by the day's rate; without it, see `check`."
    )
    exclude_opposite_bets: bool = Field(
        False, description="Sports bets of a player on different outcomes of one market do not count."
    )
    first: Annotated[int, Field(ge=1)] | None = Field(None, description="Only the first so many.")
