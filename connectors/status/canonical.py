"""The accepted events in ClickHouse, in the form in which they are shown to operators."""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from connectors.clickhouse.literals import quoted
from connectors.clickhouse.targets import TARGETS
from streams.core.event import Kind
from streams.wire.contracts import schema
from streams.wire.times import from_micros

Rows = Callable[[str], list[dict[str, Any]]]
"""Asks ClickHouse: see :meth:`connectors.clickhouse.query.Reader.rows`."""

Event = Mapping[str, Any]
"""A canonical event by field, of ClickHouse's JSON or of :func:`streams.core.event.to_json`."""

TABLES = {kind: TARGETS[kind.topic].table for kind in Kind}
"""The tables of canonical events, by kind."""


class Accepted(NamedTuple):
    """An item that was accepted: where it was posted, and its canonical events."""

    kind: Kind
    received_at: str
    batch_id: str
    position: int
    events: list[dict[str, Any]]

    @property
    def id(self) -> tuple[str, str]:
        """The item's id within its format: the name of its kind, and the id."""
        event = self.events[0]
        return event["source_event"], event["event_id"]

    @property
    def subject(self) -> str:
        """The player, or the game, that its events are about."""
        subject: str = self.events[0][self.kind.subject_field]
        return subject


def accepted_items(rows: Rows, kind: Kind, condition: str, items_max: int) -> list[Accepted]:
    """The accepted items of a kind that an SQL condition on their events chooses, the newest first.

    A row that a later event with the same id has replaced may still be among them, as an item of the
    batch in which it was posted.
    """
    found = rows(
        f"SELECT DISTINCT * FROM {TABLES[kind]} WHERE {condition} "
        f"ORDER BY received_at DESC, batch_id, position LIMIT {2 * items_max}"  # an item has up to two
    )
    items: dict[tuple[str, int, str], Accepted] = {}
    for row in found:
        event = shown(kind.contract, row)
        key = event["batch_id"], event["position"], event["event_id"]
        item = Accepted(kind, event["received_at"], event["batch_id"], event["position"], [])
        items.setdefault(key, item).events.append(event)
    return list(items.values())[:items_max]


def same_id(kind: Kind, subjects: Iterable[tuple[str, str, str]]) -> str:
    """The SQL condition for events by the player or game, the name of the kind and the id."""
    tuples = ", ".join(f"({', '.join(map(quoted, each))})" for each in subjects)
    return f"({kind.subject_field}, source_event, event_id) IN ({tuples})"


def shown(contract: str, event: Event) -> dict[str, Any]:
    """An event as plain JSON: amounts as the shortest decimal text, times as ISO 8601 in UTC."""
    fields = schema(contract)["fields"]
    return {
        field["name"]: _shown(field["type"], event[field["name"]])
        for field in fields
        if field["name"] in event  # an older version of the contract may lack some
    }


def _shown(node: Any, value: Any) -> Any:
    if isinstance(node, list):
        return None if value is None else _shown(node[1], value)
    if not isinstance(node, dict):
        return value
    match node.get("logicalType", node["type"]):
        case "decimal":
            text = f"{Decimal(value):f}"
            return text.rstrip("0").rstrip(".") if "." in text else text
        case "timestamp-micros":
            return iso(value)
        case "record":
            return {
                field["name"]: _shown(field["type"], value[field["name"]])
                for field in node["fields"]
                if field["name"] in value
            }
        case "array":
            return [_shown(node["items"], entry) for entry in value]
        case "map":
            return {key: _shown(node["values"], entry) for key, entry in value.items()}
    return value


def iso(time: int | str) -> str:
    """A time as ISO 8601: of microseconds since the epoch, or of ClickHouse's text of a time in UTC."""
    if isinstance(time, int):
        return f"{from_micros(time):%Y-%m-%dT%H:%M:%S.%f}Z"
    return f"{time.replace(' ', 'T')}Z"
