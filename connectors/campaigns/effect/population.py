"""Reads what the players did before, during and after a campaign: one query, one row a player. Merged
players are one.

A population holds the eligible players who bet or deposited in the time before, each with its group.
Who is eligible follows from what was known of the player when the campaign began, so that the campaign
cannot change it. An amount counts at the time of its transaction, in the campaign's currency.
"""

from datetime import datetime, timedelta
from typing import NamedTuple, Self

import numpy as np

from connectors.campaigns.effect.measure import AFTER, BEFORE, DURING, METRICS, Players
from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.sql.expressions import product
from connectors.campaigns.sql.facts import behaviour
from connectors.campaigns.sql.rules import held_back, player_rules
from connectors.campaigns.sql.sources import deposits
from connectors.campaigns.sql.steps import PERSON, PLAYER, RATES, Events, chained, merged
from connectors.campaigns.sql.teams import membership
from connectors.clickhouse.literals import moment, quoted
from connectors.clickhouse.query import query_frame
from streams.errors import ConfigurationError
from streams.settings import Settings

_NIGHT_ENDS = 6
"""A bet before this hour of the day, in the campaign's time zone, was played at night."""


_COLUMNS = [f"{name}_{window}" for window in (BEFORE, DURING, AFTER) for name in (*METRICS, "nights")]


class Windows(NamedTuple):
    """The bounds of the windows; each ends where the next begins."""

    before: datetime
    start: datetime
    end: datetime
    after: datetime

    @classmethod
    def around(cls, campaign: Campaign, before: timedelta, after: timedelta) -> Self:
        """The campaign's period, and so much before and after it."""
        start, end = campaign.period.utc()
        return cls(start - before, start, end, end + after)

    def ending(self, at: datetime) -> Self:
        """The same lengths, ending at another time."""
        return type(self)(*(bound + (at - self.after) for bound in self))


class Population(NamedTuple):
    """The players, and the number of amounts that have no rate to the campaign's currency."""

    players: Players
    unconverted: int


def query_of(campaign: Campaign, windows: Windows, as_of: datetime) -> str:
    """The query of a population."""
    until = f"tenant = {quoted(campaign.tenant)} AND received_at <= {moment(as_of)}"
    moved = windows.start - campaign.period.utc()[0]
    events = Events(until, PERSON, as_of)
    known = [*behaviour(campaign, events, moved), *membership(campaign, events)]
    steps = [
        merged(campaign, as_of),
        (
            "player",
            PLAYER.format(person=PERSON, until=f"{until} AND occurred_at < {moment(windows.start)}"),
        ),
        *((fact.name, fact.text) for fact in known),
        ("stopped", _stopped(campaign, windows, until)),
        ("own", _entries(campaign, windows, until)),
        ("entry", f"SELECT *, {PERSON}\nFROM own"),
    ]
    currency, rate, has_rate, source = campaign.counts.currency, "1", "true", "entry"
    if currency:
        steps.append(("price", RATES.format(quote=quoted(currency), as_of=moment(as_of))))
        own = f"base = {quoted(currency)}"
        rate, has_rate = f"if({own}, toDecimal128(1, 18), day_rate)", f"{own} OR known"
        source = "entry\nASOF LEFT JOIN price USING (base, day)"
    amounts = ", ".join(
        f"{product(f'own_{name}', 'rate') if currency else f'own_{name}'} AS {name}"
        for name in ("ggr", "ngr", "deposits")
    )
    steps.append(
        ("priced", f"SELECT *, {rate} AS rate, {has_rate} AS has_rate,\n    {amounts}\nFROM {source}")
    )
    steps.append(("played", _played(campaign, windows)))
    group = held_back(campaign.holdout) if campaign.holdout else "false"
    rules = player_rules(campaign.model_copy(update={"holdout": None}))
    rules += [rule for fact in known for rule in fact.rules]
    excluded = " OR ".join(f"({rule.excludes})" for rule in rules)
    joins = ["player", "stopped", *(fact.name for fact in known)]
    joined = "\n".join(f"LEFT JOIN {name} USING (person_id)" for name in joins)
    return (
        f"{chained(steps)}\nSELECT person_id AS player_id, unconverted, currencies,\n"
        f"    {', '.join(_COLUMNS)},\n"
        f"    {group} AS held_back, ifNull(has_stopped, false) AS stopped\n"
        f"FROM played\n{joined}\n"
        f"WHERE NOT ({excluded})\nORDER BY player_id"
    )


