"""Writes a Parquet file of one month, with its contract in the metadata; all or nothing.

A file has its name only when it is complete: it is written beside, flushed to the disk and renamed.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

import pyarrow
from pyarrow import ipc, parquet

from streams.wire.contracts import Schema

PREFIX = "roundhouse."
"""Begins the keys of this program in a file's metadata."""


class Written(NamedTuple):
    """A complete file: the number of its rows and bytes, and the SHA-256 of all of it."""

    rows: int
    bytes: int
    sha256: str


class _Hashing:
    """A file that is written from its beginning to its end, and hashed meanwhile."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.size = 0

    @property
    def closed(self) -> bool:
        return self._file.closed

    @property
    def sha256(self) -> str:
        """The digest of what was written so far."""
        return self._sha256.hexdigest()

    def write(self, data: bytes) -> int:
        view = memoryview(data).cast("B")
        self._sha256.update(view)
        self.size += len(view)
        return self._file.write(view)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


def write(
    path: Path, streams: Iterator[bytes], contract: Schema, metadata: Mapping[str, str]
) -> Written | None:
    """Writes Arrow streams of one schema as a file, each as row groups; None if they have no rows.

    The metadata gets ``rows``, and ``data_sha256``: the hash of the file's bytes before its footer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    rows = 0
    with open(unfinished, "wb") as opened:
        file = _Hashing(opened)
        writer: parquet.ParquetWriter | None = None
        for stream in streams:
            table = ipc.open_stream(stream).read_all()
            if not table.num_rows:
                continue
            if writer is None:
                described = _described(table.schema, contract)
                sink = pyarrow.PythonFile(file, mode="w")
                writer = parquet.ParquetWriter(sink, described, compression="zstd")
            writer.write_table(table.cast(described), row_group_size=table.num_rows)
            rows += table.num_rows
        if writer is None:
            unfinished.unlink()
            return None
        given = {**metadata, "rows": str(rows), "data_sha256": file.sha256}
        writer.add_key_value_metadata({PREFIX + key: value for key, value in given.items()})
        writer.close()
        opened.flush()
        os.fsync(opened.fileno())
    unfinished.replace(path)
    return Written(rows, file.size, file.sha256)


def _described(columns: pyarrow.Schema, contract: Schema) -> pyarrow.Schema:
    """The columns with the docs of the contract's fields."""
    docs = {field["name"]: field["doc"] for field in contract["fields"]}
    return pyarrow.schema([column.with_metadata({"doc": docs[column.name]}) for column in columns])
