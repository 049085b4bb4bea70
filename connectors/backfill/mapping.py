"""The mapping of a CSV file to the items of a format: a YAML file, described in docs/operations.md."""

import codecs
import csv
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from connectors.backfill.entry import Entry, Problem
from streams.errors import ConfigurationError
from streams.wire.json_text import pointer

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")

Value = str | bool | int | None
Constant = Value | list[str]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Cell(_Part):
    """What a column becomes. A cell that is empty sets no field."""

    field: str = Field(min_length=1)

    def convert(self, text: str) -> Any:
        """The JSON value of a cell. Raises ``ValueError``."""
        raise NotImplementedError


class TextCell(_Cell):
    """The text as it is, or what ``values`` has for it."""

    type: Literal["text"] = "text"
    values: dict[str, Value] | None = None

    def convert(self, text: str) -> Any:
        if self.values is None:
            return text
        if text not in self.values:
            raise ValueError(f"{text!r} is none of {', '.join(self.values)}")
        return self.values[text]


class NumberCell(_Cell):
    """A number, kept digit by digit."""

    type: Literal["number"]
    decimal: str = Field(".", min_length=1, max_length=1)
    thousands: str | None = Field(None, min_length=1, max_length=1)

    def convert(self, text: str) -> Any:
        plain = text if self.thousands is None else text.replace(self.thousands, "")
        if self.decimal != ".":
            plain = "" if "." in plain else plain.replace(self.decimal, ".")
        if not _NUMBER.fullmatch(plain):
            raise ValueError(f"{text!r} is no number with the decimal mark {self.decimal!r}")
        return msgspec.Raw(format(Decimal(plain), "f").encode())


