"""What differs between an item that was refused as a conflict and the accepted item with its id."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from connectors.clickhouse.literals import quoted
from connectors.status.canonical import Accepted, Rows, accepted_items, same_id, shown
from streams.core.event import Kind
from streams.formats import KINDS
from streams.wire.avro import field_index
from streams.wire.contracts import schema

CODE = "id_conflict"
"""The code of the rejects that have an accepted item with the same id and other content."""


class Conflict(NamedTuple):
    """A reject with the code :data:`CODE`; ``payload`` has a line for each of its canonical events."""

    reject_id: str
    source: str
    payload: str

    def item(self) -> "_Item":
        """What was refused, in the form of what was accepted."""
        events = [json.loads(line) for line in self.payload.split("\n")]
        kind = KINDS[self.source][events[0]["source_event"]]
        return _Item(kind, [shown(kind.contract, event) for event in events])


class _Item(NamedTuple):
    kind: Kind
    events: list[dict[str, Any]]

    @property
    def key(self) -> tuple[str, str, str]:
        event = self.events[0]
        return event[self.kind.subject_field], event["source_event"], event["event_id"]


class Compared(NamedTuple):
    """The newest accepted item with the id of a conflict, and the fields in which the two differ.

    A field is a path of names (``selections/0/odds``) with the value ``accepted`` and the value
    ``refused``.
    """

    accepted: Accepted
    fields: list[dict[str, Any]]


def with_accepted(rows: Rows, tenant: str, conflicts: Sequence[Conflict]) -> dict[str, Compared]:
    """The conflicts of a tenant compared, by reject id. A conflict is left out if ClickHouse has no
    accepted item with its id.
    """
    refused = {conflict: conflict.item() for conflict in conflicts}
    known: dict[tuple[str, Kind, str, str, str], Accepted] = {}
    for source, kind in {(conflict.source, item.kind) for conflict, item in refused.items()}:
        keys = [
            item.key
            for conflict, item in refused.items()
            if (conflict.source, item.kind) == (source, kind)
        ]
        condition = f"tenant = {quoted(tenant)} AND source = {quoted(source)} AND {same_id(kind, keys)}"
        for accepted in accepted_items(rows, kind, condition, 10 * len(keys)):
            known.setdefault((source, kind, accepted.subject, *accepted.id), accepted)
    found = {}
    for conflict, item in refused.items():
        accepted_item = known.get((conflict.source, item.kind, *item.key))
        if accepted_item is not None:
            fields = differences(item.kind, accepted_item.events, item.events)
            found[conflict.reject_id] = Compared(accepted_item, fields)
    return found


def differences(
    kind: Kind, accepted: Sequence[dict[str, Any]], refused: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The fields in which the events of two items differ, but for those of their delivery.

    The time of Gameball's events is that of their receipt, so it is left out.
    """
    both = accepted, refused
    several = any(len(events) > 1 for events in both)
    left, right = (dict(_leaves(kind, events, several)) for events in both)
    return [
        {"field": "/".join(path), "accepted": left.get(path), "refused": right.get(path)}
        for path in dict.fromkeys((*left, *right))
        if left.get(path) != right.get(path)
    ]


def _leaves(
    kind: Kind, events: Sequence[dict[str, Any]], several: bool
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values of the content of an item's events, by path."""
    fields = [field["name"] for field in schema(kind.contract)["fields"]]
    content = fields[field_index(schema(kind.contract), "position") + 1 :]
    for event in events:
        within = (event["type"],) if several else ()  # a bet and a win
        for name in content:
            if name != "occurred_at" or event["source"] != "gameball":
                yield from _within((*within, name), event.get(name))


def _within(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    inner: Iterable[tuple[str, Any]]
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = ((str(index), entry) for index, entry in enumerate(value))
    else:
        yield path, value
        return
    for name, entry in inner:
        yield from _within((*path, name), entry)


def shown_differences(compared: Compared | None) -> dict[str, Any]:
    """The fields of an answer about a conflict; none if its accepted item was not found."""
    if compared is None:
        return {}
    accepted = compared.accepted
    return {
        "accepted": {
            "received_at": accepted.received_at,
            "batch_id": accepted.batch_id,
            "index": accepted.position,
        },
        "differences": compared.fields,
    }
