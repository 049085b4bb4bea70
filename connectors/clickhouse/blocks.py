"""Blocks to insert: rows of Avro, converted to columns.

The rows of a block have one schema. ClickHouse decodes Avro value by value. If there was a C compiler
at installation, a module in C makes the columns, which ClickHouse then reads directly; otherwise
Polars makes them, for three times the CPU. A property test compares both with what ClickHouse decodes.
"""

from io import BytesIO
from typing import NamedTuple

import polars
from polars.exceptions import PolarsError

from streams.errors import SinkMismatch
from streams.wire.avro import Container

try:
    from connectors.clickhouse import _columns
except ImportError:
    _columns = None  # type: ignore[assignment]

compiled = _columns
"""The module in C; None if there was no C compiler at installation."""

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


class Blocks:
    """Makes the blocks of the rows that one version of a contract has written."""

    def __init__(self, contract: str, container: Container) -> None:
        self._contract = contract
        self._container = container
        self._in_c = None if compiled is None else _columns_of(container)

    def of(self, rows: list[bytes]) -> Block:
        """The block of Avro datums. Raises ``SinkMismatch`` if they are not of the version."""
        try:
            if self._in_c is not None:
                return Block("Native", self._in_c.block(rows))
            if self._contract in AS_ROWS:
                return Block("Avro", self._container.file(rows))
            return Block("ArrowStream", _with_polars(self._container.file(rows)))
        except (ValueError, PolarsError, OSError) as error:
            raise SinkMismatch(f"rows that are not of the contract {self._contract}: {error}") from None


def _columns_of(container: Container) -> "_columns.Columns | None":
    try:
        return _columns.Columns(container.schema)
    except ValueError:  # a type that the module does not know
        return None


def _with_polars(file: bytes) -> bytes:
    columns = BytesIO()
    polars.read_avro(BytesIO(file)).write_ipc_stream(columns, compat_level=polars.CompatLevel.oldest())
    return columns.getvalue()
