"""Compares kept rounds with the stored events of each, and writes what the events give.

One call looks at the rounds of a tenant whose first event lies in one month, of the players of one
slice. A row is written with the revision that it has, so a later revision of the line replaces it, and
a call can be repeated. A row that has counted more events than are stored is left as it is: the sink
may not have inserted them yet.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from math import ceil

import msgspec
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.literals import quoted

SAME, CONFIRMED, DIFFERS, SEVERAL, LACKING = (
    "same",
    "confirmed",
    "differs",
    "several segments",
    "events missing",
)
VERDICTS = SAME, CONFIRMED, DIFFERS, SEVERAL, LACKING
_AROUND = timedelta(days=31)
_ROWS = 1_000_000
_COUNTED = "bet", "win", "loss", "rollback_bet", "rollback_win"
_WITH_AMOUNTS = "bet", "win", "rollback_bet", "rollback_win"


class Slice(msgspec.Struct):
    """A tenant's rounds of the month that begins with ``month``, of the players of slice ``number`` of
    ``slices``. ``write``: whether rows are written."""

    tenant: str
    month: date
    number: int
    slices: int
    write: bool


def counts(tenant: str) -> str:
    """A query for the months of a tenant, each with the number of its rows."""
    return (
        "SELECT toStartOfMonth(day) AS month, count() AS rows FROM rounds_by_day_rows "
        f"WHERE tenant = {quoted(tenant)} GROUP BY month ORDER BY month"
    )


def slices(tenant: str, month: date, rows: int, write: bool) -> list[Slice]:
    """A month in slices of about a million rows."""
    number = ceil(rows / _ROWS)
    return [Slice(tenant, month, each, number, write) for each in range(number)]


def _of(tenant: str, month: date) -> str:
    start, end = quoted(month.isoformat()), quoted(_next(month).isoformat())
    return f"tenant = {quoted(tenant)} AND day >= {start} AND day < {end}"


def _next(month: date) -> date:
    return (month.replace(day=1) + timedelta(days=32)).replace(day=1)


def _values() -> dict[str, str]:
    """What the events of a round give, by column."""
    return {
        "first_event_at": "min(occurred_at)",
        "last_event_at": "max(occurred_at)",
        "last_received_at": "max(received_at)",
        "first_bet_at": "minOrNullIf(occurred_at, type = 'bet')",
        "game_id": "argMin(game_id, (occurred_at, game_id))",
        "counts": "min(counts)",
        **{f"{kind}_count": f"toInt32(countIf(type = '{kind}'))" for kind in _COUNTED},
        **{
            f"{kind}_{column}": f"sumIf({column}, type = '{kind}')"
            for kind in _WITH_AMOUNTS
            for column in ("amount", "bonus_amount")
        },
        "largest_win_amount": "maxIf(amount, type = 'win')",
    }


def _compared(wanted: Slice) -> str:
    """The kept rows of a slice with what their events give, and the verdict on each."""
    of_slice = f"cityHash64(player_id) % {wanted.slices} = {wanted.number}"
    mine = f"{_of(wanted.tenant, wanted.month)} AND {of_slice}"
    tenant = f"tenant = {quoted(wanted.tenant)} AND {of_slice}"
    since = quoted((wanted.month - _AROUND).isoformat())
    until = quoted((_next(wanted.month) + _AROUND).isoformat())
    values = _values()
    given = ",\n    ".join(f"{expression} AS e_{name}" for name, expression in values.items())
    fewer = " OR ".join(f"e_{kind}_count < {kind}_count" for kind in _COUNTED)
    equal = " AND ".join(f"e_{name} = {name}" for name in values if name != "first_bet_at")
    return f"""
SELECT
    kept.*,
    events.* EXCEPT (player_id, round_id),
    multiIf(
        (player_id, round_id) IN
        (
            SELECT player_id, round_id FROM rounds_by_day_rows
            WHERE {tenant} AND day >= {since} AND day < {until}
            GROUP BY player_id, round_id HAVING min(segment) < max(segment)
        ),
        '{SEVERAL}',
        stored = 0 OR {fewer},
        '{LACKING}',
        NOT ({equal} AND ifNull(first_bet_at = e_first_bet_at, isNull(first_bet_at))),
        '{DIFFERS}',
        in_doubt,
        '{CONFIRMED}',
        '{SAME}'
    ) AS verdict
FROM
(
    SELECT * FROM rounds_by_day_rows FINAL WHERE {mine} AND day = toDate32(first_event_at)
) AS kept
LEFT JOIN
(
    SELECT
    player_id,
    round_id,
    count() AS stored,
    {given}
    FROM game_transactions_rows FINAL
    WHERE {tenant}
        AND (player_id, round_id) IN (SELECT player_id, round_id FROM rounds_by_day_rows WHERE {mine})
    GROUP BY player_id, round_id
) AS events USING (player_id, round_id)"""


def rebuild(client: Client, wanted: Slice) -> dict[str, int]:
    """Compares a slice; returns the number of rounds by verdict.

    Rows that differ from their events are written as the events give them, and no longer ``in_doubt``;
    rows of rounds with several segments are marked ``in_doubt``, so that campaigns read their events. A
    row is left as it is if fewer events are stored than it has counted. Raises ``ClickHouseError``.
    """
    compared = _compared(wanted)
    counted = client.query(f"SELECT verdict, count() FROM ({compared}) GROUP BY verdict").result_rows
    found = {str(verdict): int(rows) for verdict, rows in counted}
    if wanted.write and found.keys() - {SAME, LACKING}:
        described = client.query("DESCRIBE TABLE rounds_by_day_rows").result_rows
        columns = [str(name) for name, *_ in described]
        client.command(_written(columns, compared), settings={"max_partitions_per_insert_block": 0})
    return found


def _written(columns: Sequence[str], compared: str) -> str:
    values = _values()
    stored = [name for name in columns if name not in ("in_doubt", "day")]
    chosen = [
        f"if(verdict = '{SEVERAL}', {name}, e_{name}) AS w_{name}" if name in values else name
        for name in stored
    ]
    names = [f"w_{name}" if name in values else name for name in stored]
    return f"""
INSERT INTO rounds_by_day_rows ({", ".join(stored)}, in_doubt, day)
SELECT
    {", ".join(names)},
    verdict = '{SEVERAL}' AS is_in_doubt,
    arrayJoin(arrayDistinct(arrayConcat(
        [toDate32(w_first_event_at), toDate32(ifNull(w_first_bet_at, w_first_event_at))],
        arrayMap(
            number -> toDate32(w_last_event_at) - number,
            range(toUInt16(greatest(0, least(62, dateDiff('day', w_first_event_at, w_last_event_at)))))
        )
    ))) AS w_day
FROM
(
    SELECT {", ".join(chosen)}, verdict
    FROM ({compared})
    WHERE verdict IN ('{CONFIRMED}', '{DIFFERS}') OR (verdict = '{SEVERAL}' AND NOT in_doubt)
)"""
