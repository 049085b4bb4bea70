"""What the form of a campaign adds to its standings, as plain JSON values: stages and their cuts,
teams, steps, and what became of the prizes.

All of it follows from a result in memory. Only the scores of an earlier stage of a tournament do not:
the standings have each player in the last stage with a score. :class:`Stages` evaluates one when it is
asked for.
"""

from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from typing import Any, NamedTuple

import polars
from cachetools import TTLCache

from connectors.campaigns.evaluation import Result, evaluate
from connectors.campaigns.live import Snapshot
from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.model.forms import Challenge, DepositBonus, Leaderboard, Mission
from connectors.campaigns.sql.expressions import plain
from connectors.campaigns.sql.teams import teams_of
from connectors.campaigns.standings import HAS_PRIZE
from streams.settings import Settings

_STAGE_HOLDS_S = 60.0
"""An earlier stage changes by late events alone: its places are kept so long."""

_STAGES_KEPT = 8


class Placed(NamedTuple):
    """The players with a score in a stage by their place, of whom the first ``going_on`` go on."""

    as_of: datetime
    frame: polars.DataFrame
    going_on: int


class Stages:
    """The standings of each stage of tournaments; its caller asks for one at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kept: TTLCache[str, Placed] = TTLCache(_STAGES_KEPT, _STAGE_HOLDS_S)
        """By the hash of the tournament up to the stage."""

    def placed(self, campaign: Campaign, number: int, snapshot: Snapshot) -> Placed:
        """The places in a stage, from 1. Raises ``DefinitionError`` if there is no such stage."""
        until = campaign.until_stage(number)
        frame = snapshot.result.standings.frame
        if frame.is_empty() or number >= _newest(frame):
            return _placed(campaign, number, snapshot.result)
        known = self._kept.get(until.sha256)
        if known is None:
            result = evaluate(self._settings, until, snapshot.result.as_of, threads=1)
            known = self._kept[until.sha256] = _placed(campaign, number, result)
        return known


def _best_first(frame: polars.DataFrame) -> polars.DataFrame:
    """Players by their place, which is in ``place``: the order of the SQL of stages and of teams."""
    ordered = frame.sort("score", "reached_at", "player_id", descending=[True, False, False])
    return ordered.with_row_index("place", 1)


def _newest(frame: polars.DataFrame) -> int:
    """The last stage in which anybody has a score."""
    return int(frame.select(polars.col("stage").max()).item())


def _placed(campaign: Campaign, number: int, result: Result) -> Placed:
    """Of a result in which nobody has come further than the stage."""
    assert isinstance(campaign.form, Leaderboard)
    frame = _in_stage(result.standings.frame, number)
    return Placed(result.as_of, frame, campaign.form.stages[number - 1].going_on(frame.height))


def _in_stage(frame: polars.DataFrame, number: int) -> polars.DataFrame:
    """The players whose last stage it is, the best first, with their place among them."""
    rows = frame.filter(polars.col("stage") == number)
    return _best_first(rows.select("player_id", "score", "entries", "reached_at"))


def state_of(start: datetime, end: datetime, at: datetime) -> str:
    """Whether a period is to come, runs, or is over."""
    if at < start:
        return "to come"
    return "running" if at < end else "over"


def stages(campaign: Campaign, result: Result) -> list[dict[str, Any]]:
    """Each stage: its time, how many have a score in it and how many of them go on, and the cut.

    ``last_in`` and ``first_out`` are the scores on both sides of the cut. Of an earlier stage the first
    is None here: it may be that of a player who has a later score since.
    """
    form = campaign.form
    if not isinstance(form, Leaderboard):
        return []
    found = []
    for number, stage in enumerate(form.stages, 1):
        start, end = campaign.period.between(stage.start, stage.end)
        further = int((result.standings.frame["stage"] > number).sum())
        scores = _in_stage(result.standings.frame, number)["score"]
        going_on = stage.going_on(further + len(scores))
        inside = going_on - further
        found.append(
            {
                "number": number,
                "from": start.isoformat(),
                "to": end.isoformat(),
                "best": stage.best,
                "percent": None if stage.percent is None else plain(stage.percent),
                "players": further + len(scores),
                "going_on": going_on,
                "last_in": plain(scores[inside - 1]) if inside and not further else None,
                "first_out": plain(scores[inside]) if going_on and inside < len(scores) else None,
            }
        )
    return found


def stage_rows(placed: Placed, offset: int, limit: int, search: str) -> list[dict[str, Any]]:
    """A page of a stage, or the first players whose id has a text."""
    rows = page(placed.frame, "player_id", offset, limit, search)
    return [
        {
            "place": row["place"],
            "player": row["player_id"],
            "score": plain(row["score"]),
            "entries": row["entries"],
            "goes_on": row["place"] <= placed.going_on,
        }
        for row in rows.iter_rows(named=True)
    ]


def teams(result: Result) -> polars.DataFrame:
    """One row a team, by rank."""
    return result.standings.frame.group_by("team", maintain_order=True).agg(
        polars.col("rank", "team_score").first(),
        polars.len().alias("players"),
        polars.col("prize", "unpaid").sum(),
        polars.col("prize").first().alias("each"),
    )


def team_rows(
    now: polars.DataFrame, before: polars.DataFrame | None, offset: int, limit: int, search: str
) -> list[dict[str, Any]]:
    """A page of teams, or the first whose name has a text."""
    ranks = dict(before.select("team", "rank").iter_rows()) if before is not None else {}
    return [
        {
            "rank": row["rank"],
            "rank_before": ranks.get(row["team"]),
            "team": row["team"],
            "score": plain(row["team_score"]),
            "players": row["players"],
            "prize": plain(row["prize"]),
            "each": plain(row["each"]),
            "unpaid": plain(row["unpaid"]),
        }
        for row in page(now, "team", offset, limit, search).iter_rows(named=True)
    ]


def members(campaign: Campaign, result: Result, team: str, offset: int, limit: int) -> dict[str, Any]:
    """A page of the players of a team, the best first; ``scores``: its score is made of theirs."""
    of = teams_of(campaign)
    best = of.best if of else None
    rows = _best_first(result.standings.frame.filter(polars.col("team") == team))
    return {
        "team": team,
        "players": rows.height,
        "rows": [
            {
                "place": row["place"],
                "player": row["player_id"],
                "score": plain(row["score"]),
                "entries": row["entries"],
                "prize": plain(row["prize"]),
                "scores": best is None or row["place"] <= best,
            }
            for row in rows.slice(offset, limit).iter_rows(named=True)
        ],
    }


def page(rows: polars.DataFrame, name: str, offset: int, limit: int, search: str) -> polars.DataFrame:
    """The rows from an offset on, or the first whose column ``name`` has the text ``search``."""
    if search:
        return rows.filter(polars.col(name).str.contains(search, literal=True)).head(limit)
    return rows.slice(offset, limit)


def step_terms(campaign: Campaign) -> list[dict[str, Any]]:
    """The steps of a challenge or mission: target, measure, and prize."""
    form = campaign.form
    if not isinstance(form, Challenge | Mission):
        return []
    owns = [campaign.of_step(step) for step in form.steps] if isinstance(form, Mission) else []
    measures = [own.measure for own in owns] or [campaign.measure] * len(form.steps)
    return [
        {
            "number": number,
            "target": plain(step.target),
            "measure": measure.replace("_", " "),
            "prize": plain(step.prize),
            "item": step.item.text if step.item else "",
        }
        for number, (step, measure) in enumerate(zip(form.steps, measures, strict=True), 1)
    ]


def steps(campaign: Campaign, result: Result) -> list[dict[str, Any]]:
    """The same with the players who reached each step, and of those the ones who got a prize."""
    frame = result.standings.frame
    sides = {"reached": frame, "given": frame.filter(HAS_PRIZE)}
    counts = {name: dict(of.group_by("step").len().iter_rows()) for name, of in sides.items()}
    return [
        terms
        | {
            name: sum(players for step, players in each.items() if step >= terms["number"])
            for name, each in counts.items()
        }
        for terms in step_terms(campaign)
    ]


def prizes(campaign: Campaign, result: Result) -> dict[str, Any]:
    """What is given in money and items, the budget and what is unpaid, the pool, the prizes by rank."""
    standings, budget, form = result.standings, campaign.budget, campaign.form
    return {
        "money": plain(standings.money),
        "items_cost": plain(standings.cost - standings.money),
        "spent": plain(standings.cost),
        "budget": None if budget is None else plain(budget),
        "left": None if budget is None else plain(budget - standings.cost),
        "unpaid": plain(standings.unpaid),
        "beyond": _beyond(campaign, standings.frame) if budget is not None else 0,
        "pool": _pool(form, result.pool) if isinstance(form, Leaderboard) else None,
        "ranks": _ranks(campaign, result) if isinstance(form, Leaderboard) else [],
        "bonus": {"percent": plain(form.percent), "cap": plain(form.cap)}
        if isinstance(form, DepositBonus)
        else None,
    }


def _pool(form: Leaderboard, size: Decimal | None) -> dict[str, Any] | None:
    """The pool, and what it depends on."""
    pool = form.pool
    if pool is None or size is None:
        return None
    return {
        "now": plain(size),
        "base": plain(pool.base),
        "percent": plain(pool.percent),
        "cap": None if pool.cap is None else plain(pool.cap),
        "is_full": pool.cap is not None and size >= pool.cap,
    }


def _ranks(campaign: Campaign, result: Result) -> list[dict[str, Any]]:
    """The prizes of a leaderboard: what each rank gets, and how many players got it. The prize of a
    team is what all of its players get together.
    """
    form = campaign.form
    assert isinstance(form, Leaderboard)
    won = result.standings.frame.filter(HAS_PRIZE)
    found = []
    for prize in form.prizes:
        first, last = prize.span()
        amount = prize.amount
        if prize.share is not None and result.pool is not None:
            amount = (result.pool * prize.share / 100).quantize(Decimal("0.01"), ROUND_DOWN)
        found.append(
            {
                "ranks": prize.ranks,
                "each": plain(amount),
                "share": None if prize.share is None else plain(prize.share),
                "item": prize.item.text if prize.item else "",
                "item_cost": plain(prize.item.worth) if prize.item else "0",
                "given": won.filter(polars.col("rank").is_between(first, last)).height,
            }
        )
    return found


def _beyond(campaign: Campaign, frame: polars.DataFrame) -> int:
    """How many players the budget leaves without the prize that they have earned."""
    lacks = frame.filter(~HAS_PRIZE)
    unpaid = lacks.filter(polars.col("unpaid") != 0).height
    rest = lacks.filter(polars.col("unpaid") == 0)
    form = campaign.form
    if isinstance(form, Leaderboard):
        spans = [prize.span() for prize in form.prizes if prize.item]
        due = [polars.col("rank").is_between(*span) for span in spans]
        return unpaid + (rest.filter(polars.any_horizontal(due)).height if due else 0)
    if isinstance(form, Challenge | Mission):
        first = next((number for number, step in enumerate(form.steps, 1) if step.item), None)
        return unpaid + (rest.filter(polars.col("step") >= first).height if first else 0)
    return unpaid


def of_form(campaign: Campaign, snapshot: Snapshot) -> dict[str, Any]:
    """All of it, without rows of players or teams."""
    return {
        "stages": stages(campaign, snapshot.result),
        "has_teams": teams_of(campaign) is not None,
        "steps": steps(campaign, snapshot.result),
        "prizes": prizes(campaign, snapshot.result),
    }
