"""The newest batches of a tenant, and its errors by code."""

from typing import Any

from connectors.clickhouse.literals import quoted
from connectors.status.canonical import Rows, iso
from connectors.status.mending import MENDING

BATCHES_MAX = 20
ERRORS_OF_HOURS = 24

_HOURS = (1, 24, 24 * 7, 24 * 366 * 100)
_EXAMPLE_BYTES = 4000


def newest_batches(rows: Rows, tenant: str) -> list[dict[str, Any]]:
    """The newest batches with their counts, the newest first: of the last hour if there are enough."""
    found: list[dict[str, Any]] = []
    for hours in _HOURS:
        found = rows(
            "SELECT batch_id, any(source) AS posted_as, toString(max(o.received_at)) AS at, "
            "sum(received) AS received, sum(accepted) AS accepted, sum(duplicate) AS duplicate, "
            "sum(conflict) AS conflict, sum(rejected) AS rejected "
            f"FROM ({_of_last(hours, 'outcomes_rows', 'outcome_id', tenant)}) AS o "
            f"GROUP BY batch_id ORDER BY at DESC, batch_id LIMIT {BATCHES_MAX}"
        )
        if len(found) == BATCHES_MAX:
            break
    return [_batch(row) for row in found]


def _of_last(hours: int, table: str, id_column: str, tenant: str) -> str:
    """A query for the newest rows of a tenant, each id once: all rows of an id are the same.

    ``FINAL`` would read the older parts too, and so make the index by receipt useless.
    """
    return (
        f"SELECT * FROM {table} WHERE tenant = {quoted(tenant)} "
        f"AND received_at > now64(6) - INTERVAL {hours} HOUR LIMIT 1 BY {id_column}"
    )


def _batch(row: dict[str, Any]) -> dict[str, Any]:
    counts = {
        name: int(row[name]) for name in ("received", "accepted", "duplicate", "conflict", "rejected")
    }
    return {
        "batch_id": row["batch_id"],
        "source": row["posted_as"],
        "received_at": iso(row["at"]),
        **counts,
        "on_the_way": max(0, 2 * counts["received"] - sum(counts.values())),
    }


def errors_by_code(rows: Rows, tenant: str) -> list[dict[str, Any]]:
    """The refused items of the last day by the code of their first error, the most frequent first, each
    with its newest example.
    """
    newest = "(r.received_at, reject_id)"
    found = rows(
        "SELECT code, count() AS items, toString(max(r.received_at)) AS at, "
        f"argMax(batch_id, {newest}) AS example_batch, argMax(position, {newest}) AS example_index, "
        f"argMax(errors[1].pointer, {newest}) AS pointer, "
        f"argMax(errors[1].message, {newest}) AS message, "
        f"argMax(toValidUTF8(substring(payload, 1, {_EXAMPLE_BYTES})), {newest}) AS item "
        f"FROM ({_of_last(ERRORS_OF_HOURS, 'rejects_rows', 'reject_id', tenant)}) AS r "
        "GROUP BY code ORDER BY items DESC, code"
    )
    return [
        {
            "code": row["code"],
            "items": int(row["items"]),
            "newest_at": iso(row["at"]),
            "mend": MENDING.get(row["code"], ""),
            "example": {
                "batch_id": row["example_batch"],
                "index": row["example_index"],
                "pointer": row["pointer"],
                "message": row["message"],
                "item": row["item"],
            },
        }
        for row in found
    ]