class TimeCell(_Cell):
    """A time in a format of ``strptime``, or seconds or milliseconds since 1970.

    ``zone`` is that of times without an offset. A time that occurs twice in a zone, as clocks go back,
    is the first.
    """

    type: Literal["time"]
    format: str = Field(min_length=1)
    zone: str = "UTC"

    @field_validator("zone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, ZoneInfoNotFoundError):
            raise ValueError(f"{name} is no time zone, like Europe/Malta") from None
        return name

    def convert(self, text: str) -> Any:
        if self.format in ("unix_s", "unix_ms"):
            if not text.isascii() or not text.isdecimal():
                raise ValueError(f"{text!r} is no whole number of {self.format}")
            millis = int(text) * (1000 if self.format == "unix_s" else 1)
            try:
                time = datetime.fromtimestamp(millis // 1000, UTC)
            except (OverflowError, OSError, ValueError):
                raise ValueError(f"{text} is out of range") from None
            time = time.replace(microsecond=millis % 1000 * 1000)
        else:
            time = datetime.strptime(text, self.format)
            if time.tzinfo is None:
                time = time.replace(tzinfo=ZoneInfo(self.zone))
        return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


class ListCell(_Cell):
    """A list of texts."""

    type: Literal["list"]
    separator: str = Field(min_length=1)

    def convert(self, text: str) -> Any:
        return [entry.strip() for entry in text.split(self.separator)]


class JsonCell(_Cell):
    """JSON text, taken as it is."""

    type: Literal["json"]

    def convert(self, text: str) -> Any:
        try:
            return msgspec.json.decode(text, type=msgspec.Raw)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"no JSON: {error}") from None


AnyCell = Annotated[TextCell | NumberCell | TimeCell | ListCell | JsonCell, Field(discriminator="type")]


def _spelled_out(given: Any) -> Any:
    """``Column: field`` stands for the text of the column."""
    if isinstance(given, str):
        return {"field": given, "type": "text"}
    if isinstance(given, dict):
        return {"type": "text"} | given
    return given


class KindColumn(_Part):
    """The column with the kind of each row; ``values`` has the kinds by the text of a cell."""

    column: str
    values: dict[str, str]


class Mapping(_Part):
    """How the rows of a CSV file become items."""

    kind: str | KindColumn
    columns: dict[str, list[AnyCell]]
    constants: dict[str, Constant] = {}
    names: list[str] | None = None
    delimiter: str = Field(",", min_length=1, max_length=1)
    encoding: str = Field("utf-8", validate_default=True)

    @field_validator("columns", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {
            name: [_spelled_out(cell) for cell in (cells if isinstance(cells, list) else [cells])]
            for name, cells in given.items()
        }

    @field_validator("encoding")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            found = codecs.lookup(name).name
        except LookupError:
            raise ValueError(f"{name} is no encoding, like utf-8 or cp1252") from None
        return "utf-8-sig" if found == "utf-8" else found

    @model_validator(mode="after")
    def _once(self) -> Self:
        fields = [cell.field for cells in self.columns.values() for cell in cells]
        fields += self.constants
        for field in fields:
            if fields.count(field) > 1:
                raise ValueError(f"the field {field} is given twice")
        return self

    @property
    def needed(self) -> list[str]:
        """The columns that a file must have."""
        return [*self.columns, *([self.kind.column] if isinstance(self.kind, KindColumn) else [])]


class MappingFile(_Part):
    """A mapping, and the SHA-256 of its file."""

    mapping: Mapping
    digest: str


def load(path: Path) -> MappingFile:
    """Reads a mapping. Raises ``ConfigurationError`` that names each mistake."""
    content = path.read_bytes()
    try:
        mapping = Mapping.model_validate(yaml.safe_load(content))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is no YAML: {error}") from None
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigurationError("\n".join([f"{path} is no mapping:", *lines])) from None
    return MappingFile(mapping=mapping, digest=hashlib.sha256(content).hexdigest())


_TOP = ("playerUniqueId", "mobile", "email", "idempotencyKey")
"""The fields of a Gameball request that are not metadata of its event."""


class Rows:
    """Reads the rows of one CSV file."""

    def __init__(self, mapping: Mapping, source: str, line_bytes_max: int) -> None:
        self._mapping = mapping
        self._source = source
        self._longest = line_bytes_max
        self._at: dict[str, int] = {}

    def entries(self, stream: BinaryIO, name: str) -> Iterator[Entry]:
        """The items of a file. Raises ``ConfigurationError`` if a column is missing."""
        text = io.TextIOWrapper(stream, self._mapping.encoding, errors="surrogateescape", newline="")
        try:
            yield from self._entries(text, name)
        finally:
            text.detach()  # the stream is closed by who opened it

    def _entries(self, text: io.TextIOWrapper, name: str) -> Iterator[Entry]:
        mapping = self._mapping
        rows = csv.reader(self._lines(text, name), delimiter=mapping.delimiter, strict=True)
        header = mapping.names or next(rows, [])
        missing = [column for column in mapping.needed if header.count(column) != 1]
        if missing:
            raise ConfigurationError(
                f"{name} needs these columns once: {', '.join(missing)}. It has {', '.join(header)}"
            )
        self._at = {column: header.index(column) for column in mapping.needed}
        while True:
            number = rows.line_num + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield Entry(number, b"", Problem("malformed", "", f"It is no row of CSV: {error}."))
                continue
            if row:
                yield self._entry(number, row, len(header))

    def _lines(self, text: io.TextIOWrapper, name: str) -> Iterator[str]:
        try:
            while line := text.readline(self._longest + 1):
                if len(line) > self._longest:
                    raise ConfigurationError(
                        f"{name} has a line of more than {self._longest} characters"
                    )
                yield line
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{name} is not {self._mapping.encoding}: {error}") from None

    def _entry(self, number: int, row: Sequence[str], width: int) -> Entry:
        if len(row) != width:
            message = f"It has {len(row)} cells and the header {width}."
            return Entry(number, b"", Problem("malformed", "", message))
        fields: dict[str, Any] = dict(self._mapping.constants)
        for column, cells in self._mapping.columns.items():
            text = row[self._at[column]].strip()
            for cell in cells if text else ():
                try:
                    text.encode()
                    fields[cell.field] = cell.convert(text)
                except (ValueError, OverflowError) as error:
                    return self._refused(number, column, cell.field, error)
        kind = self._mapping.kind
        if isinstance(kind, KindColumn):
            found = kind.values.get(row[self._at[kind.column]].strip())
            if found is None:
                unknown = ValueError(f"its text is none of {', '.join(kind.values)}")
                return self._refused(number, kind.column, "", unknown)
            kind = found
        return Entry(number, msgspec.json.encode(self._item(kind, fields)))

    def _item(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        if self._source != "gameball":
            return {"event": kind, "data": fields}
        top = {name: value for name, value in fields.items() if name in _TOP}
        metadata = {name: value for name, value in fields.items() if name not in _TOP}
        return top | {"events": {kind: metadata}}

    def _refused(self, number: int, column: str, field: str, error: Exception) -> Entry:
        why = "it is not in the encoding" if isinstance(error, UnicodeError) else error
        at = pointer("data", field) if field and self._source != "gameball" else ""
        return Entry(number, b"", Problem("malformed", at, f"Column {column}: {why}."))
