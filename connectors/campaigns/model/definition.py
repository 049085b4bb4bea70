"""The definition of a campaign in a file: who takes part, which entries count, how they are measured,
and the prizes.

The format is YAML, because marketing reads it. Numbers are read as ``Decimal``, and times without
an offset as text in the campaign's own time zone. Every mistake is reported with its line.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self, TypeVar

import yaml
from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from connectors.campaigns.model.counts import (
    ADDED,
    CUSTOM,
    DEPOSITS,
    MEASURES,
    ONLY_FOR,
    ROUNDS,
    SPORTS,
    Counts,
    known_measure,
)
from connectors.campaigns.model.forms import (
    Challenge,
    DepositBonus,
    Leaderboard,
    Mission,
    MissionStep,
    Step,
)
from connectors.campaigns.model.parts import Money, Part, Period
from connectors.campaigns.model.points import Points
from connectors.campaigns.model.recurrence import LONGEST_NAME, Occurrence, Recurrence
from connectors.campaigns.model.who import Eligible, Holdout, OptIn
from streams.core.event import is_test
from streams.errors import DefinitionError


class Campaign(Part):
    """A campaign. ``measure`` defines the score, ``form`` the prizes for it."""

    LATER = frozenset({"holdout", "points", "minimum_entries", "opt_in"})

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    title: str = ""
    tenant: str = Field(min_length=1)
    period: Period
    eligible: Eligible = Eligible()
    opt_in: OptIn | None = Field(None, description="Only players who join by a custom event.")
    counts: Counts = Counts()
    measure: str
    points: Points = Points()
    minimum_entries: Annotated[int, Field(ge=1)] = Field(
        1, description="A player with fewer entries that count has no score."
    )
    form: Annotated[Leaderboard | Challenge | Mission | DepositBonus, Field(discriminator="kind")]
    holdout: Holdout | None = Field(
        None, description="Players who never take part, to measure the effect on the others."
    )
    budget: Money | None = Field(
        None, description="Sum of all prizes at most; a prize that would exceed it is not paid."
    )

    @field_validator("tenant")
    @classmethod
    def _live(cls, tenant: str) -> str:
        if is_test(tenant):
            raise ValueError(f"{tenant} is a test tenant, and no campaign counts test events")
        return tenant

    _known = field_validator("measure")(known_measure)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self.check()
        return self

    def check(self) -> None:
        """Raises ``ValueError`` for parts that do not fit each other."""
        source = MEASURES[self.measure]
        for name in self.counts.model_fields_set:
            if source not in ONLY_FOR[name]:
                raise ValueError(
                    f"counts.{name} says nothing about {source}, which {self.measure} measures"
                )
        if self.points != Points() and self.measure not in ADDED:
            raise ValueError(f"points are for measures that add up, and {self.measure} does not")
        for multiplier in self.points.multipliers:
            for name in multiplier.model_fields_set & ONLY_FOR.keys():
                if source not in ONLY_FOR[name]:
                    raise ValueError(f"a multiplier's {name} says nothing about {source}")
        stages = self.form.stages if isinstance(self.form, Leaderboard) else []
        if stages and (stages[0].start < self.period.start or stages[-1].end > self.period.end):
            raise ValueError("a stage lies outside the period: widen the period, or move the stage")
        if isinstance(self.form, Leaderboard) and self.form.pool:
            if source not in (ROUNDS, DEPOSITS, SPORTS):
                raise ValueError(f"form.pool grows with amounts, and {source} have none")
            if self.counts.currency is None:
                raise ValueError("form.pool adds amounts: set counts.currency, like currency: EUR")
        if source == CUSTOM and self.counts.event is None:
            raise ValueError("counts.event is required: which custom events count?")
        if self.form.kind == "challenge" and self.measure == "net_loss":
            raise ValueError("a challenge cannot measure net_loss: it may fall again after a step")
        if self.form.kind == "deposit_bonus" and self.measure != "deposits":
            raise ValueError("a deposit_bonus measures deposits")

    @model_validator(mode="after")
    def _opens(self) -> Self:
        if not isinstance(self.form, Mission):
            return self
        if self.minimum_entries > 1:
            raise ValueError("minimum_entries says nothing about a mission: its steps have targets")
        for number, step in enumerate(self.form.steps, 1):
            try:
                self.of_step(step).check()
            except ValueError as error:
                raise ValueError(f"step {number} of the mission: {error}") from None
        return self

    def of_step(self, step: MissionStep) -> Self:
        """The challenge that one step of a mission is."""
        steps = [Step(target=step.target, prize=step.prize)]
        changed: dict[str, Any] = {"form": Challenge(kind="challenge", steps=steps)}
        changed |= {"counts": step.counts} if step.counts else {}
        changed |= {"measure": step.measure} if step.measure else {}
        return self.model_copy(update=changed)

    def until_stage(self, number: int) -> Self:
        """The tournament up to one of its stages, from 1. Raises ``DefinitionError`` if it has none."""
        stages = self.form.stages if isinstance(self.form, Leaderboard) else []
        if not 1 <= number <= len(stages):
            raise DefinitionError(f"{self.name} has {len(stages)} stages, and none is number {number}")
        form = self.form.model_copy(update={"stages": stages[:number]})
        return self.model_copy(update={"form": form})

    def measured(self) -> list[tuple[tuple[str | int, ...], Self]]:
        """The campaign, or that of each step of a mission, and where in the file it stands."""
        if not isinstance(self.form, Mission):
            return [((), self)]
        return [
            (("form", "steps", index) if step.counts else (), self.of_step(step))
            for index, step in enumerate(self.form.steps)
        ]

    @property
    def scored(self) -> str:
        """What the score is: the measure, or the steps of a mission."""
        return "steps" if isinstance(self.form, Mission) else self.measure

    @property
    def source(self) -> str:
        """The columns that the score is computed from."""
        return MEASURES[self.measure]

    @property
    def sha256(self) -> str:
        """A hash of the definition that does not depend on the layout of the file."""
        text = json.dumps(self.meant(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


# Files ---------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """A YAML loader: numbers with a point become ``Decimal``, times stay text, duplicate keys are
    errors.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if names.count(key.value) > 1:
                raise _Twice(key.value, key.start_mark.line + 1)
        return super().construct_mapping(node, deep)


