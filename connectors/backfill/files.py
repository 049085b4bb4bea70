"""The items of a file as JSON text, one after another in bounded memory."""

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import msgspec

from streams.errors import ConfigurationError, EnvelopeError
from streams.formats.bulk_body import texts_of
from streams.wire import json_text

BODY_BYTES_MAX = 128 * 1024 * 1024
"""Largest file that is one JSON body: it is read as a whole."""

SUFFIXES = {".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "json"}
"""What a file holds, by the suffix of its name without ``.gz``."""

_BOM = b"\xef\xbb\xbf"
_value = msgspec.json.Decoder(msgspec.Raw).decode


class Problem(NamedTuple):
    """Why an item is refused; ``pointer`` is a JSON pointer into the item."""

    code: str
    pointer: str
    message: str


class Entry(NamedTuple):
    """One item of a file, or the problem for which there is no text of it.

    ``number`` is its line, counted from 1; in a JSON body it is its index, counted from 0.
    """

    number: int
    text: bytes
    problem: Problem | None = None


class Source(NamedTuple):
    """A file, what it holds, and the number of bytes above which an item is refused."""

    path: Path
    holds: str
    item_bytes_max: int

    @property
    def unit(self) -> str:
        """What :attr:`Entry.number` counts."""
        return "item" if self.holds == "json" else "line"


def source_of(path: Path, holds: str | None, item_bytes_max: int) -> Source:
    """The source of a file. Raises ``ConfigurationError`` if its name does not say what it holds."""
    name = path.with_suffix("") if path.suffix == ".gz" else path
    found = holds or SUFFIXES.get(name.suffix)
    if found is None:
        raise ConfigurationError(
            f"{path}: its name ends in none of {', '.join(SUFFIXES)} (or one of them and .gz); say "
            "what it holds with --holds"
        )
    return Source(path, found, item_bytes_max)


def digest_of(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entries(source: Source, bulk: bool) -> Iterator[Entry]:
    """The items of a file; ``bulk`` if a body of its format is a list of items.

    Raises ``ConfigurationError`` if the file as a whole cannot be read.
    """
    with _opened(source.path) as stream:
        try:
            yield from _body(source, stream, bulk) if source.holds == "json" else _lines(source, stream)
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


def _body(source: Source, stream: BinaryIO, bulk: bool) -> Iterator[Entry]:
    body = stream.read(BODY_BYTES_MAX + 1)
    if len(body) > BODY_BYTES_MAX:
        raise ConfigurationError(
            f"{source.path}: a JSON body is read as a whole and may have {BODY_BYTES_MAX} bytes. Write "
            "its items one on a line (`jq -c '.items[]'`), and read that as NDJSON."
        )
    body = body.removeprefix(_BOM)
    try:
        texts = texts_of(body) if bulk else [body.strip()]
    except EnvelopeError as error:
        raise ConfigurationError(f"{source.path}: {error.code} at {error.pointer}: {error}") from None
    for index, text in enumerate(texts):
        longest = source.item_bytes_max
        yield Entry(index, text, _too_long(longest) if len(text) > longest else None)
