"""The queries at the end of the demo, and their results as tables."""

import json
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table

QUESTIONS = {
    "What became of the items": """
SELECT tenant, received, accepted, duplicate, conflict, rejected, unsettled
FROM accounting
ORDER BY tenant
""",
    "Gross gaming revenue, return to player, active players": """
SELECT
    tenant,
    currency,
    count() AS rounds,
    uniqExact(player_id) AS players,
    sum(stake) AS turnover,
    sum(ggr) AS ggr,
    round(toFloat64(sum(payout)) / toFloat64(sum(stake)) * 100, 1) AS rtp_percent
FROM rounds
GROUP BY tenant, currency
ORDER BY tenant, currency
""",
    "Top games by turnover": """
SELECT
    r.tenant AS tenant,
    r.game_id AS game_id,
    any(g.name) AS game,
    any(g.provider) AS provider,
    count() AS rounds,
    sum(r.stake) AS turnover,
    sum(r.ggr) AS ggr
FROM rounds AS r
LEFT JOIN games AS g ON g.tenant = r.tenant AND g.game_id = r.game_id
GROUP BY tenant, game_id
ORDER BY tenant, turnover DESC, game_id
LIMIT 3 BY tenant
""",
    "Wagering leaderboard (real money)": """
SELECT
    r.tenant AS tenant,
    row_number() OVER (PARTITION BY tenant ORDER BY wagered DESC, player_id) AS rank,
    r.player_id AS player_id,
    any(p.country) AS country,
    sum(r.stake - r.bonus_stake) AS wagered
FROM rounds AS r
LEFT JOIN players AS p ON p.tenant = r.tenant AND p.player_id = r.player_id
WHERE r.counts
GROUP BY tenant, player_id
ORDER BY tenant, rank
LIMIT 3 BY tenant
""",
}
"""The queries by title. docs/analysts.md shows them and explains the columns."""


def show(console: Console, title: str, answer: str) -> None:
    """Prints a JSON answer of ``roundhouse sql`` as a table."""
    document = json.loads(answer, parse_float=Decimal)
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in document["meta"]:
        numeric = column["type"].startswith(("UInt", "Int", "Decimal", "Float"))
        table.add_column(column["name"], justify="right" if numeric else "left")
    for row in document["data"]:
        cells = zip(row.values(), document["meta"], strict=True)
        table.add_row(*(_cell(value, column["type"]) for value, column in cells))
    console.print(table)


def _cell(value: Any, kind: str) -> str:
    if value is None:
        return "-"
    if kind.startswith("Decimal"):
        return f"{Decimal(str(value)):,.2f}"
    if kind.startswith(("UInt", "Int")):
        return f"{int(value):,}"
    return str(value)


def curl_example(url: str, key: str) -> str:
    """A command that posts one bet."""
    event = {
        "event": "gameround",
        "data": {
            "unique_id": "bet-1",
            "timestamp": "2026-03-14T12:00:00Z",
            "player_id": "player-1",
            "game_id": "game-1",
            "round_id": "round-1",
            "amount": 1.25,
            "currency": "EUR",
            "is_win": False,
            "is_bonus": False,
        },
    }
    return (
        f"curl -i {url}/api/v1/events \\\n"
        f"  -H 'x-api-key: {key}' \\\n"
        "  -H 'content-type: application/json' \\\n"
        f"  -d '{json.dumps([event])}'"
    )
