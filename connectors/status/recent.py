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
            f"FROM outcomes AS o WHERE tenant = {quoted(tenant)} "
            f"AND o.received_at > now64(6) - INTERVAL {hours} HOUR "
            f"GROUP BY batch_id ORDER BY at DESC, batch_id LIMIT {BATCHES_MAX}"
        )
        if len(found) == BATCHES_MAX:
            break
    return [_batch(row) for row in found]


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
        f"FROM rejects AS r WHERE tenant = {quoted(tenant)} "
        f"AND r.received_at > now64(6) - INTERVAL {ERRORS_OF_HOURS} HOUR "
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
