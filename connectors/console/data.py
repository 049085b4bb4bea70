"""The data of the console as plain JSON values; amounts are text, so that no digit is lost."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars

from connectors.campaigns import evaluation
from connectors.campaigns.effect.of_campaign import document, effect_of
from connectors.campaigns.live import Snapshot, is_running
from connectors.campaigns.model.definition import Campaign
from connectors.clickhouse.kept_play import View
from connectors.clickhouse.literals import quoted
from connectors.clickhouse.query import query_rows
from streams.core.event import is_test
from streams.kafka.lag import records_behind
from streams.settings import Settings

GRAINS = {"hour": 4, "day": 72, "week": 72 * 7, "month": 72 * 31}
"""The grains of KPIs, and the days of which at least 72 periods are shown."""
_PERIODS = 72
_VALUES = 100
_MINUTES = 30
_ENTRIES = 500


def state(campaign: Campaign, at: datetime) -> str:
    """Whether a campaign is to come, runs, or is over."""
    if is_running(campaign, at):
        return "running"
    return "to come" if at < campaign.period.utc()[0] else "over"


def summary(campaign: Campaign, snapshot: Snapshot | None, at: datetime) -> dict[str, Any]:
    """A campaign at a glance."""
    start, end = campaign.period.utc()
    return {
        "name": campaign.name,
        "title": campaign.title or campaign.name,
        "tenant": campaign.tenant,
        "measure": campaign.scored.replace("_", " "),
        "form": campaign.form.kind.replace("_", " "),
        "currency": campaign.counts.currency or "",
        "from": start.isoformat(),
        "to": end.isoformat(),
        "state": state(campaign, at),
        "held_back": campaign.holdout is not None,
        "standings": _standings(campaign, snapshot) if snapshot else None,
    }


def _standings(campaign: Campaign, snapshot: Snapshot) -> dict[str, Any]:
    result, before = snapshot.result, snapshot.before
    leader = result.standings[0] if len(result.standings) else None
    given = result.cost
    return {
        "as_of": result.as_of.isoformat(),
        "before": before.as_of.isoformat() if before else None,
        "players": len(result.standings),
        "players_before": len(before.standings) if before else None,
        "prizes": text(given),
        "prizes_left": None if campaign.budget is None else text(campaign.budget - given),
        "leader": leader.player_id if leader else None,
        "leader_score": text(leader.score) if leader else None,
        "leader_before": before.standings[0].player_id if before and len(before.standings) else None,
        "unsettled": result.unsettled,
        "left_out": result.left_out,
    }


def standings(rows: polars.DataFrame) -> list[dict[str, Any]]:
    """Rows of a snapshot."""
    return [
        {
            "position": row["position"],
            "rank": row["rank"],
            "rank_before": row["rank_before"],
            "player": row["player_id"],
            "score": text(row["score"]),
            "entries": row["entries"],
            "step": row["step"],
            "prize": text(row["prize"]),
            "unpaid": text(row["unpaid"]),
            "items": row["items"],
            "reached_at": row["reached_at"].isoformat(),
        }
        for row in rows.iter_rows(named=True)
    ]


def player(settings: Settings, campaign: Campaign, snapshot: Snapshot, player_id: str) -> Any:
    """The standing of a player, and everything of it that could count, with the rule that decided."""
    person, entries = evaluation.explain(settings, campaign, player_id, snapshot.result.as_of)
    standing = snapshot.of_player(person.person_id if person else player_id)
    return {
        "player": player_id,
        "as_of": snapshot.result.as_of.isoformat(),
        "person": person.lines() if person else [],
        "standing": next(iter(standings(standing)), None),
        "verdicts": dict(Counter(entry.verdict for entry in entries).most_common()),
        "entries_in_all": len(entries),
        "entries": [
            {
                "at": entry.at.isoformat(),
                "id": entry.id,
                "player": entry.player_id,
                "currency": entry.currency,
                "amount": text(entry.amount),
                "payout": text(entry.payout),
                "verdict": entry.verdict,
            }
            for entry in reversed(entries[-_ENTRIES:])
        ],
    }


def effect(settings: Settings, campaign: Campaign, snapshot: Snapshot) -> Any:
    """The effect of a campaign as of a snapshot."""
    found = effect_of(settings, campaign, snapshot.result.as_of, result=snapshot.result)
    return {"as_of": snapshot.result.as_of.isoformat(), **document(found)}


def kpis(settings: Settings, tenant: str, grain: str, by: str) -> list[dict[str, Any]]:
    """KPIs of a tenant in its newest periods, oldest first; ``by`` is a dimension of ``kpi_play``."""
    newest = query_rows(
        settings,
        f"SELECT toString(max(day) - {GRAINS[grain]}) AS first, toString(max(day)) AS last "
        f"FROM changed_days WHERE tenant = {quoted(tenant)}",
    )[0]
    view = View(grain, by, "").between(newest["first"], newest["last"])
    rows = _PERIODS
    order = "period DESC, currency"
    if by != "tenant":
        rows, order = _VALUES, "period DESC, play.turnover DESC, value, currency"
    found = query_rows(
        settings,
        "SELECT toString(period) AS period, value, currency, rounds, active_players, "
        "toString(play.turnover) AS turnover, toString(ggr) AS ggr, toString(ngr) AS ngr, rtp, hold "
        f"FROM kpi_play_between({view}) AS play "
        f"WHERE tenant = {quoted(tenant)} ORDER BY {order} LIMIT {rows}",
    )
    return [_plain(row) for row in reversed(found)]


def line(settings: Settings) -> dict[str, Any]:
    """Accounts by tenant, items a minute, refusals by code, and the lag of each stage."""
    minutes = query_rows(
        settings,
        "SELECT toString(toStartOfMinute(received_at)) AS minute, sum(received) AS items "
        f"FROM outcomes WHERE received_at > now() - INTERVAL {_MINUTES} MINUTE "
        "GROUP BY minute ORDER BY minute",
    )
    refused = query_rows(
        settings,
        "SELECT tenant, code, count() AS items FROM rejects GROUP BY tenant, code "
        "ORDER BY items DESC LIMIT 10",
    )
    return {
        "accounts": [
            _plain(row) for row in query_rows(settings, "SELECT * FROM accounting ORDER BY tenant")
        ],
        "minutes": [_plain(row) for row in minutes],
        "rejects": [_plain(row) for row in refused],
        "lag": records_behind(settings),
    }


def tenants(settings: Settings) -> Sequence[str]:
    """Tenants that have posted events, without test tenants, which have no KPIs."""
    found = query_rows(settings, "SELECT DISTINCT tenant FROM outcomes_rows WHERE tenant != ''")
    return sorted(row["tenant"] for row in found if not is_test(row["tenant"]))


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Counts as numbers; ClickHouse writes large ones as text."""
    words = ("value", "period", "currency", "tenant", "code")
    return {
        name: int(value)
        if isinstance(value, str) and name not in words and value.lstrip("-").isdigit()
        else value
        for name, value in row.items()
    }


def text(amount: object) -> str:
    """An amount with all of its digits and no trailing zeros."""
    found = f"{amount:f}"
    return found.rstrip("0").rstrip(".") if "." in found else found
