"""Campaigns in parts that follow one another: the steps of a mission, the stages of a tournament.

Each part is a chain of steps of its own, whose names end with its number, and lets players into the
next. ClickHouse evaluates a part again for each later one.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.sql.expressions import money
from connectors.campaigns.sql.scores import value_of
from connectors.campaigns.sql.steps import Fact, Steps, joined, numbered

Entries = Callable[[Campaign, Sequence[Fact]], Steps]
"""The steps up to each entry with its rule, of a campaign with more facts about its players."""


class Leg(NamedTuple):
    """One part: its campaign, what more must be known of players and entries, and the steps that
    follow ``ranged``.
    """

    campaign: Campaign
    facts: list[Fact]
    closing: Steps


class Course(NamedTuple):
    """All parts: what each is called, the text of the step ``standing`` over all of them, and whether
    players are let through by comparison with others.
    """

    label: str
    legs: list[Leg]
    standing: str
    compares: bool


def steps(course: Course, entries: Entries) -> Steps:
    """The steps of every part."""
    return joined(
        numbered([*entries(leg.campaign, leg.facts), *leg.closing], number)
        for number, leg in enumerate(course.legs, 1)
    )


def every_entry(course: Course, entries: Entries) -> Steps:
    """The steps up to each entry with its rule, in every part: the rule begins with the number of the
    part, which is also in ``leg``.
    """
    every = "\nUNION ALL\n".join(
        f"SELECT {_COLUMNS}, '{course.label} {number}: ' AS leg,\n"
        "    if(ranged.rule = '', '', concat(leg, ranged.rule)) AS rule,\n"
        f"    if(ranged.rule = '', {value_of(leg.campaign)}, {money(0)}) AS points\n"
        f"FROM ranged_{number} AS ranged"
        for number, leg in enumerate(course.legs, 1)
    )
    return [*steps(course, entries), ("ranged", every)]


_COLUMNS = "id, at, toString(currency) AS currency, amount, payout, rate, player_id, person_id"


def united(name: str, legs: int) -> str:
    """The rows of a step of every part."""
    return "\n    UNION ALL\n".join(f"    SELECT * FROM {name}_{n}" for n in range(1, legs + 1))
