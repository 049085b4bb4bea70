"""How the prizes of a campaign fall: by rank, by step, or as a share of deposits."""

import itertools
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from connectors.campaigns.model.counts import Counts, known_measure
from connectors.campaigns.model.parts import LocalTime, Money, Names, Part


class Item(Part):
    """Something that is won beside money: free spins, goods."""

    name: str = Field(min_length=1, max_length=200, description="Free text, e.g. free spins.")
    count: Annotated[int, Field(ge=1)] = 1
    cost: Money = Field(Decimal(0), description="What each costs; counts to the cost and the budget.")

    @property
    def text(self) -> str:
        """How many of what."""
        return f"{self.count} {self.name}"

    @property
    def worth(self) -> Decimal:
        """What all of them cost."""
        return self.count * self.cost


class Pool(Part):
    """A pool of prizes that grows with what the players in the standings stake or deposit."""

    base: Money = Field(Decimal(0), description="What is in it from the beginning.")
    percent: Money = Field(gt=0, le=100, description="Percent of the amounts that count.")
    cap: Money | None = Field(None, gt=0, description="Most that is in it.")


class Prize(Part):
    """The prize of each player on some ranks."""

    LATER = frozenset({"item", "share"})

    ranks: str = Field(pattern=r"^\d{1,5}(-\d{1,5})?$", description="A rank, or a range like 4-10.")
    amount: Money = Decimal(0)
    share: Money | None = Field(None, gt=0, le=100, description="Percent of the pool, for each player.")
    item: Item | None = Field(None, description="What is won beside money.")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set & {"amount", "share", "item"}:
            raise ValueError("gives nothing: add an amount, an item, or a share of the pool")
        if self.share is not None and "amount" in self.model_fields_set:
            raise ValueError("give either an amount or a share of the pool")
        return self

    @field_validator("ranks", mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) else value

    def span(self) -> tuple[int, int]:
        """The first and the last rank."""
        first, _, last = self.ranks.partition("-")
        return int(first), int(last or first)


class Stage(Part):
    """A stage of a tournament, and who goes on to the next."""

    start: LocalTime = Field(alias="from", description="First moment, local time.")
    end: LocalTime = Field(alias="to", description="First moment that is over, local time.")
    best: Annotated[int, Field(ge=1)] | None = Field(None, description="So many players go on.")
    percent: Money | None = Field(
        None, gt=0, lt=100, description="So many percent of the players with a score go on."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.start >= self.end:
            raise ValueError("ends before it begins: `to` must be later than `from`")
        if self.best is not None and self.percent is not None:
            raise ValueError("says twice who goes on: give either best or percent")
        return self

    def going_on(self, placed: int) -> int:
        """How many of so many players with a score go on to the next stage; 0 from the last."""
        if self.best is not None:
            return min(self.best, placed)
        if self.percent is None or not placed:
            return 0
        return max(1, int(placed * self.percent // 100))


class Teams(Part):
    """Players in teams, by a tag or by a list; the score of a team is made of those of its players."""

    tag_prefix: str | None = Field(
        None, min_length=1, description="The team is what follows it in a tag of the player."
    )
    players: dict[Annotated[str, Field(min_length=1, max_length=256)], Names] | None = Field(
        None, min_length=2, description="The players of each team."
    )
    best: Annotated[int, Field(ge=1)] | None = Field(
        None, description="The score is the mean of so many best players, in place of the sum of all."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.tag_prefix is None) == (self.players is None):
            raise ValueError("give either a tag_prefix like `team:`, or the players of each team")
        seen: dict[str, str] = {}
        for team, players in (self.players or {}).items():
            for player in players:
                if seen.setdefault(player, team) != team:
                    raise ValueError(f"{player} is in two teams, {seen[player]} and {team}")
        return self


class Leaderboard(Part):
    """Players ranked by score, prizes by rank."""

    LATER = frozenset({"pool", "stages", "carry_over", "teams"})

    kind: Literal["leaderboard"]
    pool: Pool | None = Field(None, description="A pool of which prizes are shares.")
    prizes: list[Prize] = Field(min_length=1)
    stages: list[Stage] = Field([], max_length=8, description="Stages of a tournament, in order.")
    carry_over: bool = Field(False, description="What counted in the stages before counts again.")
    teams: Teams | None = Field(None, description="Teams are ranked, and share their prizes.")
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

    def prize_of(self, rank: int) -> Prize | None:
        """The prize of a rank."""
        for prize in self.prizes:
            first, last = prize.span()
            if first <= rank <= last:
                return prize
        return None

    @model_validator(mode="after")
    def _in_turn(self) -> Self:
        if len(self.stages) == 1:
            raise ValueError("a tournament has two stages or more: add one, or leave out stages")
        if self.carry_over and not self.stages:
            raise ValueError("carry_over is for stages: add them, or leave it out")
        if self.teams and self.stages:
            raise ValueError("a tournament in stages has no teams: leave out stages or teams")
        if self.teams and any(prize.item for prize in self.prizes):
            raise ValueError("an item cannot be split among the players of a team: give an amount")
        if self.stages and self.pool:
            raise ValueError("a tournament has no pool: give amounts in place of shares")
        for number, (stage, after) in enumerate(itertools.pairwise(self.stages), 1):
            if stage.best is None and stage.percent is None:
                raise ValueError(f"stage {number} must say who goes on, like best: 20 or percent: 50")
            if after.start < stage.end:
                raise ValueError(f"stage {number + 1} begins before stage {number} ends")
        if self.stages and (self.stages[-1].best or self.stages[-1].percent):
            raise ValueError("nobody goes on from the last stage: leave out best and percent there")
        return self

    @model_validator(mode="after")
    def _shares(self) -> Self:
        given = Decimal(0)
        for prize in self.prizes:
            first, last = prize.span()
            given += (prize.share or 0) * (last - first + 1)
            if prize.item and self.ties == "split":
                raise ValueError("an item cannot be split: use ties: earliest or ties: equal")
        if given and self.pool is None:
            raise ValueError("a share is of a pool: add one like pool: {base: 100, percent: 1}")
        if self.pool is not None and not given:
            raise ValueError("nobody gets a share of the pool: add one like {ranks: 1, share: 50}")
        if given > 100:
            raise ValueError(f"the shares of all ranks together are {given} percent of the pool")
        return self


class Step(Part):
    """A target and the prize for reaching it."""

    LATER = frozenset({"item"})

    target: Money = Field(gt=0)
    prize: Money = Decimal(0)
    item: Item | None = Field(None, description="What is won beside money.")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set & {"prize", "item"}:
            raise ValueError("gives nothing: add a prize (which may be 0) or an item")
        return self


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
