"""What the ledger says of campaigns, as plain JSON values: settlements, corrections, and winners; and
how the prizes that were published differ from what a result says now.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from connectors.campaigns.live import Snapshot
from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.settling.awards import CORRECTION, Prize, differences, newest
from connectors.campaigns.settling.settle import awards_of
from connectors.campaigns.sql.expressions import plain
from connectors.campaigns.stored import stored_sha256
from connectors.clickhouse.literals import quoted
from connectors.clickhouse.query import query_rows
from streams.settings import Settings

COMPARED_MAX = 20_000
"""So many awards are compared with a result for a page; ``roundhouse campaign review`` compares all."""

_ROWS = 50
WINNERS = 3

_SETTLEMENT = (
    "number, run_id, definition_sha256, result_sha256, settled_by, reason, unsettled, players, awards, "
    "toString(prizes) AS prizes, "
    + ", ".join(f"formatDateTime({name}, '%FT%TZ') AS {name}" for name in ("as_of", "settled_at"))
)


def settled(settings: Settings, campaigns: Iterable[Campaign]) -> dict[str, Any]:
    """Of each campaign that is settled: when, and the number of its reviews that corrected awards."""
    names = _named(campaigns)
    if not names:
        return {}
    rows = query_rows(
        settings,
        "SELECT campaign, formatDateTime(min(settlements.settled_at), '%FT%TZ') AS at, "
        f"max(number) AS reviews FROM settlements WHERE (tenant, campaign) IN ({names}) "
        "GROUP BY campaign ORDER BY campaign",
    )
    return {row["campaign"]: {"settled_at": row["at"], "reviews": int(row["reviews"])} for row in rows}


def ledger(settings: Settings, campaign: Campaign, snapshot: Snapshot | None) -> dict[str, Any]:
    """The settlement of a campaign and its reviews, the newest corrections, and what differs now."""
    mine = _of(campaign)
    found = query_rows(
        settings, f"SELECT {_SETTLEMENT} FROM settlements WHERE {mine} ORDER BY number LIMIT {_ROWS}"
    )
    if not found:
        return {"settlements": []}
    settlements = [
        row | {name: int(row[name]) for name in ("number", "unsettled", "players", "awards")}
        for row in found
    ]
    corrections = query_rows(
        settings,
        "SELECT number, player_id, step, reason, toString(amount) AS after, "
        "toString(amount_before) AS before, item, item_count, item_before, item_count_before "
        f"FROM awards WHERE {mine} AND kind = {quoted(CORRECTION)} "
        f"ORDER BY number DESC, player_id, step LIMIT {_ROWS}",
    )
    return {
        "settlements": settlements,
        "is_same_definition": settlements[0]["definition_sha256"] == campaign.sha256,
        "corrections_in_all": sum(row["awards"] for row in settlements[1:]),
        "corrections": [_correction(row) for row in corrections],
        "now": _now(settings, campaign, snapshot, settlements) if snapshot else None,
    }


def _of(campaign: Campaign) -> str:
    """The condition in SQL for what was published of a campaign."""
    return f"tenant = {quoted(campaign.tenant)} AND campaign = {quoted(campaign.name)}"


def _named(campaigns: Iterable[Campaign]) -> str:
    """Campaigns as tuples in SQL."""
    return ", ".join(f"({quoted(each.tenant)}, {quoted(each.name)})" for each in campaigns)


def _correction(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "number": row["number"],
        "player": row["player_id"],
        "step": row["step"],
        "reason": row["reason"],
        "before": _words(Prize(Decimal(row["before"]), row["item_before"], row["item_count_before"])),
        "after": _words(Prize(Decimal(row["after"]), row["item"], row["item_count"])),
    }


def _words(prize: Prize) -> str:
    item = f" and {prize.item_count or 1} {prize.item}" if prize.item else ""
    return f"{plain(prize.amount)}{item}"


def _now(
    settings: Settings, campaign: Campaign, snapshot: Snapshot, settlements: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """How the prizes of a snapshot differ from those that were published; ``reason``: why this is not
    known.
    """
    found: dict[str, Any] = {"as_of": snapshot.result.as_of.isoformat(), "differences": []}
    due = sum(row["awards"] for row in settlements)
    winners = snapshot.result.standings.winners
    if settlements[0]["definition_sha256"] != campaign.sha256:
        return found | {"reason": "the file is another definition than the one that was settled"}
    if max(due, len(winners)) > COMPARED_MAX:
        return found | {"reason": f"there are more than {COMPARED_MAX} awards to compare"}
    rows = awards_of(settings, campaign)
    if len(rows) != due:
        return found | {"reason": "the sink has not stored all awards yet"}
    differing = differences(snapshot.result, newest(rows))
    shown = [
        {
            "player": each.place[0],
            "step": each.place[1],
            "before": _words(each.before),
            "after": _words(each.after),
        }
        for each in differing[:_ROWS]
    ]
    return found | {"reason": None, "differing": len(differing), "differences": shown}


def run_of(settings: Settings, campaign: Campaign, number: int) -> Mapping[str, Any] | None:
    """The stored run of a settlement (0) or review: ``run_id``, ``definition_sha256`` and
    ``result_sha256``; None if there is no such settlement.
    """
    rows = query_rows(
        settings,
        "SELECT run_id, definition_sha256, result_sha256 "
        f"FROM settlements WHERE {_of(campaign)} AND number = {number}",
    )
    return rows[0] if rows else None


def is_intact(settings: Settings, campaign: Campaign) -> bool:
    """Whether the stored rows of the settled result still have its hash."""
    run = run_of(settings, campaign, 0)
    return run is not None and stored_sha256(settings, run["run_id"]) == run["result_sha256"]


def winners(settings: Settings, campaigns: Sequence[Campaign]) -> dict[str, list[dict[str, Any]]]:
    """The first players with a prize of each settled campaign, with its corrections."""
    found: dict[str, list[dict[str, Any]]] = {each.name: [] for each in campaigns}
    rows = query_rows(
        settings,
        f"""
SELECT campaign, player_id, min(placed) AS place, toString(sum(amount_now)) AS amount,
    arrayStringConcat(groupArrayIf(item_now, item_now != ''), '; ') AS items
FROM
(
    SELECT
        campaign,
        player_id,
        step,
        argMax(rank, number) AS placed,
        argMax(amount, number) AS amount_now,
        argMax(words, number) AS item_now
    FROM (SELECT *, if(isNull(item), '', concat(toString(item_count), ' ', item)) AS words FROM awards)
    WHERE (tenant, campaign) IN ({_named(campaigns)})
    GROUP BY campaign, player_id, step
)
WHERE amount_now != 0 OR item_now != ''
GROUP BY campaign, player_id
ORDER BY campaign, place, player_id
LIMIT {WINNERS} BY campaign""",
    )
    for row in rows:
        prize = [plain(Decimal(row["amount"]))] if Decimal(row["amount"]) else []
        prize += [row["items"]] if row["items"] else []
        found[row["campaign"]].append({"player": row["player_id"], "prize": " and ".join(prize)})
    return found
