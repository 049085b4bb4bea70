"""A campaign as SQL: readable, one query, nothing computed outside ClickHouse.

Every query is a chain of named steps::

    merged              the players that are one person with others, and the person of each
    player, game        the newest facts of each person and game, of what was received until ``as_of``
    depositor, activity, newcomer, joined, member, opposed
                        what each person did that a campaign asks for, the team, and bets that cover
                        each other
    ever, entry         what may count: rounds, deposits, logins, custom events or sports bets; then
                        each with its person and, except for one person, only what lies in the period
    priced              the same, in the campaign's currency
    ruled, ranged       each with the rule that excludes it, '' for none
    worth               of those without: what each is worth
    progress            the score as it stood after each
    standing            the score of each person, and when it was reached; computed without progress
                        where the order of the entries cannot matter
    own_standing, member_standing, team_ranked
                        of a campaign with teams: the score of each person, the same with the team,
                        and the ranks of teams
    mission_1, …, stage_1, …
                        of a campaign in parts: who reached the step or stage, and when or how well;
                        each part is a chain of its own, whose steps end with its number
    won                 what is won on each rank or step, a constant
    ranked              rank, prize, and what the budget leaves of it

Everything is computed from what was received until ``as_of``, so that the same definition and ``as_of``
give the same result whenever it is asked. :mod:`.rounds` says how kept rows of rounds do so.

A person is one player, or the players of a tenant that are merged by their contacts. Its id is that of
one of its players, and results have it as ``player_id``. For a tenant of which no contact was received,
``merges=False`` gives the same results without the step ``merged``, which would take 0.1 s of planning.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from connectors.campaigns.model.counts import CUSTOM, DEPOSITS, LOGINS, ROUNDS, SPORTS
from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.model.forms import Challenge, Leaderboard, Mission
from connectors.campaigns.sql import missions, prizes, scores, sequences, stages, teams
from connectors.campaigns.sql.expressions import money, one_of, product
from connectors.campaigns.sql.facts import behaviour, joining, opposites
from connectors.campaigns.sql.rounds import rounds
from connectors.campaigns.sql.rules import ranged, ruled
from connectors.campaigns.sql.sources import custom_events, deposits, logins, sports_bets
from connectors.campaigns.sql.steps import (
    GAME,
    OWN_ID,
    PERSON,
    PLAYER,
    RATES,
    Events,
    Fact,
    Steps,
    chained,
    merged,
)
from connectors.clickhouse.literals import moment, quoted


def standings(campaign: Campaign, as_of: datetime, *, merges: bool = True) -> str:
    """A query with one row for each player with a score; its columns are those of a stored result as
    far as they differ between players, and ``pool``, the same in each row, if the prizes are shares of
    one.
    """
    if course := _course(campaign):
        steps = sequences.steps(course, _of(as_of, merges))
        return _standings(campaign, steps, [("standing", course.standing)])
    scored = [
        ("worth", scores.worth(campaign)),
        ("progress", scores.progress(campaign)),
        ("standing", scores.standing(campaign)),
    ]
    return _standings(campaign, _entries(campaign, as_of, merges), scored)


def _course(campaign: Campaign) -> sequences.Course | None:
    """The parts of a campaign that has several."""
    form = campaign.form
    if isinstance(form, Mission):
        return missions.course(campaign, form)
    if isinstance(form, Leaderboard) and form.stages:
        return stages.course(campaign, form)
    return None


def _of(as_of: datetime, merges: bool, only: Sequence[str] = ()) -> sequences.Entries:
    def entries(campaign: Campaign, facts: Sequence[Fact]) -> Steps:
        return _entries(campaign, as_of, merges, only, facts)

    return entries


def totals(campaign: Campaign, as_of: datetime, *, merges: bool = True) -> str | None:
    """The same standings without sorting the entries, and in the same pass what was left out: for each
    rule a row whose ``entries`` are their number, and whose ``left_out``, empty in all others, is the
    rule. None if the score depends on the order of the entries.

    If ``falls`` is true in any row, a player's score has fallen in between, and only
    :func:`standings` knows its highest value.
    """
    if in_order(campaign):
        return None
    entries = _entries(campaign, as_of, merges)
    scored = [("worth", scores.all_worth(campaign)), ("standing", scores.totals(campaign))]
    return _standings(campaign, entries, scored, TOTALS)


def in_order(campaign: Campaign) -> bool:
    """Whether the score depends on the order of the entries."""
    by_entry = campaign.measure == "wins_in_a_row" or campaign.points.in_order
    return by_entry or isinstance(campaign.form, Challenge) or _course(campaign) is not None


def columns(campaigns: Sequence[Campaign]) -> str:
    """The columns of results, from the step ``ranked``; without those that are the same in every row of
    these campaigns, zero or empty.
    """
    found = ["rank", "person_id AS player_id", "score", "reached_at", "entries", "prize"]
    if any(isinstance(each.form, Challenge | Mission) for each in campaigns):
        found.append("step")
    if any(each.budget is not None for each in campaigns):
        found.append("unpaid")
    if any(map(prizes.has_items, campaigns)):
        found += ["items", "items_cost"]
    if any(isinstance(each.form, Leaderboard) and each.form.stages for each in campaigns):
        found.append("stage")
    if any(map(teams.teams_of, campaigns)):
        found += ["team", "team_score"]
    if any(map(scores.has_pool, campaigns)):
        found.append("pool")
    return ", ".join(found)


TOTALS = ", rule AS left_out, falls"
"""More columns of :func:`totals`."""


def _standings(campaign: Campaign, entries: Steps, scored: Steps, more: str = "") -> str:
    steps = [*entries, *scored]
    if of := teams.teams_of(campaign):
        _, standing = steps.pop()
        steps += teams.steps(campaign, of, standing, bool(more))
    else:
        steps += prizes.steps(campaign)
    return (
        f"{chained(steps)}\nSELECT {columns([campaign])}{more}\nFROM ranked\nORDER BY rank, player_id"
    )


def explanation(
    campaign: Campaign, as_of: datetime, player_ids: Sequence[str], *, merges: bool = True
) -> str:
    """A query with one row for each entry of the players of a person, and the rule that excludes it; in
    stages of a tournament, whose places depend on everyone, only of the period.
    """
    course, mine = _course(campaign), f"\nWHERE {one_of('player_id', player_ids)}"
    everyone = course is not None and course.compares
    steps = _every(campaign, _of(as_of, merges, () if everyone else player_ids))
    counts, points = "'counts'", f"if(rule = '', {scores.value_of(campaign)}, {money(0)})"
    if course:
        counts, points = "concat(leg, 'counts')", "points"
    columns = (
        f"id, at, currency, amount, payout, rate, if(rule = '', {counts}, rule) AS verdict,\n"
        f"    player_id, {points} AS points"
    )
    whose = mine if everyone else ""
    return f"{chained(steps)}\nSELECT {columns}\nFROM ranged{whose}\nORDER BY at, id, verdict"


def steps_reached(
    campaign: Campaign, as_of: datetime, player_ids: Sequence[str], *, merges: bool = True
) -> str | None:
    """A query with one row for each step of a mission: the score of the players of a person in it, and
    when they reached its target, or null. None for a campaign that is no mission.
    """
    course = _course(campaign)
    if course is None or not isinstance(campaign.form, Mission):
        return None
    steps = sequences.steps(course, _of(as_of, merges, player_ids))
    return f"{chained(steps)}\nSELECT * FROM\n(\n{missions.reached(campaign.form)}\n)\nORDER BY step"


def left_out(campaign: Campaign, as_of: datetime, *, merges: bool = True) -> str:
    """A query that counts the entries of the period that each rule, in ``left_out``, excludes; the
    empty rule excludes none.
    """
    steps = _every(campaign, _of(as_of, merges))
    counted = "SELECT rule AS left_out, count() AS entries\nFROM ranged\nGROUP BY rule\nORDER BY rule"
    return f"{chained(steps)}\n{counted}"


def _every(campaign: Campaign, entries: sequences.Entries) -> Steps:
    """The steps up to each entry with its rule; of a campaign in parts, each entry in each part."""
    course = _course(campaign)
    return sequences.every_entry(course, entries) if course else entries(campaign, ())


def _entries(
    campaign: Campaign,
    as_of: datetime,
    merges: bool,
    only: Sequence[str] = (),
    facts: Sequence[Fact] = (),
) -> Steps:
    """The steps up to each entry with its rule; of the period, or of some players at any time.
    ``facts``: more to know of the players.
    """
    steps = priced(campaign, as_of, merges, None if only else campaign.period.utc(), only)
    events = _events(campaign, as_of, merges, only)
    known = [*behaviour(campaign, events), *joining(campaign, events), *facts]
    known += [*teams.membership(campaign, events), *opposites(campaign, events)]
    steps += [(fact.name, fact.text) for fact in known if fact.text]
    steps.append(("ruled", ruled(campaign, known)))
    steps.append(("ranged", ranged(campaign)))
    return steps


def _events(campaign: Campaign, as_of: datetime, merges: bool, only: Sequence[str]) -> Events:
    until = f"tenant = {quoted(campaign.tenant)} AND received_at <= {moment(as_of)}"
    mine = f"{until} AND {one_of('player_id', only)}" if only else until
    return Events(mine, PERSON if merges else "player_id AS person_id", as_of)


def priced(
    campaign: Campaign,
    as_of: datetime,
    merges: bool,
    within: tuple[datetime, datetime] | None,
    only: Sequence[str] = (),
) -> Steps:
    """The steps up to ``priced``, with those of players and games. ``within``: only the entries of this
    time, the end excluded; ``only``: of these players.
    """
    until, person, _ = _events(campaign, as_of, merges, only)
    steps = [merged(campaign, as_of)] if merges else []
    steps.append(("player", PLAYER.format(person=person, until=until)))
    if campaign.source == ROUNDS:
        everyone = _events(campaign, as_of, merges, ()).until
        steps.append(("game", GAME.format(until=everyone)))
    entry = f"SELECT *{f' REPLACE ({OWN_ID})' if merges else ''}, {person}\nFROM ever"
    if within:
        start, end = map(moment, within)
        entry += f"\nWHERE at >= {start} AND at < {end}"
    if campaign.source == ROUNDS:
        of = f" AND {one_of('player_id', only)}" if only else ""
        ever = rounds(campaign, as_of, within, of)
    else:
        ever = _SOURCES[campaign.source](campaign, until)
    steps += [("ever", ever), ("entry", entry)]
    if campaign.counts.currency:
        steps.append(("dated", "SELECT *, currency AS base, toDate(at) AS day\nFROM entry"))
        steps.append(
            ("price", RATES.format(quote=quoted(campaign.counts.currency), as_of=moment(as_of)))
        )
    steps.append(("priced", _priced(campaign)))
    return steps


_SOURCES: dict[str, Callable[[Campaign, str], str]] = {
    DEPOSITS: deposits,
    LOGINS: logins,
    CUSTOM: custom_events,
    SPORTS: sports_bets,
}


def _priced(campaign: Campaign) -> str:
    """The steps that convert amounts to the campaign's currency and keep the rate that was used."""
    currency = campaign.counts.currency
    if currency is None:
        return (
            "SELECT *, own_amount AS amount, own_payout AS payout,\n"
            f"    {money(1)} AS rate, true AS has_rate\nFROM entry"
        )

    def converted(column: str) -> str:
        return product(column, "rate")

    own = f"currency = {quoted(currency)}"
    return f"""
SELECT
    *,
    if({own}, {money(1)}, day_rate) AS rate,
    {own} OR known AS has_rate,
    {converted("own_amount")} AS amount,
    {converted("own_payout")} AS payout
FROM dated
ASOF LEFT JOIN price USING (base, day)"""
