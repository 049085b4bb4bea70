"""The data of the console as plain JSON values; amounts are text, so that no digit is lost."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from connectors.campaigns import evaluation
from connectors.campaigns.definition import Definition, load
from connectors.clickhouse.literals import quoted
from connectors.clickhouse.query import query_rows
from streams.core.event import is_test
from streams.errors import DefinitionError
from streams.kafka.lag import records_behind
from streams.settings import Settings

GRAINS = ("hour", "day", "week", "month")
_PERIODS = 72
_MINUTES = 30


def campaigns(folder: Path) -> tuple[list[Definition], list[str]]:
    """The definitions in a folder, and the errors of files that are not definitions."""
    found, wrong = [], []
    for path in sorted(folder.glob("*.yaml")):
        try:
            found.append(load(path))
        except DefinitionError as error:
            wrong.append(str(error).replace(str(folder), folder.name))
    return found, wrong


def standings(settings: Settings, definition: Definition, top: int) -> dict[str, Any]:
    """The live standings of a campaign."""
    campaign = definition.campaign
    result = evaluation.evaluate(settings, campaign)
    start, end = campaign.period.utc()
    now = datetime.now(UTC)
    return {
        "name": campaign.name,
        "title": campaign.title or campaign.name,
        "tenant": campaign.tenant,
        "measure": campaign.scored.replace("_", " "),
        "form": campaign.form.kind.replace("_", " "),
        "currency": campaign.counts.currency or "",
        "from": start.isoformat(),
        "to": end.isoformat(),
        "state": "not begun" if now < start else "running" if now < end else "over",
        "players": len(result.standings),
        "cost": _text(result.cost),
        "unsettled": result.unsettled,
        "left_out": result.left_out,
        "standings": [
            {
                "rank": standing.rank,
                "player": standing.player_id,
                "score": _text(standing.score),
                "step": standing.step,
                "prize": _text(standing.prize),
            }
            for standing in result.standings[:top]
        ],
    }


def kpis(settings: Settings, tenant: str, grain: str) -> list[dict[str, Any]]:
    """KPIs of the newest periods of a tenant in each currency, oldest first."""
    found = query_rows(
        settings,
        "SELECT toString(period) AS period, currency, rounds, active_players, toString(turnover) AS "
        "turnover, toString(ggr) AS ggr, toString(ngr) AS ngr, rtp, hold "
        f"FROM kpi_play(grain = {quoted(grain)}, by = 'tenant', reporting = '') "
        f"WHERE tenant = {quoted(tenant)} ORDER BY period DESC, currency LIMIT {_PERIODS}",
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
    return {
        name: int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value
        for name, value in row.items()
    }


def _text(amount: object) -> str:
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
