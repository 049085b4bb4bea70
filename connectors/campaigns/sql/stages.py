"""Tournaments in SQL: only the best of a stage go on to the next."""

from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.model.forms import Leaderboard, Stage
from connectors.campaigns.sql import scores
from connectors.campaigns.sql.expressions import money
from connectors.campaigns.sql.sequences import Course, Leg, united
from connectors.campaigns.sql.steps import Fact, Rule
from connectors.clickhouse.literals import moment


def course(campaign: Campaign, form: Leaderboard) -> Course:
    """The stages of a tournament. Each ends with the place of each person with a score."""
    own = campaign.model_copy(update={"form": form.model_copy(update={"stages": []})})
    legs = []
    for number, _ in enumerate(form.stages, 1):
        placed = (
            f"SELECT person_id, score, reached_at, entries, {number} AS stage,\n"
            "    row_number() OVER (ORDER BY score DESC, reached_at, person_id) AS place,\n"
            "    count() OVER () AS placed\nFROM standing"
        )
        closing = [
            ("worth", scores.worth(own)),
            ("progress", scores.progress(own)),
            ("standing", scores.standing(own)),
            ("stage", placed),
        ]
        legs.append(Leg(own, [_window(campaign, form, number), *_gone_on(form, number)], closing))
    return Course("stage", legs, _standing(len(legs)), compares=True)


def _window(campaign: Campaign, form: Leaderboard, number: int) -> Fact:
    """Whether an entry lies in a stage, or in one before if scores are carried over."""
    counted = form.stages[:number] if form.carry_over else [form.stages[number - 1]]
    inside = " OR ".join(
        "(at >= {} AND at < {})".format(*map(moment, campaign.period.between(stage.start, stage.end)))
        for stage in counted
    )
    return Fact("", "", [Rule(f"NOT ({inside})", "outside the stage")], "at")


def _gone_on(form: Leaderboard, number: int) -> list[Fact]:
    """Who may take part in a stage."""
    if number == 1:
        return []
    before = form.stages[number - 2]
    text = f"SELECT person_id, true AS has_gone_on\nFROM stage_{number - 1}\nWHERE {is_through(before)}"
    return [Fact("gone_on", text, [Rule("NOT has_gone_on", "player: did not go on")])]


def is_through(stage: Stage) -> str:
    """Whether a player goes on, by the columns ``place`` and ``placed``; as :meth:`Stage.going_on`."""
    if stage.best is not None:
        return f"place <= {stage.best}"
    assert stage.percent is not None
    return f"place = 1 OR toDecimal256(place * 100, 18) <= placed * {money(stage.percent)}"


def _standing(stages: int) -> str:
    """Each person as in the last stage in which the person has a score."""
    return f"""
SELECT
    person_id,
    argMax(leg.score, leg.stage) AS score,
    argMax(leg.reached_at, leg.stage) AS reached_at,
    argMax(leg.entries, leg.stage) AS entries,
    max(leg.stage) AS stage,
    0 AS step,
    reached_at AS paid_at
FROM
(
{united("stage", stages)}
) AS leg
GROUP BY person_id"""
