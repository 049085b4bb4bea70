"""Evaluates campaigns: standings, backtests, comparisons, explanations.

The live standings and a backtest are the same query over the events that were received until a
moment, so a live result and a later backtest ``as_of`` the same moment are equal.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

import polars

from connectors.campaigns.model.definition import Campaign, Definition
from connectors.campaigns.model.forms import Leaderboard
from connectors.campaigns.model.parts import Period
from connectors.campaigns.sql import compiler, together
from connectors.campaigns.sql.teams import teams_of
from connectors.campaigns.standings import Standings
from connectors.clickhouse.client import is_embedded
from connectors.clickhouse.literals import moment, quoted
from connectors.clickhouse.query import query_frame, query_rows
from connectors.player.merging import Person, has_contacts, persons
from streams.errors import ConfigurationError
from streams.settings import Settings


class Result(NamedTuple):
    """An evaluation. ``unsettled``: items received until ``as_of`` that have no outcome yet; ``pool``:
    what is in the pool that prizes are shares of, None without one.
    """

    campaign: Campaign
    as_of: datetime
    unsettled: int
    standings: Standings
    left_out: dict[str, int]
    pool: Decimal | None = None

    @property
    def cost(self) -> Decimal:
        """The sum of all paid prizes, and of what items cost."""
        return self.standings.cost


class Entry(NamedTuple):
    """An entry of a person: a round, deposit, … . ``verdict`` is ``counts`` or the rule that excludes
    it; ``player_id`` is the player that it was posted with. ``points``: what it is worth if it counts,
    before the limits of a day and of a player.
    """

    id: str
    at: datetime
    currency: str
    amount: Decimal
    payout: Decimal
    rate: Decimal
    verdict: str
    player_id: str
    points: Decimal = Decimal(0)


class Reached(NamedTuple):
    """How far a player is in a step of a mission; ``at``: when it reached the target, if it has."""

    score: Decimal
    at: datetime | None


class Explanation(NamedTuple):
    """What could have counted of a player; ``person``: whom it is merged with, if it is; ``steps``: of
    a mission, how far it is in each.
    """

    person: Person | None
    entries: list[Entry]
    steps: list[Reached]


class Comparison(NamedTuple):
    """The comparison of two definitions over the same data: players who win a prize under one, the
    other, or both.
    """

    before: Result
    after: Result
    gained: list[str]
    lost: list[str]
    kept: list[str]


def evaluate(
    settings: Settings, campaign: Campaign, as_of: datetime | None = None, *, threads: int | None = None
) -> Result:
    """The standings over everything received until ``as_of`` (default: now).

    ``threads``: most threads that ClickHouse uses; default as many as there are cores.
    """
    as_of = as_of or datetime.now(UTC)
    merges = has_contacts(settings, campaign.tenant)
    totals = compiler.totals(campaign, as_of, merges=merges)
    if totals is not None:
        found = query_frame(settings, totals, threads)
    else:
        left_out = compiler.left_out(campaign, as_of, merges=merges)
        found = query_frame(settings, left_out, threads)
    unsettled = _unsettled(settings, campaign.tenant, as_of)
    return _result(settings, campaign, as_of, unsettled, found, merges=merges, threads=threads)


def evaluate_together(
    settings: Settings, campaigns: Sequence[Campaign], as_of: datetime, *, threads: int | None = None
) -> list[Result]:
    """The results of campaigns of which :func:`.together.shared` is equal, as :func:`evaluate` gives
    them. Their entries are read once.
    """
    tenant = campaigns[0].tenant
    merges = has_contacts(settings, tenant)
    # servers before 26.3 cannot compute a step once
    text = together.totals(campaigns, as_of, merges=merges, once=is_embedded(settings))
    every = query_frame(settings, text, threads)
    unsettled = _unsettled(settings, tenant, as_of)
    return [
        _result(
            settings, campaign, as_of, unsettled, every.filter(polars.col("campaign") == number),
            merges=merges, threads=threads,
        )
        for number, campaign in enumerate(campaigns, 1)
    ]  # fmt: skip


def _result(
    settings: Settings,
    campaign: Campaign,
    as_of: datetime,
    unsettled: int,
    found: polars.DataFrame,
    *,
    merges: bool,
    threads: int | None,
) -> Result:
    """The result from the rows of totals, or of what was left out alone. The standings are asked for in
    order if they are not among the rows, or a score falls.
    """
    is_counted = polars.col("left_out") == ""
    excluded = found.filter(~is_counted).select("left_out", "entries").sort("left_out")
    if "falls" not in found.columns or found["falls"].cast(polars.Boolean).any():
        text = compiler.standings(campaign, as_of, merges=merges)
        rows = query_frame(settings, text, threads)
    else:
        rows = found.filter(is_counted)
    left_out, pool = dict(excluded.iter_rows()), _pool(campaign, rows)
    return Result(campaign, as_of, unsettled, Standings(rows), left_out, pool)


def _pool(campaign: Campaign, found: polars.DataFrame) -> Decimal | None:
    pool = campaign.form.pool if isinstance(campaign.form, Leaderboard) else None
    if pool is None:
        return None
    if found.is_empty():
        return pool.base if pool.cap is None else min(pool.base, pool.cap)
    return Decimal(found["pool"][0])


def backtest(
    settings: Settings, campaign: Campaign, period: Period, as_of: datetime | None = None
) -> Result:
    """The result of the campaign in another period.

    Raises ``ConfigurationError`` for a tournament, whose stages have times of their own.
    """
    if isinstance(campaign.form, Leaderboard) and campaign.form.stages and period != campaign.period:
        raise ConfigurationError(
            f"the stages of {campaign.name} have times of their own: change them in the file, or by "
            "`roundhouse campaign grid --vary`, in place of the period"
        )
    return evaluate(settings, campaign.model_copy(update={"period": period}), as_of)


def explain(
    settings: Settings, campaign: Campaign, player_id: str, as_of: datetime | None = None
) -> Explanation:
    """All entries that could have counted, of a player and those that it is merged with, in order, with
    the verdict on each.
    """
    as_of = as_of or datetime.now(UTC)
    person = next(iter(persons(settings, campaign.tenant, as_of, [player_id])), None)
    player_ids = list(person.contacts) if person else [player_id]
    merges = person is not None or has_contacts(settings, campaign.tenant)
    entries = [
        Entry(
            row["id"],
            _moment(row["at"]),
            row["currency"],
            Decimal(row["amount"]),
            Decimal(row["payout"]),
            Decimal(row["rate"]),
            row["verdict"],
            row["player_id"],
            Decimal(row["points"]),
        )
        for row in query_rows(
            settings, compiler.explanation(campaign, as_of, player_ids, merges=merges)
        )
    ]
    reached = compiler.steps_reached(campaign, as_of, player_ids, merges=merges)
    steps = [
        Reached(Decimal(row["score"]), _moment(row["reached_at"]) if row["reached_at"] else None)
        for row in (query_rows(settings, reached) if reached else [])
    ]
    return Explanation(person, entries, steps)


def compare(
    settings: Settings, before: Campaign, after: Campaign, as_of: datetime | None = None
) -> Comparison:
    """The differences for players between the definitions ``before`` and ``after``."""
    as_of = as_of or datetime.now(UTC)
    results = evaluate(settings, before, as_of), evaluate(settings, after, as_of)
    winners = [set(result.standings.winners.player_ids) for result in results]
    return Comparison(
        *results,
        gained=sorted(winners[1] - winners[0]),
        lost=sorted(winners[0] - winners[1]),
        kept=sorted(winners[0] & winners[1]),
    )


def problems(settings: Settings, definition: Definition) -> list[str]:
    """The parts of a definition that do not fit the stored data: a message with file and line for
    each.

    It reports unknown games, providers, categories and features, custom events and tags of teams that
    nobody has, currencies without a rate, and a tenant without events.
    """
    campaign = definition.campaign
    tenant = quoted(campaign.tenant)
    found = []

    def wrong(message: str, *where: str | int) -> None:
        found.append(
            f"{definition.path}:{definition.line(*where)}: {'.'.join(map(str, where))}: {message}"
        )

    if not query_rows(settings, f"SELECT 1 AS one FROM outcomes_rows WHERE tenant = {tenant} LIMIT 1"):
        wrong(f"nothing was ever received for tenant {campaign.tenant}", "tenant")
        return found
    known_by = {
        "games": "game_id",
        "providers": "provider",
        "categories": "arrayJoin(categories)",
        "features": "arrayJoin(features)",
    }
    for name, expression in known_by.items():
        wanted = [
            ((*where, "counts", name, index), value)
            for where, own in campaign.measured()
            for index, value in enumerate(getattr(own.counts, name) or ())
        ]
        if wanted:
            text = f"SELECT DISTINCT {expression} AS value FROM games WHERE tenant = {tenant}"
            known = {row["value"] for row in query_rows(settings, text)}
            for where, value in wanted:
                if value not in known:
                    wrong(f"{value} is unknown for tenant {campaign.tenant}", *where)
    for where, table, condition, what in _never(campaign):
        text = f"SELECT 1 AS one FROM {table} WHERE tenant = {tenant} AND {condition} LIMIT 1"
        if not query_rows(settings, text):
            wrong(what, *where)
    for where, own in campaign.measured():
        if missing := _without_rate(settings, own) if own.counts.currency else 0:
            wrong(
                f"{missing} entries in the period are in a currency that has no rate to "
                f"{own.counts.currency}; they do not count. `roundhouse rates import FILE.csv`",
                *where,
                "counts",
                "currency",
            )
    return list(dict.fromkeys(found))


def _never(campaign: Campaign) -> Iterator[tuple[tuple[str | int, ...], str, str, str]]:
    """What a campaign needs beside games: where it stands, the table and condition of what fulfils it,
    and what is wrong if nothing does.
    """
    events = [((*where, "counts", "event"), own.counts.event) for where, own in campaign.measured()]
    if campaign.opt_in:
        events.append((("opt_in", "event"), campaign.opt_in.event))
    for where, name in events:
        if name is not None:
            wrong = f"no custom event {name} was ever received for tenant {campaign.tenant}"
            yield where, "custom_events_rows", f"name = {quoted(name)}", wrong
    teams = teams_of(campaign)
    if teams and teams.tag_prefix:
        condition = f"arrayExists(x -> startsWith(x, {quoted(teams.tag_prefix)}), tags)"
        wrong = f"no player of tenant {campaign.tenant} ever had a tag that begins with it"
        yield ("form", "teams", "tag_prefix"), "player_events_rows", condition, wrong


def _without_rate(settings: Settings, campaign: Campaign) -> int:
    rows = query_rows(settings, compiler.left_out(campaign, datetime.now(UTC)))
    return sum(int(row["entries"]) for row in rows if row["left_out"] == "no rate")


def _unsettled(settings: Settings, tenant: str, as_of: datetime) -> int:
    text = (
        "SELECT sum(received - accepted - duplicate - conflict - rejected) AS items "
        f"FROM outcomes_rows FINAL WHERE tenant = {quoted(tenant)} "
        f"AND received_at <= {moment(as_of)}"
    )
    return int(query_rows(settings, text)[0]["items"])


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
