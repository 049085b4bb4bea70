"""How the prizes of a campaign fall: by rank, by step, or as a share of deposits."""

import itertools
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from connectors.campaigns.counts import Counts, known_measure
from connectors.campaigns.parts import Money, Part


class Prize(Part):
    """The prize of each player on some ranks."""

    ranks: str = Field(pattern=r"^\d{1,5}(-\d{1,5})?$", description="A rank, or a range like 4-10.")
    amount: Money

    @field_validator("ranks", mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) else value

    def span(self) -> tuple[int, int]:
        """The first and the last rank."""
        first, _, last = self.ranks.partition("-")
        return int(first), int(last or first)


class Leaderboard(Part):
    """Players ranked by score, prizes by rank."""

    kind: Literal["leaderboard"]
    prizes: list[Prize] = Field(min_length=1)
    ties: Literal["earliest", "equal", "split"] = Field(
        "earliest",
        description="Of equal scores: who reached it earlier is before; or all get the best rank's "
        "prize; or they split the prizes of the ranks they take up.",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        due = 1
        for prize in self.prizes:
            first, last = prize.span()
            if first != due or last < first:
                raise ValueError(
                    f"ranks must follow each other from 1: {prize.ranks} found where {due} was expected"
                )
            due = last + 1
        if due > 10_001:
            raise ValueError("more than 10000 ranks have prizes")
        return self


class Step(Part):
    """A target and the prize for reaching it."""

    target: Money = Field(gt=0)
    prize: Money


class Challenge(Part):
    """A mission: everyone who reaches a step's target gets its prize, once."""

    kind: Literal["challenge"]
    steps: list[Step] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        targets = [step.target for step in self.steps]
        for before, after in itertools.pairwise(targets):
            if after <= before:
                raise ValueError(
                    f"steps overlap: target {after} must be above the one before, {before}"
                )
        return self


class MissionStep(Step):
    """A target of its own; what counts and its measure are the campaign's where they are left out."""

    measure: str | None = Field(None, description="Another measure than the campaign's.")
    counts: Counts | None = Field(None, description="In place of all of the campaign's conditions.")

    @field_validator("measure")
    @classmethod
    def _known(cls, measure: str | None) -> str | None:
        return None if measure is None else known_measure(measure)


class Mission(Part):
    """Steps in sequence: an entry counts for a step if it is later than the one that reached the step
    before.
    """

    kind: Literal["mission"]
    steps: list[MissionStep] = Field(min_length=2, max_length=8)


class DepositBonus(Part):
    """A share of the deposits, up to a cap for each player."""

    kind: Literal["deposit_bonus"]
    percent: Money = Field(gt=0, le=1000)
    cap: Money = Field(gt=0)
