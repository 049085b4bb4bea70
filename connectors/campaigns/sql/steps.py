"""The chain of named steps that a campaign's SQL is, and the steps that several queries share."""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from connectors.campaigns.model.definition import Campaign
from connectors.clickhouse.literals import instant, quoted


class Events(NamedTuple):
    """The events that steps read: a condition in SQL, the person of each, and until when they were
    received.
    """

    until: str
    person: str
    as_of: datetime


class Rule(NamedTuple):
    """A condition in SQL that excludes an entry or a player, and its name."""

    excludes: str
    name: str


class Fact(NamedTuple):
    """A step with one row for each ``key`` (persons, or entries of persons), and the rules over its
    columns. Without a text, its rules are about the entries alone.
    """

    name: str
    text: str
    rules: list[Rule]
    key: str = "person_id"


Steps = list[tuple[str, str]]
"""Names and texts of steps."""


MERGED = "merged"
"""The one step that is a value, two arrays, and not a table: a player is looked up without a join."""

PERSON = f"transform(player_id, {MERGED}.1, {MERGED}.2, player_id) AS person_id"
OWN_ID = "if(player_id = person_id, id, concat(id, '|', player_id)) AS id"
"""Two players of a person may have used the same id."""


def chained(steps: Steps, once: str = "") -> str:
    """The named steps as the beginning of a query. ``once``: a step that several others read, and that
    ClickHouse computes once.
    """
    parts = []
    for name, text in steps:
        inner = f"(\n{_indented(text)}\n)"
        kept = " MATERIALIZED" if name == once else ""
        parts.append(f"{inner} AS {name}" if name == MERGED else f"{name} AS{kept}\n{inner}")
    return "WITH\n" + ",\n".join(parts)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else line for line in text.strip().splitlines())


def merged(campaign: Campaign, as_of: datetime) -> tuple[str, str]:
    """The step that :data:`PERSON` needs."""
    of = f"tenant = {quoted(campaign.tenant)}, as_of = {quoted(instant(as_of))}"
    text = f"SELECT (groupArray(player_id), groupArray(person_id))\nFROM merged_players_at({of})"
    return MERGED, text


NEWEST = "(occurred_at, source_event, event_id)"


def _newest(column: str, when: str | None = None) -> str:
    return f"argMaxIf({column}, {NEWEST}, {when or f'isNotNull({column})'}) AS newest_{column}"


PLAYER = (
    "SELECT\n    {person},\n"
    + ",\n".join(
        f"    {_newest(column, when)}"
        for column, when in (
            ("country", None),
            ("affiliate", None),
            ("registered_at", None),
            ("consent_email", None),
            ("is_blocked", None),
            ("is_promo_banned", None),
            ("tags", "has_tags"),
        )
    )
    + "\nFROM player_events_rows FINAL\nWHERE {until}\nGROUP BY person_id"
)
GAME = (
    "SELECT\n    game_id,\n"
    + ",\n".join(
        f"    {_newest(column, when)}"
        for column, when in (
            ("provider", None),
            ("categories", "has_categories"),
            ("features", "has_features"),
        )
    )
    + "\nFROM game_events_rows FINAL\nWHERE {until}\nGROUP BY game_id"
)
RATES = """SELECT base, day, argMax(rate, imported_at) AS day_rate, true AS known
FROM rates FINAL
WHERE quote = {quote} AND imported_at <= {as_of}
GROUP BY base, day"""


SHARED = (MERGED, "player")
"""Steps that are the same in every chain of a query."""


def numbered(chain: Steps, number: int) -> Steps:
    """A chain whose steps, but for :data:`SHARED`, have a number after their names, so that a query may
    have several: ClickHouse does not find a step from within one of the same name.
    """
    names = "|".join(re.escape(name) for name, _ in chain if name not in SHARED)
    literal = r"'(?:[^'\\]|\\.)*'"
    found = re.compile(rf"{literal}|(\b(?:FROM|JOIN)\s+(?:{names})\b)|(\b(?:{names})(?=\.))")

    def renamed(match: re.Match[str]) -> str:
        return f"{match[0]}_{number}" if match[1] or match[2] else match[0]

    return [
        (name if name in SHARED else f"{name}_{number}", found.sub(renamed, text))
        for name, text in chain
    ]


def joined(chains: Iterable[Steps]) -> Steps:
    """Chains as one, with the steps that they share once."""
    found: dict[str, str] = {}
    for chain in chains:
        for name, text in chain:
            assert found.setdefault(name, text) == text, f"two steps are called {name}"
    return list(found.items())