class _Twice(Exception):
    """A key occurs twice in a mapping; :func:`load` turns this into a ``DefinitionError``."""

    def __init__(self, name: str, line: int) -> None:
        super().__init__(name)
        self.line = line


_Loader.yaml_implicit_resolvers = {
    first: [entry for entry in entries if entry[0] != "tag:yaml.org,2002:timestamp"]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor(
    "tag:yaml.org,2002:float",
    lambda loader, node: Decimal(node.value),
)


class Definition(NamedTuple):
    """A campaign and its file. If the file's period recurs, the campaign is one occurrence of it."""

    campaign: Campaign
    path: Path
    text: str
    recurrence: Recurrence | None = None
    name: str = ""
    """The name in the file, if its period recurs."""

    def occurrences(self, until: datetime) -> Iterator[Self]:
        """A definition for each occurrence that begins before a moment; this one if none recurs."""
        if self.recurrence is None:
            yield self
            return
        for occurrence in self.recurrence.until(self.name, until):
            yield self._replace(campaign=self.campaign.model_copy(update=occurrence._asdict()))

    def line(self, *where: str | int) -> int:
        """The line of a field in the file."""
        return _line_of(yaml.compose(self.text, _Loader), where)


def load(
    path: Path, changes: Mapping[str, str] | None = None, occurrence: datetime | None = None
) -> Definition:
    """The campaign in a file. Raises :class:`DefinitionError` with every mistake and its line.

    ``changes`` gives other values, in YAML, to fields that are named like ``form.prizes.0.amount``.
    Of a period that recurs, the campaign is the newest occurrence that has begun by the end of the
    local day ``occurrence``; by default the one that is running, or the first or last if none is.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{path}: cannot be read: {error}") from None
    document = _parsed(str(path), text)
    for name, value in (changes or {}).items():
        _change(document, name, _parsed(f"{name}={value}", value))
    period = document.get("period") if isinstance(document, dict) else None
    if isinstance(period, dict) and "every" in period:
        recurrence = _checked(Recurrence, period, path, text, "period")
        name = str(document.get("name", ""))
        chosen = _chosen(recurrence, name, occurrence, path, text)
        document["period"] = chosen.period.model_dump(mode="json", by_alias=True)
        if name:
            document["name"] = chosen.name
        return Definition(_checked(Campaign, document, path, text), path, text, recurrence, name)
    if occurrence is not None:
        raise DefinitionError(f"{path}: its period does not recur, so that it has no occurrences")
    return Definition(_checked(Campaign, document, path, text), path, text)


_Model = TypeVar("_Model", bound=Part)


def _checked(model: type[_Model], value: Any, path: Path, text: str, *at: str) -> _Model:
    """The part of a file at ``at``. Raises ``DefinitionError`` with every mistake and its line."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        root = yaml.compose(text, _Loader)
        places = [((*at, *entry["loc"]), _message(entry)) for entry in error.errors()]
        lines = [f"{path}:{_line_of(root, loc)}: {_name(loc)}{message}" for loc, message in places]
        raise DefinitionError("\n".join(dict.fromkeys(lines))) from None


def _chosen(
    recurrence: Recurrence, name: str, day: datetime | None, path: Path, text: str
) -> Occurrence:
    if len(name) > LONGEST_NAME:
        line = _line_of(yaml.compose(text, _Loader), ("name",))
        raise DefinitionError(
            f"{path}:{line}: name: the date of each occurrence is added to it, so that it has "
            f"{LONGEST_NAME} characters at most"
        )
    if day is None:
        return recurrence.at(name, datetime.now(UTC))
    found = recurrence.of(name, day)
    if found is None:
        last = f" and the last ends at {recurrence.end:%Y-%m-%dT%H:%M}" if recurrence.end else ""
        raise DefinitionError(
            f"{path}: it has no occurrence on {day:%Y-%m-%d}: the first begins at "
            f"{recurrence.start:%Y-%m-%dT%H:%M}{last}"
        )
    return found


def _parsed(source: str, text: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # derived from the safe loader
    except _Twice as twice:
        raise DefinitionError(f"{source}:{twice.line}: {twice} stands twice") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DefinitionError(f"{source}:{line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ArithmeticError) as error:
        raise DefinitionError(f"{source}: not YAML: {error}") from None


def _change(document: Any, name: str, value: Any) -> None:
    *way, last = name.split(".")
    node = document
    try:
        for part in way:
            node = node.setdefault(part, {}) if isinstance(node, dict) else node[int(part)]
        if isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value
    except (AttributeError, IndexError, TypeError, ValueError):
        raise DefinitionError(
            f"there is no field {name} to change: name a field like counts.minimum_bet, and an element "
            "of a list by its number from 0, like form.prizes.0.amount"
        ) from None


def _name(loc: tuple[str | int, ...]) -> str:
    kinds = ("leaderboard", "challenge", "mission", "deposit_bonus")
    parts = [str(part) for part in loc if part not in kinds]
    return f"{'.'.join(parts)}: " if parts else ""


def _message(entry: Any) -> str:
    if entry["type"] == "extra_forbidden":
        return "is not a field here"
    message: str = entry["msg"].removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def _line_of(root: yaml.Node | None, where: tuple[str | int, ...]) -> int:
    """The line of the deepest node on the way to ``where`` that exists."""
    line = root.start_mark.line + 1 if root else 1
    node = root
    for part in where:
        for key, value in _children(node):
            if key == part:
                node, line = value[1], value[0].start_mark.line + 1
                break
    return line


def _children(node: yaml.Node | None) -> Iterator[tuple[str | int, tuple[yaml.Node, yaml.Node]]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield str(key.value), (key, value)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield index, (value, value)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a definition, for editors."""
    schema = Campaign.model_json_schema(by_alias=True)
    schema["properties"]["measure"]["enum"] = list(MEASURES)
    recurring = Recurrence.model_json_schema(by_alias=True)
    schema["properties"]["period"] = {"anyOf": [schema["properties"]["period"], recurring]}
    return schema
