"""Who takes part in a campaign."""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from connectors.campaigns.model.parts import CurrencyCode, LocalTime, Money, Names, Part

Days = Annotated[int, Field(ge=1, le=3650)]


class Deposited(Part):
    """Successful deposits in the days before a moment."""

    days: Days = Field(description="In so many local days before the moment.")
    times: Annotated[int, Field(ge=1)] = Field(1, description="At least so many deposits.")
    amount: Money | None = Field(None, gt=0, description="At least so much in all, in `currency`.")
    currency: CurrencyCode | None = Field(None, description="Deposits are converted to it.")

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.amount is None) != (self.currency is None):
            raise ValueError("amount and currency belong together, like amount: 100 and currency: EUR")
        return self


class Lapsed(Part):
    """Active at some time before, but not in the days before a moment."""

    days: Days = Field(description="Nothing in so many local days before the moment.")
    without: Literal["bets", "logins"] = Field(
        "bets", description="Without a bet (casino or sports), or without a login."
    )


class OptIn(Part):
    """A custom event by which a player joins, until the period ends."""

    event: str = Field(min_length=1, description="Name of the custom event.")
    counts_before: bool = Field(False, description="Entries from before joining count as well.")


class Eligible(Part):
    """The players that take part; a condition that is absent does not restrict. Blocked players never
    take part.
    """

    LATER = frozenset({"deposited", "lapsed", "first_deposit_in_period", "behaviour_at"})

    countries: Names | None = Field(None, description="One of these.")
    not_countries: Names | None = Field(None, description="None of these.")
    any_tag: Names | None = Field(None, description="At least one of these segment tags.")
    no_tag: Names | None = Field(None, description="None of these segment tags.")
    affiliates: Names | None = Field(None, description="Brought by one of these.")
    registered_from: LocalTime | None = Field(None, description="Registered at or after, local time.")
    registered_before: LocalTime | None = Field(None, description="Registered before, local time.")
    consent_email: bool = Field(False, description="Only players who consented to e-mail.")
    promo_banned: bool = Field(False, description="Also players who are banned from promotions.")
    deposited: Deposited | None = Field(None, description="Only players who deposited before.")
    lapsed: Lapsed | None = Field(None, description="Only players who were active, and ceased to be.")
    first_deposit_in_period: bool = Field(
        False, description="Only players whose first deposit of all lies in the period."
    )
    behaviour_at: LocalTime | None = Field(
        None,
        description="Moment for deposited and lapsed, local time; default: period.from.",
    )

    @model_validator(mode="after")
    def _behaves(self) -> Self:
        if self.behaviour_at and not (self.deposited or self.lapsed):
            raise ValueError(
                "behaviour_at is the moment for deposited and lapsed: add one of them, or leave it out"
            )
        return self


class Holdout(Part):
    """The players who are held back from the campaign, so that its effect can be measured.

    A player is held back if the first 8 hexadecimal digits of the SHA-256 of ``salt`` followed by the
    player id are below :attr:`threshold`.
    """

    share: Decimal = Field(gt=0, le=Decimal("0.9"), description="Share of the players, e.g. 0.1.")
    salt: str = Field(
        min_length=1,
        max_length=256,
        description="Text of this campaign alone; with equal salts the same players are held back.",
    )

    @property
    def threshold(self) -> str:
        """The first hash that is not held back: 8 hexadecimal digits."""
        return f"{int(self.share * 2**32):08x}"
