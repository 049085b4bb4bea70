"""The steps of SQL for a mission: each of its steps is a query of its own, opened by the one before."""

from collections.abc import Callable, Sequence

from connectors.campaigns import scores
from connectors.campaigns.definition import Campaign
from connectors.campaigns.expressions import money
from connectors.campaigns.forms import Mission
from connectors.campaigns.steps import Fact, Rule, Steps, joined, numbered

Entries = Callable[[Campaign, Sequence[Fact]], Steps]
"""The steps up to each entry with its rule, of a campaign with more facts about its players."""


def steps(campaign: Campaign, mission: Mission, chain: Entries) -> Steps:
    """For each step of a mission, when each person with an entry reached it (null: not yet)."""
    chains = []
    for number, step in enumerate(mission.steps, 1):
        own = campaign.of_step(step)
        reached = (
            f"SELECT person_id, minOrNullIf(at, score >= {money(step.target)}) AS reached_at, "
            "count() AS entries\nFROM progress\nGROUP BY person_id"
        )
        scored = [("worth", scores.worth(own)), ("progress", scores.progress(own))]
        entries = chain(own, opened(number))
        chains.append(numbered([*entries, *scored, ("mission", reached)], number))
    return joined(chains)


def opened(number: int) -> list[Fact]:
    """When each person may begin a step."""
    if number == 1:
        return []
    text = (
        "SELECT person_id, assumeNotNull(reached_at) AS opened_at, true AS is_open\n"
        f"FROM {_name(number - 1)}\nWHERE isNotNull(reached_at)"
    )
    return [Fact("opened", text, [Rule("NOT is_open OR at <= opened_at", "before the step was open")])]


def standing(mission: Mission) -> str:
    """How many steps each person has reached, and when the last."""
    every = "\n    UNION ALL\n".join(
        f"    SELECT * FROM {_name(number)}" for number in range(1, len(mission.steps) + 1)
    )
    return f"""
SELECT
    person_id,
    countIf(isNotNull(mission.reached_at)) AS step,
    toDecimal128(step, 18) AS score,
    assumeNotNull(max(mission.reached_at)) AS reached_at,
    sum(mission.entries) AS entries,
    reached_at AS paid_at
FROM
(
{every}
) AS mission
GROUP BY person_id
HAVING step > 0"""


def entries(campaign: Campaign, mission: Mission, chain: Entries) -> Steps:
    """The steps up to each entry with its rule, of every step: the rule begins with the number of the
    step, which is also in ``step``.
    """
    every = "\nUNION ALL\n".join(
        f"SELECT {_COLUMNS}, 'step {number}: ' AS step,\n"
        "    if(ranged.rule = '', '', concat(step, ranged.rule)) AS rule\n"
        f"FROM ranged_{number} AS ranged"
        for number in range(1, len(mission.steps) + 1)
    )
    return [*steps(campaign, mission, chain), ("ranged", every)]


_COLUMNS = "id, at, toString(currency) AS currency, amount, payout, rate, player_id, person_id"


def _name(number: int) -> str:
    return f"mission_{number}"
