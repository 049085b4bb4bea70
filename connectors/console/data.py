"""The data of the console as plain JSON values; amounts are text, so that no digit is lost."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars

from connectors.campaigns import evaluation
from connectors.campaigns.effect.of_campaign import document, effect_of
from connectors.campaigns.evaluation import Reached
from connectors.campaigns.folder import OCCURRENCES
from connectors.campaigns.live import Live, Snapshot
from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.sql.expressions import plain
from connectors.campaigns.standings import Standing
from connectors.clickhouse.query import query_rows
from connectors.console import ledger
from connectors.console.forms import state_of, step_terms
from streams.core.event import is_test
from streams.kafka.lag import records_behind
from streams.settings import Settings

_MINUTES = 30
_ENTRIES = 500


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
        "state": state_of(start, end, at),
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
        "prizes": plain(given),
        "prizes_left": None if campaign.budget is None else plain(campaign.budget - given),
        "unpaid": plain(result.standings.unpaid),
        "pool": None if result.pool is None else plain(result.pool),
        "leader": leader.player_id if leader else None,
        "leader_score": plain(leader.score) if leader else None,
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
            "score": plain(row["score"]),
            "entries": row["entries"],
            "step": row["step"],
            "prize": plain(row["prize"]),
            "unpaid": plain(row["unpaid"]),
            "items": row["items"],
            "stage": row["stage"],
            "team": row["team"],
            "team_score": plain(row["team_score"]),
            "reached_at": row["reached_at"].isoformat(),
        }
        for row in rows.iter_rows(named=True)
    ]


def player(settings: Settings, campaign: Campaign, snapshot: Snapshot, player_id: str) -> Any:
    """The standing of a player, and everything of it that could count, with the rule that decided."""
    person, entries, reached = evaluation.explain(settings, campaign, player_id, snapshot.result.as_of)
    found = snapshot.of_player(person.person_id if person else player_id)
    standing = next(iter(standings(found)), None)
    return {
        "player": player_id,
        "as_of": snapshot.result.as_of.isoformat(),
        "person": person.lines() if person else [],
        "standing": standing,
        "steps": _steps(campaign, standing, reached),
        "verdicts": dict(Counter(entry.verdict for entry in entries).most_common()),
        "entries_in_all": len(entries),
        "entries": [
            {
                "at": entry.at.isoformat(),
                "id": entry.id,
                "player": entry.player_id,
                "currency": entry.currency,
                "amount": plain(entry.amount),
                "payout": plain(entry.payout),
                "verdict": entry.verdict,
            }
            for entry in reversed(entries[-_ENTRIES:])
        ],
    }


def _steps(
    campaign: Campaign, standing: Mapping[str, Any] | None, reached: Sequence[Reached]
) -> list[dict[str, Any]]:
    """How far a player is in each step. The score of a challenge is the same for all of its steps, and
    that of each step of a mission is its own.
    """
    terms = step_terms(campaign)
    if reached:
        return [
            step | {"score": plain(own.score), "at": own.at.isoformat() if own.at else None,
                    "is_reached": own.at is not None}
            for step, own in zip(terms, reached, strict=True)
        ]  # fmt: skip
    score, last = (standing["score"], standing["step"]) if standing else ("0", 0)
    return [step | {"score": score, "at": None, "is_reached": step["number"] <= last} for step in terms]


def occurrences(
    settings: Settings, campaigns: Sequence[Campaign], live: Live, at: datetime
) -> list[dict[str, Any]]:
    """Occurrences of a campaign, the newest first: when, whether settled, and the first with a prize.

    The winners of a settled one are the ledger's. One that is not settled is evaluated if it is among
    those with a page.
    """
    known = ledger.settled(settings, campaigns)
    settled = [campaign for campaign in campaigns if campaign.name in known]
    won = ledger.winners(settings, settled) if settled else {}
    found = []
    for number, campaign in enumerate(campaigns):
        has_page = number < OCCURRENCES
        start, end = campaign.period.utc()
        shown = {
            "name": campaign.name,
            "from": start.isoformat(),
            "to": end.isoformat(),
            "state": state_of(start, end, at),
            "has_page": has_page,
            **known.get(campaign.name, {"settled_at": None, "reviews": 0}),
        }
        if campaign.name in won:
            found.append(shown | {"winners": won[campaign.name], "as_of": None})
            continue
        snapshot = live.peek(campaign.name)
        if snapshot is None and has_page:
            snapshot = live.snapshot(campaign.name)
        found.append(shown | _winners_now(snapshot))
    return found


def _winners_now(snapshot: Snapshot | None) -> dict[str, Any]:
    if snapshot is None:
        return {"winners": None, "as_of": None}
    winners = snapshot.result.standings.winners[: ledger.WINNERS]
    return {
        "winners": [{"player": each.player_id, "prize": _prize(each)} for each in winners],
        "as_of": snapshot.result.as_of.isoformat(),
    }


def _prize(standing: Standing) -> str:
    money = [plain(standing.prize)] if standing.prize or not standing.items else []
    return " and ".join([*money, *filter(None, [standing.items])])


def effect(settings: Settings, campaign: Campaign, snapshot: Snapshot) -> Any:
    """The effect of a campaign as of a snapshot."""
    found = effect_of(settings, campaign, snapshot.result.as_of, result=snapshot.result)
    return {"as_of": snapshot.result.as_of.isoformat(), **document(found)}


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
