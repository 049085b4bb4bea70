"""When an event was accepted, from which batch, and the refusals of its id."""

import json
import re
from typing import Any

from connectors.clickhouse.literals import quoted
from connectors.status.canonical import Rows, accepted_items, iso
from connectors.status.differences import CODE, Conflict, shown_differences, with_accepted
from streams.core.identity import key_of
from streams.formats import KINDS

SHOWN_MAX = 100
"""Most acceptances, and most refusals, of one id that are shown, the newest first."""

_SEARCHED_MAX = 1000
_PLAIN = re.compile(r"[A-Za-z0-9_.:-]+")
_IDS = {
    "realtime-payment": ("payment_id", "type", "status"),
    "realtime-sports-bet": ("activity_id", "type", "status"),
}


def history(
    rows: Rows, tenant: str, source: str, name: str, event_id: str, *, subject: str | None = None
) -> dict[str, Any]:
    """What is known of the id of an event; ``name`` is the format's name of its kind.

    With its ``subject`` (player, or game) the accepted event is found by the key of its table.
    """
    kind = KINDS[source][name]
    condition = (
        f"tenant = {quoted(tenant)} AND source = {quoted(source)} AND source_event = {quoted(name)} "
        f"AND event_id = {quoted(event_id)}"
    )
    if subject is not None:
        condition += f" AND {kind.subject_field} = {quoted(subject)}"
    return {
        "source": source,
        "kind": name,
        "id": event_id,
        "accepted": [
            {
                "received_at": item.received_at,
                "batch_id": item.batch_id,
                "index": item.position,
                "contract": kind.contract,
                "events": item.events,
            }
            for item in accepted_items(rows, kind, condition, SHOWN_MAX)
        ],
        "refused": _refused(rows, tenant, source, name, event_id),
    }


def _refused(rows: Rows, tenant: str, source: str, name: str, event_id: str) -> list[dict[str, Any]]:
    """The rejects of an id, the newest first. ClickHouse searches them for a part of the id, and their
    payload decides.
    """
    part = max(_PLAIN.findall(event_id), key=len, default="")
    found = rows(
        "SELECT reject_id, batch_id, position, toString(r.received_at) AS at, outcome, code, errors, "
        "payload, payload_format = 'canonical' AS is_canonical FROM rejects AS r "
        f"WHERE tenant = {quoted(tenant)} AND source = {quoted(source)} AND payload_format != 'record' "
        "AND payload != '' "  # an erasure empties it
        f"AND position(payload, {quoted(part)}) > 0 "
        f"ORDER BY r.received_at DESC, reject_id LIMIT {_SEARCHED_MAX}"
    )
    of_the_id = [row for row in found if id_of(row["payload"], row["is_canonical"]) == (name, event_id)]
    own = of_the_id[:SHOWN_MAX]
    conflicts = [
        Conflict(row["reject_id"], source, row["payload"]) for row in own if row["code"] == CODE
    ]
    compared = with_accepted(rows, tenant, conflicts)
    return [
        {
            "received_at": iso(row["at"]),
            "batch_id": row["batch_id"],
            "index": row["position"],
            "reject_id": row["reject_id"],
            "outcome": row["outcome"],
            "errors": row["errors"],
        }
        | shown_differences(compared.get(row["reject_id"]))
        for row in own
    ]


def id_of(payload: str, is_canonical: bool) -> tuple[str, str] | None:
    """The kind and the id of a refused item; its payload is its JSON, or that of its canonical events.

    None if it has none: an invalid item may lack it, and an event of Gameball has its name and its id
    outside of what is kept of it.
    """
    if is_canonical:
        event = json.loads(payload.split("\n")[0])
        return event["source_event"], event["event_id"]
    try:
        item = json.loads(payload)
    except ValueError:
        return None
    if not isinstance(item, dict):
        return None
    name, data = item.get("event"), item.get("data")
    if not isinstance(name, str) or not isinstance(data, dict):
        return None
    parts = [data.get(field) for field in _IDS.get(name, ("unique_id",))]
    if not all(isinstance(part, str) for part in parts):
        return None
    return name, str(parts[0]) if len(parts) == 1 else key_of(*map(str, parts))
