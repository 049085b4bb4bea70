"""Several campaigns in one query, which reads their entries once.

The steps up to ``priced`` are those of :mod:`.compiler`, over a period that contains all of theirs.
Then::

    about       each game, and which campaigns are about it
    pair        each entry once for each campaign that is about its time and game, with the campaign's
                number from 1; and once with a negative number, the part of time that it lies in
    judged      each pair with the rule of its campaign that excludes it, '' for none, and its worth
    total       the standings of each campaign, and the number of entries that each rule excludes; of
                a part of time, the number of entries by game
    won         what is won on each rank, a constant, by the number of the campaign
    standing_1, ranked_1, …
                those of the campaigns whose prizes differ in amounts alone

A rule about the game comes before all others, so what it excludes is counted by game alone. The results
are those of :func:`.compiler.totals` for each campaign.
"""

from collections.abc import Callable, Hashable, Sequence
from datetime import datetime

from connectors.campaigns.model.counts import LOGINS, ROUNDS
from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.sql import scores, teams
from connectors.campaigns.sql.compiler import TOTALS, columns, in_order, priced
from connectors.campaigns.sql.expressions import money
from connectors.campaigns.sql.prizes import WON, ranked, won
from connectors.campaigns.sql.rules import entry_rules, first_of, game_rules, player_rules
from connectors.campaigns.sql.steps import chained, numbered
from connectors.clickhouse.literals import moment, quoted


def shared(campaign: Campaign) -> Hashable | None:
    """Campaigns of which this is equal may be in one query; None for one that must have its own."""
    wanted, counts = campaign.eligible, campaign.counts
    asks_more = (
        campaign.opt_in
        or wanted.deposited
        or wanted.lapsed
        or wanted.first_deposit_in_period
        or counts.exclude_opposite_bets
        or counts.first
        or campaign.source == LOGINS
        or teams.teams_of(campaign)
    )
    if asks_more or in_order(campaign):
        return None
    totals = scores.totals_columns(campaign), scores.has_total(campaign)
    return campaign.tenant, campaign.source, counts.money, counts.currency, counts.event, totals


def totals(campaigns: Sequence[Campaign], as_of: datetime, *, merges: bool, once: bool) -> str:
    """The rows of :func:`.compiler.totals` of several campaigns, whose :func:`shared` is equal; the
    number of each, from 1, is in ``campaign``. ``once``: the step ``total`` is marked to be computed
    once, which ClickHouse before 26.3 cannot; otherwise each step that reads it computes it.
    """
    first = campaigns[0]
    periods = [campaign.period.utc() for campaign in campaigns]
    within = min(start for start, _ in periods), max(end for _, end in periods)
    steps = [
        *priced(first, as_of, merges, within),
        *([("about", _about(campaigns))] if first.source == ROUNDS else []),
        ("pair", _pair(campaigns)),
        ("judged", _judged(campaigns)),
        ("total", _total(campaigns)),
    ]
    if table := won(campaigns, several=True):
        steps.append((WON, table))
    shown = columns(campaigns)
    rows = [_of_other_games(campaigns, shown)] if any(map(game_rules, campaigns)) else []
    forms = _alike(campaigns, lambda each: ranked(each, campaigns))
    for index, (text, alike) in enumerate(forms.items(), 1):
        own = f"SELECT *\nFROM total\nWHERE number IN ({alike})"
        steps += numbered([("standing", own), ("ranked", text)], index)
        rows.append(f"SELECT number AS campaign, {shown}{TOTALS}\nFROM ranked_{index}")
    every = "\nUNION ALL\n".join(rows)
    return (
        f"{chained(steps, once='total' if once else '')}\nSELECT *\nFROM\n(\n{every}\n)\n"
        "ORDER BY campaign, rank, player_id"
    )


def _alike(campaigns: Sequence[Campaign], expression: Callable[[Campaign], str]) -> dict[str, str]:
    """The numbers of the campaigns of which an expression is the same, by the expression."""
    found: dict[str, list[str]] = {}
    for number, campaign in enumerate(campaigns, 1):
        found.setdefault(expression(campaign), []).append(str(number))
    return {text: ", ".join(numbers) for text, numbers in found.items()}


def _about(campaigns: Sequence[Campaign]) -> str:
    """Each game, with the numbers of the campaigns that are about it. One that is not here is a game of
    the campaigns that have no rule about games.
    """
    listed = sorted({name for campaign in campaigns for name in campaign.counts.games or ()})
    games = "SELECT game_id FROM game"
    if listed:
        games = (
            f"SELECT arrayJoin([{', '.join(map(quoted, listed))}]) AS game_id\nUNION DISTINCT\n{games}"
        )
    numbers = ",\n        ".join(
        f"if({first_of(game_rules(campaign))} = '', {number}, 0)"
        for number, campaign in enumerate(campaigns, 1)
    )
    return f"""
SELECT
    *,
    true AS is_known,
    arrayFilter(x -> x != 0, [
        {numbers}
    ]) AS numbers
FROM
(
{games}
) AS listed
LEFT JOIN game USING (game_id)"""


