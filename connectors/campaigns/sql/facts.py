"""What players did that decides whether they take part: joined, deposited, ceased to play.

Each fact is a step with one row for each person, which is joined to the entries, and rules over its
columns. A person without a row has the default of each column, false or zero.
"""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.model.who import Deposited, Lapsed, OptIn
from connectors.campaigns.sql.expressions import money, product
from connectors.campaigns.sql.sources import deposits, sports_bets
from connectors.campaigns.sql.steps import OWN_ID, RATES, Events, Fact, Rule
from connectors.clickhouse.literals import moment, quoted


def joining(campaign: Campaign, events: Events) -> list[Fact]:
    """When the players joined, if the campaign asks them to."""
    return [_joined(campaign, campaign.opt_in, events)] if campaign.opt_in else []


def behaviour(campaign: Campaign, events: Events, moved: timedelta = timedelta()) -> list[Fact]:
    """What the players did before the campaign, and when they first deposited. ``moved``: by how much
    the moment is later than the definition says.
    """
    wanted, found = campaign.eligible, []
    at = (wanted.behaviour_at or campaign.period.start) + moved
    if wanted.deposited:
        found.append(_deposited(campaign, wanted.deposited, events, at))
    if wanted.lapsed:
        found.append(_active(campaign, wanted.lapsed, events, at))
    if wanted.first_deposit_in_period:
        found.append(_first_deposit(campaign, events))
    return found


def opposites(campaign: Campaign, events: Events) -> list[Fact]:
    """The sports bets of a person that cover different outcomes of one market, if they are excluded.

    Outcomes differ by the names in their JSON; a selection without event, market or names is of none.
    """
    if not campaign.counts.exclude_opposite_bets:
        return []
    bets = sports_bets(campaign, events.until)
    names = "arraySort(arrayMap(x -> JSONExtractString(x, 'name'), JSONExtractArrayRaw(leg.outcomes)))"
    text = f"""
SELECT DISTINCT person_id, arrayJoin(ids) AS id, true AS is_opposed
FROM
(
    SELECT person_id, groupUniqArray(id) AS ids
    FROM
    (
        SELECT * REPLACE ({OWN_ID}), {events.person}
        FROM
        (
{bets}
        )
    )
    ARRAY JOIN selections AS leg
    WHERE isNotNull(leg.event_name) AND isNotNull(leg.market)
        AND arrayExists(x -> x != '', {names})
    GROUP BY person_id, leg.event_name, leg.market, leg.match_start
    HAVING uniqExact({names}) > 1
)"""
    return [Fact("opposed", text, [Rule("is_opposed", "covers opposite outcomes")], "person_id, id")]


def _joined(campaign: Campaign, opt_in: OptIn, events: Events) -> Fact:
    _, end = campaign.period.utc()
    text = (
        f"SELECT {events.person}, min(occurred_at) AS joined_at, true AS has_joined\n"
        f"FROM custom_events_rows FINAL\nWHERE {events.until} AND counts\n"
        f"    AND name = {quoted(opt_in.event)} AND occurred_at < {moment(end)}\nGROUP BY person_id"
    )
    rules = [Rule("NOT has_joined", "player: has not joined")]
    if not opt_in.counts_before:
        rules.append(Rule("at < joined_at", "before joining"))
    return Fact("joined", text, rules)


def _deposited(campaign: Campaign, wanted: Deposited, events: Events, local: datetime) -> Fact:
    since, at = _days_before(campaign, local, wanted.days)
    amount, source = money(0), f"(\n{deposits(campaign, events.until)}\n)"
    if wanted.currency:
        own = f"base = {quoted(wanted.currency)}"
        amount = f"if({own}, own_amount, {product('own_amount', 'day_rate')})"
        rates = RATES.format(quote=quoted(wanted.currency), as_of=moment(events.as_of))
        source = (
            f"(\n    SELECT *, currency AS base, toDate(at) AS day\n    FROM {source}\n) AS dated\n"
            f"ASOF LEFT JOIN\n(\n{rates}\n) AS deposit_price USING (base, day)"
        )
    text = (
        f"SELECT {events.person}, count() AS deposit_times, sum({amount}) AS deposited\nFROM {source}\n"
        f"WHERE at >= {moment(since)} AND at < {moment(at)}\nGROUP BY person_id"
    )
    too_few = f"deposit_times < {wanted.times}"
    if wanted.amount is not None:
        too_few += f" OR deposited < {money(wanted.amount)}"
    return Fact("depositor", text, [Rule(too_few, "player: has not deposited enough")])


def _active(campaign: Campaign, wanted: Lapsed, events: Events, local: datetime) -> Fact:
    since, at = _days_before(campaign, local, wanted.days)
    until = f"{events.until} AND occurred_at < {moment(at)}"
    tables = {"logins_rows": until}
    if wanted.without == "bets":
        tables = {
            "game_transactions_rows": f"{until} AND type = 'bet'",
            "sports_bets_rows": f"{until} AND lower(type) = 'bet'",
        }
    found = "\n    UNION ALL\n".join(
        f"    SELECT player_id, max(occurred_at) AS at\n    FROM {table}\n    WHERE {condition}\n"
        "    GROUP BY player_id"
        for table, condition in tables.items()
    )
    text = (
        f"SELECT {events.person}, max(at) AS last_active_at, true AS was_active\n"
        f"FROM\n(\n{found}\n)\nGROUP BY person_id"
    )
    active = f"NOT was_active OR last_active_at >= {moment(since)}"
    return Fact("activity", text, [Rule(active, "player: has not lapsed")])


def _first_deposit(campaign: Campaign, events: Events) -> Fact:
    start, end = campaign.period.utc()
    text = (
        f"SELECT {events.person}, min(at) AS first_deposit_at, true AS has_deposited\n"
        f"FROM\n(\n{deposits(campaign, events.until)}\n)\nGROUP BY person_id"
    )
    outside = (
        f"NOT has_deposited OR first_deposit_at < {moment(start)} OR first_deposit_at >= {moment(end)}"
    )
    return Fact("newcomer", text, [Rule(outside, "player: first deposit not in the period")])


def _days_before(campaign: Campaign, at: datetime, days: int) -> tuple[datetime, datetime]:
    """So many local days before a local time, and that time."""
    zone = ZoneInfo(campaign.period.time_zone)
    return (at - timedelta(days=days)).replace(tzinfo=zone), at.replace(tzinfo=zone)