def _stopped(campaign: Campaign, windows: Windows, until: str) -> str:
    banned = "" if campaign.eligible.promo_banned else " OR ifNull(is_promo_banned, false)"
    return (
        f"SELECT {PERSON}, max(ifNull(is_blocked, false){banned}) AS has_stopped\n"
        f"FROM player_events_rows FINAL\nWHERE {until} AND occurred_at >= {moment(windows.start)} "
        f"AND occurred_at < {moment(windows.after)}\nGROUP BY person_id"
    )


def _entries(campaign: Campaign, windows: Windows, until: str) -> str:
    """Bets, wins, their rollbacks, and deposits, as what the house keeps of each."""
    within = f"{{0}} >= {moment(windows.before)} AND {{0}} < {moment(windows.after)}"
    sign = "multiIf(type IN ('bet', 'rollback_win'), 1, type IN ('win', 'rollback_bet'), -1, 0)"
    return f"""
SELECT
    player_id,
    occurred_at AS at,
    currency AS base,
    toDate(occurred_at) AS day,
    type = 'bet' AS is_bet,
    {sign} * amount AS own_ggr,
    {sign} * (amount - bonus_amount) AS own_ngr,
    toDecimal128(0, 18) AS own_deposits
FROM game_transactions_rows FINAL
WHERE {until} AND {within.format("occurred_at")}
UNION ALL
SELECT
    player_id,
    at,
    currency AS base,
    toDate(at) AS day,
    false AS is_bet,
    toDecimal128(0, 18) AS own_ggr,
    toDecimal128(0, 18) AS own_ngr,
    own_amount AS own_deposits
FROM
(
{deposits(campaign, until)}
)
WHERE {within.format("at")}"""


def _played(campaign: Campaign, windows: Windows) -> str:
    zone = quoted(campaign.period.time_zone)
    inside = {
        BEFORE: f"at < {moment(windows.start)}",
        DURING: f"at >= {moment(windows.start)} AND at < {moment(windows.end)}",
        AFTER: f"at >= {moment(windows.end)}",
    }
    columns = []
    for window, at in inside.items():
        columns += [  # exact sums: those of floats would depend on their order
            f"toFloat64(sumIf({name}, {at} AND has_rate)) AS {name}_{window}" for name in METRICS[:3]
        ]
        columns.append(f"uniqExactIf(toDate(at, {zone}), is_bet AND {at}) AS active_days_{window}")
        night = f"is_bet AND toHour(at, {zone}) < {_NIGHT_ENDS} AND {at}"
        columns.append(f"uniqExactIf(toDate(at, {zone}), {night}) AS nights_{window}")
    listed = ",\n    ".join(columns)
    return (
        "SELECT\n    person_id,\n    countIf(NOT has_rate) AS unconverted,\n"
        f"    groupUniqArray(2)(toString(base)) AS currencies,\n    {listed}\nFROM priced\n"
        f"GROUP BY person_id\nHAVING countIf({inside[BEFORE]}) > 0"
    )


def read(
    settings: Settings, campaign: Campaign, windows: Windows, as_of: datetime, took_part: set[str]
) -> Population:
    """The population of a campaign. ``took_part``: the players with an entry that counted.

    Raises ``ConfigurationError`` if amounts of several currencies would be added, or if who is eligible
    follows from what players did after the beginning.
    """
    _known_at_the_beginning(campaign)
    frame = query_frame(settings, query_of(campaign, windows, as_of))
    if campaign.counts.currency is None:
        found = sorted(frame["currencies"].explode().drop_nulls().unique())
        if len(found) > 1:
            raise ConfigurationError(
                f"players use {', '.join(found)}: set counts.currency, so that amounts can be added"
            )
    values = {
        (name, window): frame[f"{name}_{window}"].to_numpy().astype(np.float64)
        for name in (*METRICS, "nights")
        for window in (BEFORE, DURING, AFTER)
    }
    players = Players(
        frame["held_back"].to_numpy().astype(np.bool_),
        frame["player_id"].is_in(list(took_part)).to_numpy(),
        frame["stopped"].to_numpy().astype(np.bool_),
        values,
    )
    return Population(players, int(frame["unconverted"].sum()))


def _known_at_the_beginning(campaign: Campaign) -> None:
    wanted = campaign.eligible
    late = wanted.behaviour_at is not None and wanted.behaviour_at > campaign.period.start
    if late or wanted.first_deposit_in_period:
        name = "behaviour_at" if late else "first_deposit_in_period"
        raise ConfigurationError(
            f"eligible.{name} chooses players by what they did after the beginning of the period, "
            "which the campaign itself may have changed: their effect cannot be measured. Leave it "
            "out, and everyone who was eligible before is compared"
        )
