"""Blocks to insert: rows of Avro, converted to columns.

The rows of a block have one schema. ClickHouse decodes Avro value by value; Polars does so in a
third of the time or less, and ClickHouse reads the resulting columns directly.
"""

from io import BytesIO
from typing import NamedTuple

import polars
from polars.exceptions import PolarsError

from streams.errors import SinkMismatch
from streams.wire.avro import Container

AS_ROWS = frozenset(("custom-event", "game", "reject"))
"""Contracts that Polars 2.1 does not read: maps, lists of records, lists that may be null."""


class Block(NamedTuple):
    """Rows in one of ClickHouse's formats."""

    format: str
    data: bytes


def received_at(container: Container, outcomes: list[bytes]) -> list[int]:
    """When the edge received the requests of outcomes of the stage process (µs, epoch)."""
    file = BytesIO(container.file(outcomes))
    frame = polars.read_avro(file, columns=["received_at", "stage"])
    received: list[int] = (
        frame.filter(polars.col("stage") == "process")["received_at"].dt.timestamp("us").to_list()
    )
    return received


def block(contract: str, container: Container, rows: list[bytes]) -> Block:
    """The block of Avro datums that were written by the version of ``container``.

    Raises ``SinkMismatch`` if Polars cannot read them as that version.
    """
    file = container.file(rows)
    if contract in AS_ROWS:
        return Block("Avro", file)
    columns = BytesIO()
    try:
        frame = polars.read_avro(BytesIO(file))
    except (PolarsError, OSError) as error:
        raise SinkMismatch(f"rows that are not of the contract {contract}: {error}") from None
    frame.write_ipc_stream(columns, compat_level=polars.CompatLevel.oldest())
    return Block("ArrowStream", columns.getvalue())
