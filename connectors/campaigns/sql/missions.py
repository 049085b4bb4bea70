"""Missions in SQL: an entry counts for a step if it is later than what reached the step before."""

from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.model.forms import Mission
from connectors.campaigns.sql import scores
from connectors.campaigns.sql.expressions import money
from connectors.campaigns.sql.sequences import Course, Leg, united
from connectors.campaigns.sql.steps import Fact, Rule


def course(campaign: Campaign, mission: Mission) -> Course:
    """The steps of a mission. Each ends with when each person with an entry reached it, or null."""
    legs = []
    for number, step in enumerate(mission.steps, 1):
        own = campaign.of_step(step)
        ended = (
            f"SELECT person_id, minOrNullIf(at, score >= {money(step.target)}) AS reached_at, "
            "count() AS entries\nFROM progress\nGROUP BY person_id"
        )
        scored = [("worth", scores.worth(own)), ("progress", scores.progress(own))]
        legs.append(Leg(own, _opened(number), [*scored, ("mission", ended)]))
    return Course("step", legs, _standing(len(legs)), compares=False)


def reached(mission: Mission) -> str:
    """The end of a query with one row for each step: how far the players of one person are."""
    return "\nUNION ALL\n".join(
        f"SELECT {number} AS step, max(progress_{number}.score) AS score,\n"
        f"    minOrNullIf(at, progress_{number}.score >= {money(step.target)}) AS reached_at\n"
        f"FROM progress_{number}"
        for number, step in enumerate(mission.steps, 1)
    )


def _opened(number: int) -> list[Fact]:
    """When each person may begin a step."""
    if number == 1:
        return []
    text = (
        "SELECT person_id, assumeNotNull(reached_at) AS opened_at, true AS is_open\n"
        f"FROM mission_{number - 1}\nWHERE isNotNull(reached_at)"
    )
    return [Fact("opened", text, [Rule("NOT is_open OR at <= opened_at", "before the step was open")])]


def _standing(steps: int) -> str:
    """How many steps each person has reached, and when the last."""
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
{united("mission", steps)}
) AS mission
GROUP BY person_id
HAVING step > 0"""
