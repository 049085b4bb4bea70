"""What the entries of a campaign are worth."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from connectors.campaigns.model.parts import Money, Names, Part

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d"


class Multiplier(Part):
    """What an entry is worth more, or less, if it meets every condition given."""

    times: Money = Field(description="The factor; of several that apply, each multiplies.")
    games: Names | None = Field(None, description="Ids of games.")
    providers: Names | None = None
    categories: Names | None = Field(None, description="The game has at least one of these.")
    minimum_odds: Money | None = Field(None, description="Smallest total odds of a sports bet.")
    weekdays: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] | None = Field(
        None, min_length=1, description="Local days of the week."
    )
    hours: Annotated[str, Field(pattern=rf"^{_CLOCK}-{_CLOCK}$")] | None = Field(
        None, description="Local time of the day like 18:00-20:00, its end not included."
    )

    @model_validator(mode="after")
    def _conditional(self) -> Self:
        if self.model_fields_set <= {"times"}:
            raise ValueError("names no condition, so it would multiply everything alike")
        return self

    def minutes(self) -> tuple[int, int] | None:
        """Begin and end of ``hours`` in minutes since midnight; the end may be on the next day."""
        if self.hours is None:
            return None
        start, end = (int(text[:2]) * 60 + int(text[3:]) for text in self.hours.split("-"))
        return start, end

    def days(self) -> list[int] | None:
        """``weekdays`` as numbers from Monday, 1."""
        return None if self.weekdays is None else [_DAYS.index(day) + 1 for day in self.weekdays]


class Points(Part):
    """What the entries are worth. Without it, an entry is worth what ``measure`` says."""

    multipliers: list[Multiplier] = []
    most_an_entry: Money | None = Field(None, gt=0, description="Most that one entry is worth.")
    most_a_day: Money | None = Field(None, gt=0, description="Most that a player gets on a local day.")
    most_a_player: Money | None = Field(None, gt=0, description="Most that a player gets in all.")

    @property
    def in_order(self) -> bool:
        """Whether what an entry is worth depends on the entries before it."""
        return self.most_a_day is not None or self.most_a_player is not None