def _pair(campaigns: Sequence[Campaign]) -> str:
    every = [str(number) for number, each in enumerate(campaigns, 1) if not game_rules(each)]
    numbers, games = f"CAST([{', '.join(every)}], 'Array(Int32)')", ""
    if campaigns[0].source == ROUNDS:
        numbers = f"if(is_known, CAST(numbers, 'Array(Int32)'), {numbers})"
        games = "\nLEFT JOIN about USING (game_id)"
    periods = [campaign.period.utc() for campaign in campaigns]
    if len(set(periods)) > 1:
        start, end = (", ".join(map(moment, bounds)) for bounds in zip(*periods, strict=True))
        numbers = f"arrayFilter(x -> at >= [{start}][x] AND at < [{end}][x], {numbers})"
    if any(map(game_rules, campaigns)):
        numbers = f"arrayPushBack({numbers}, -({_part(campaigns)}))"
    return f"""
SELECT *, arrayJoin({numbers}) AS number
FROM priced
LEFT JOIN player USING (person_id){games}"""


def _bounds(campaigns: Sequence[Campaign]) -> list[datetime]:
    """The times that divide the time of all campaigns into parts, which are numbered from 1."""
    return sorted({at for campaign in campaigns for at in campaign.period.utc()})


def _part(campaigns: Sequence[Campaign]) -> str:
    """The number of the part of time that an entry lies in."""
    _, *later = _bounds(campaigns)
    return " + ".join(["1", *(f"(at >= {moment(bound)})" for bound in later)])


def _judged(campaigns: Sequence[Campaign]) -> str:
    """Each pair with its rule and worth. ``holder``: the person, if no rule excludes the entry; of a
    part of time, the game."""

    def rule(campaign: Campaign) -> str:
        return first_of([*player_rules(campaign), *entry_rules(campaign)])

    counted = "number < 0, toString(game_id), " if campaigns[0].source == ROUNDS else ""
    pool = ", amount" if any(map(scores.has_pool, campaigns)) else ""
    return f"""
SELECT
    number,
    if(number < 0, '', {_by_number(campaigns, rule)}) AS rule,
    multiIf({counted}rule = '', person_id, '') AS holder,
    at,
    if(number > 0 AND rule = '', {_by_number(campaigns, scores.value_of)}, {money(0)}) AS value
    {pool}{_of_game(campaigns, "newest_{0}")}
FROM pair"""


def _by_number(campaigns: Sequence[Campaign], expression: Callable[[Campaign], str]) -> str:
    """An expression of each campaign, by its number; once for all that have the same."""
    *others, (last, _) = _alike(campaigns, expression).items()
    cases = "".join(f"number IN ({numbers}), {text}, " for text, numbers in others)
    return f"multiIf({cases}{last})" if cases else last


def _of_game(campaigns: Sequence[Campaign], text: str) -> str:
    """What must be known of a game for the rules about it, as columns."""
    rules = [rule.excludes for campaign in campaigns for rule in game_rules(campaign)]
    names = ("provider", "categories", "features")
    wanted = [name for name in names if any(f"newest_{name}" in rule for rule in rules)]
    return "".join(f", {text.format(name)}" for name in wanted)


def _total(campaigns: Sequence[Campaign]) -> str:
    return f"""
SELECT
    number,
    holder AS person_id,
    rule,
    {scores.totals_columns(campaigns[0])}{_of_game(campaigns, "any(newest_{0}) AS newest_{0}")}
FROM judged
GROUP BY number, holder, rule
HAVING number < 0 OR rule != '' OR {scores.has_total(campaigns[0])}"""


def _of_other_games(campaigns: Sequence[Campaign], shown: str) -> str:
    """Rows with the number of entries that each rule about the game excludes from each campaign."""
    bounds, judged = _bounds(campaigns), []
    for number, campaign in enumerate(campaigns, 1):
        if rules := game_rules(campaign):
            start, end = (bounds.index(at) + 1 for at in campaign.period.utc())
            lies = f"number BETWEEN {1 - end} AND {-start}"
            judged.append(f"({number}, if({lies}, {first_of(rules)}, ''))")
    zero, none = money(0), {"rank": "0", "player_id": "''", "items": "''", "step": "0"}
    values = none | {"reached_at": "min(reached_at)", "entries": "sum(entries)"}
    names = [name.split(" AS ")[-1] for name in shown.split(", ")]
    row = ", ".join(f"{values.get(name, zero)} AS {name}" for name in names)
    listed = ",\n        ".join(judged)
    return f"""
SELECT verdict.1 AS campaign, {row}, verdict.2 AS left_out, false AS falls
FROM
(
    SELECT reached_at, entries, arrayJoin([
        {listed}
    ]) AS verdict
    FROM (SELECT * EXCEPT person_id, person_id AS game_id FROM total WHERE number < 0)
)
WHERE left_out != ''
GROUP BY campaign, left_out"""
