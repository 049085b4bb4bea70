"""What can be exported: the seven canonical kinds and rounds, each with its contract."""

import json
from typing import NamedTuple

from fastavro.schema import fingerprint, to_parsing_canonical_form

from connectors.clickhouse.targets import TARGETS
from streams.core.event import Kind
from streams.records.topics import ROUNDS
from streams.wire.contracts import Schema, schema, versions


class Dataset(NamedTuple):
    """A view, its contract, and the table that it reads.

    ``subject``: the column that its rows are sorted by within a tenant; ``time``: that of the event;
    ``received``: that of the receipt, None where later revisions replace a row; ``more``: the columns
    that make its rows unique within subject and time.
    """

    contract: str
    view: str
    table: str
    subject: str
    time: str
    received: str | None
    more: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """The fields of the contract, which are columns of the view."""
        return [field["name"] for field in schema(self.contract)["fields"]]

    def metadata(self) -> dict[str, str]:
        """What a file says about its contract, by key."""
        newest, text = versions(self.contract)[-1], schema(self.contract)
        canonical = to_parsing_canonical_form(text)
        return {
            "contract": self.contract,
            "contract_version": str(newest.number),
            "schema_id": str(newest.schema_id),
            "schema_sha256": fingerprint(canonical, "SHA-256"),
            "schema": json.dumps(text),
            "units": json.dumps(units(text)),
        }


def units(contract: Schema) -> dict[str, str]:
    """The units of the fields that have one: times and exact decimals."""
    found = {}
    for field in contract["fields"]:
        kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
        for kind in kinds:
            logical = kind.get("logicalType") if isinstance(kind, dict) else None
            if logical == "timestamp-micros":
                found[field["name"]] = "microseconds since 1970-01-01T00:00:00 UTC"
            elif logical == "decimal" and field["name"].endswith("amount"):
                found[field["name"]] = f"units of the currency, {kind['scale']} digits after the point"
            elif logical == "decimal":
                found[field["name"]] = f"{kind['scale']} digits after the point"
    return found


def _of_kind(kind: Kind) -> Dataset:
    more: tuple[str, ...] = ("source", "source_event", "event_id")
    if kind is Kind.GAME_TRANSACTION:
        more = (*more, "type")
    view = TARGETS[kind.topic].table.removesuffix("_rows")
    table = TARGETS[kind.topic].stored
    return Dataset(kind.contract, view, table, kind.subject_field, "occurred_at", "received_at", more)


_ROUNDS = Dataset(
    contract="round",
    view="rounds",
    table=TARGETS[ROUNDS].stored,
    subject="player_id",
    time="first_event_at",
    received=None,
    more=("round_id", "segment"),
)
DATASETS = {dataset.view: dataset for dataset in (*map(_of_kind, Kind), _ROUNDS)}
"""Every dataset by the name of its view."""
