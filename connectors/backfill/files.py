"""The items of a file as JSON text, one after another in bounded memory."""

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import msgspec

from connectors.backfill.entry import Entry, Problem
from connectors.backfill.mapping import Mapping, Rows
from streams.errors import ConfigurationError, EnvelopeError
from streams.formats.bulk_body import texts_of
from streams.wire import json_text

BODY_BYTES_MAX = 128 * 1024 * 1024
"""Largest file that is one JSON body: it is read as a whole."""

SUFFIXES = {".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "json", ".csv": "csv"}
"""What a file holds, by the suffix of its name without ``.gz``."""

_BOM = b"\xef\xbb\xbf"
_value = msgspec.json.Decoder(msgspec.Raw).decode


class Source(NamedTuple):
    """A file, what it holds in which format, and the number of bytes above which an item is refused.

    ``mapping`` is that of a CSV file.
    """

    path: Path
    holds: str
    format: str
    item_bytes_max: int
    mapping: Mapping | None = None

    @property
    def unit(self) -> str:
        """What :attr:`Entry.number` counts."""
        return "item" if self.holds == "json" else "line"


def holds_of(path: Path) -> str:
    """What a file holds, by its name. Raises ``ConfigurationError`` if the name does not say it."""
    name = path.with_suffix("") if path.suffix == ".gz" else path
    found = SUFFIXES.get(name.suffix)
    if found is None:
        raise ConfigurationError(
            f"{path}: its name ends in none of {', '.join(SUFFIXES)} (or one of them and .gz); say "
            "what it holds with --holds"
        )
    return found


def digest_of(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entries(source: Source) -> Iterator[Entry]:
    """The items of a file. Raises ``ConfigurationError`` if the file as a whole cannot be read."""
    with _opened(source.path) as stream:
        try:
            if source.mapping is not None:
                rows = Rows(source.mapping, source.format, source.item_bytes_max)
                yield from rows.entries(stream, str(source.path))
            elif source.holds == "json":
                yield from _body(source, stream)
            else:
                yield from _lines(source, stream)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ConfigurationError(
                f"{source.path} is not whole gzip: {error}. The items before this place were read."
            ) from None


def _opened(path: Path) -> BinaryIO:
    with open(path, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path)) if compressed else open(path, "rb")


def _lines(source: Source, stream: BinaryIO) -> Iterator[Entry]:
    longest = source.item_bytes_max
    number = 0
    while line := stream.readline(longest + 1):
        number += 1
        if len(line) > longest and not line.endswith(b"\n"):
            while (rest := stream.readline(longest)) and not rest.endswith(b"\n"):
                pass
            yield Entry(number, b"", _too_long(longest))
            continue
        text = line.removeprefix(_BOM).strip() if number == 1 else line.strip()
        if text:
            yield Entry(number, text)


def _too_long(longest: int) -> Problem:
    return Problem("body_too_large", "", f"It has more than {longest} bytes.")


def problem_of(text: bytes) -> Problem | None:
    """Why a text is not one JSON value; None if it is."""
    try:
        json_text.text_of(text)
        try:
            _value(text)
        except (ValueError, RecursionError):  # perhaps only a number beyond msgspec's range
            json_text.decode(text)
    except EnvelopeError as error:
        return Problem(error.code, "", error.message)
    return None


def _body(source: Source, stream: BinaryIO) -> Iterator[Entry]:
    body = stream.read(BODY_BYTES_MAX + 1)
    if len(body) > BODY_BYTES_MAX:
        raise ConfigurationError(
            f"{source.path}: a JSON body is read as a whole and may have {BODY_BYTES_MAX} bytes. Write "
            "its items one on a line (`jq -c '.items[]'`), and read that as NDJSON."
        )
    body = body.removeprefix(_BOM)
    try:
        texts = [body.strip()] if source.format == "gameball" else texts_of(body)
    except EnvelopeError as error:
        raise ConfigurationError(f"{source.path}: {error.code} at {error.pointer}: {error}") from None
    for index, text in enumerate(texts):
        longest = source.item_bytes_max
        yield Entry(index, text, _too_long(longest) if len(text) > longest else None)
