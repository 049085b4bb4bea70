"""The rejects in ClickHouse, and the record of their replays."""

import base64
import getpass
import json
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from typing import NamedTuple, Self

from connectors.clickhouse.literals import moment, quoted
from connectors.clickhouse.query import insert, query_rows
from connectors.status.differences import CODE, Compared, Conflict, with_accepted
from streams.errors import ConfigurationError
from streams.settings import Settings


class Filter(NamedTuple):
    """Which rejects; a value that is not given excludes none.

    ``received_from`` and ``received_to`` bound when the edge received the request, the second
    exclusive. ``outcome`` is ``rejected`` or ``conflict``.
    """

    tenant: str | None = None
    code: str | None = None
    outcome: str | None = None
    batch_id: str | None = None
    received_from: datetime | None = None
    received_to: datetime | None = None
    reject_ids: tuple[str, ...] = ()
    replayed: bool | None = None

    def condition(self) -> str:
        """The filter as an SQL condition on ``rejects``."""
        parts = ["true"]
        for column in ("tenant", "code", "outcome", "batch_id"):
            value = getattr(self, column)
            if value is not None:
                parts.append(f"{column} = {quoted(value)}")
        if self.received_from is not None:
            parts.append(f"received_at >= {moment(self.received_from)}")
        if self.received_to is not None:
            parts.append(f"received_at < {moment(self.received_to)}")
        if self.reject_ids:
            parts.append(f"reject_id IN ({', '.join(map(quoted, self.reject_ids))})")
        if self.replayed is not None:
            within = "IN" if self.replayed else "NOT IN"
            parts.append(f"(tenant, reject_id) {within} (SELECT tenant, reject_id FROM replays)")
        return " AND ".join(parts)


class StoredReject(NamedTuple):
    """A row of ``rejects``; ``errors`` are ``{"code", "pointer", "message"}``."""

    reject_id: str
    tenant: str
    source: str
    batch_id: str
    received_at: str
    position: int
    raw_partition: int
    raw_offset: int
    stage: str
    outcome: str
    code: str
    errors: list[dict[str, str]]
    payload_format: str
    payload: bytes

    @classmethod
    def of(cls, row: dict[str, object]) -> Self:
        """A reject from a row of ClickHouse's JSON, whose ``payload`` is in base 64."""
        payload = base64.b64decode(str(row["payload"]))
        integers = {name: int(str(row[name])) for name in ("position", "raw_partition", "raw_offset")}
        return cls(**{**row, **integers, "payload": payload})  # type: ignore[arg-type]


def find(settings: Settings, chosen: Filter, items_max: int) -> list[StoredReject]:
    """The rejects that the filter chooses, at most ``items_max``, in the order of their raw records."""
    columns = ", ".join(
        "base64Encode(payload) AS payload" if name == "payload" else name
        for name in StoredReject._fields
    )
    sql = (
        f"SELECT {columns} FROM rejects WHERE {chosen.condition()} "
        f"ORDER BY raw_partition, raw_offset, position LIMIT {items_max}"
    )
    return [StoredReject.of(row) for row in query_rows(settings, sql)]


def count(settings: Settings, chosen: Filter) -> dict[tuple[str, str], int]:
    """The number of rejects that the filter chooses, by tenant and code."""
    sql = (
        f"SELECT tenant, code, count() AS items FROM rejects WHERE {chosen.condition()} "
        "GROUP BY tenant, code ORDER BY tenant, code"
    )
    rows = query_rows(settings, sql)
    return {(row["tenant"], row["code"]): int(row["items"]) for row in rows}


def compared(settings: Settings, reject: StoredReject) -> Compared | None:
    """A conflict and the accepted item with its id; None for other rejects, or if it is not found."""
    if reject.code != CODE or not reject.payload:  # an erasure empties it
        return None
    conflict = Conflict(reject.reject_id, reject.source, reject.payload.decode())
    return with_accepted(partial(query_rows, settings), reject.tenant, [conflict]).get(reject.reject_id)


class Replay(NamedTuple):
    """A row of ``replays``: a reject that was written to ``raw.batches`` again, in which batch."""

    replay_id: str
    replayed_at: str
    replayed_by: str
    reason: str
    tenant: str
    reject_id: str
    batch_id: str
    mended: bool


def record(settings: Settings, replays: Iterable[Replay]) -> None:
    """Stores who replays what, before it is written."""
    insert(settings, "replays", [replay._asdict() for replay in replays])


class Correction(NamedTuple):
    """A row of ``corrections``: a conflict that was accepted in the place of an accepted item."""

    corrected_at: str
    corrected_by: str
    reason: str
    tenant: str
    reject_id: str
    batch_id: str
    source: str
    source_event: str
    event_id: str
    replaced: str
    replacement: str


def record_correction(settings: Settings, correction: Correction) -> None:
    """Stores who corrects what, before it is written."""
    insert(settings, "corrections", [correction._asdict()])


def login() -> str:
    """The name of the user who runs the command. Raises ``ConfigurationError`` if it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise ConfigurationError("this user has no name: say who replays with --by NAME") from None


def as_line(reject: StoredReject) -> str:
    """A reject as one JSON object; the item stands in it digit for digit as it was posted."""
    shown = {
        name: value
        for name, value in reject._asdict().items()
        if name not in ("payload", "payload_format", "raw_partition", "raw_offset", "stage")
    }
    item = reject.payload.decode(errors="replace")
    if reject.payload_format != "item":
        item = json.dumps(item)
    return f'{json.dumps(shown)[:-1]}, "item": {" ".join(item.splitlines())}}}'
