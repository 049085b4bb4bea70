"""The result of reading a body (items, each valid or with all its errors), field types, and errors.

The edge and the translate stage both read with :data:`streams.formats.READERS`, so they agree on
every item.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, NamedTuple, Protocol

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainValidator,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from streams.core.event import Batch, Translated
from streams.errors import TooManyItems
from streams.wire.json_text import pointer
from streams.wire.money import to_units


class ItemError(NamedTuple):
    """One error of an item; ``pointer`` is a JSON pointer into the body."""

    code: str
    pointer: str
    message: str


class Invalid(NamedTuple):
    """A refused item. ``text`` is its JSON if the reader has it."""

    errors: tuple[ItemError, ...]
    text: bytes | None = None


ERASED_ITEM = b'{"erased":true}'
"""What the edge stores in place of an item of an erased player."""


def erased_error(*where: str | int) -> ItemError:
    """The error of an item of an erased player at this place of the body."""
    return ItemError("erased_player", pointer(*where), "the player was erased")


class Item(Protocol):
    """A valid item that can be translated."""

    def translate(self, batch: Batch) -> Translated:
        """The item in canonical terms: a pure function of the item and its batch."""
        ...


Reader = Callable[[bytes, Batch, int], Sequence[Item | Invalid]]
"""Reads a body with at most so many items; raises ``EnvelopeError`` if the body as a whole is wrong."""


class Data(BaseModel):
    """The ``data`` object of a bulk item. Unknown fields are ignored, types are taken strictly."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=False)


# Field types ---------------------------------------------------------------------------------

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EARLIEST = -(70 * 365 + 17) * 86_400_000_000  # 1900-01-01, where ClickHouse's DateTime64 begins
_LATEST = (datetime(2299, 12, 31, tzinfo=UTC) - _EPOCH) // _MICROSECOND


def parse_timestamp(value: object) -> int:
    """Microseconds since the epoch of an ISO 8601 date and time; no offset means UTC."""
    if not isinstance(value, str):
        raise PydanticCustomError("wrong_type", "must be a date and time in a string")
    try:
        if value[10:11] not in ("T", "t", " "):
            raise ValueError
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        micros = (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        raise PydanticCustomError(
            "malformed_timestamp", "must be an ISO 8601 date and time like 2026-01-31T12:00:00Z"
        ) from None
    if not _EARLIEST <= micros <= _LATEST:
        raise PydanticCustomError("out_of_range", "must lie between the years 1900 and 2299")
    return micros


def parse_number(value: object) -> int:
    """Units (10**-18) of a JSON number."""
    if type(value) is not Decimal and type(value) is not int:  # a bool is neither
        raise PydanticCustomError("wrong_type", "must be a JSON number, not in quotes")
    try:
        return to_units(value)
    except ValueError as error:
        raise PydanticCustomError("out_of_range", "has {why}", {"why": str(error)}) from None


def parse_amount(value: object) -> int:
    """Units (10**-18) of a JSON number that is not negative."""
    units = parse_number(value)
    if units < 0:
        raise PydanticCustomError("out_of_range", "must be zero or more")
    return units


_JsonDate = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
_JsonNumber = Annotated[Decimal, WithJsonSchema({"type": "number"})]
_JsonAmount = Annotated[Decimal, WithJsonSchema({"type": "number", "minimum": 0})]

Timestamp = Annotated[int, PlainValidator(parse_timestamp, json_schema_input_type=_JsonDate)]
Number = Annotated[int, PlainValidator(parse_number, json_schema_input_type=_JsonNumber)]
Amount = Annotated[int, PlainValidator(parse_amount, json_schema_input_type=_JsonAmount)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Text = Annotated[str, StringConstraints(max_length=1024)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
CryptoCurrency = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{3,10}$")]

# Errors --------------------------------------------------------------------------------------

_CODES = {
    "missing": ("required", "is required"),
    "string_type": ("wrong_type", "must be a string"),
    "bool_type": ("wrong_type", "must be true or false"),
    "list_type": ("wrong_type", "must be a list"),
    "dict_type": ("wrong_type", "must be an object"),
    "model_type": ("wrong_type", "must be an object"),
    "string_unicode": ("wrong_type", "must be valid Unicode text"),
    "string_too_short": ("too_short", "must not be empty"),
}


def errors_of(error: ValidationError, *where: str | int) -> tuple[ItemError, ...]:
    """All errors of a failed validation, with pointers below ``where``."""
    found = []
    for entry in error.errors(include_url=False, include_context=True, include_input=False):
        at = pointer(*where, *entry["loc"])
        kind, context = entry["type"], entry.get("ctx", {})
        if kind in _CODES:
            code, message = _CODES[kind]
        elif kind in ("string_too_long", "too_long"):
            code, message = "too_long", f"must not be longer than {context['max_length']}"
        elif kind == "string_pattern_mismatch":
            code, message = "malformed", f"must match {context['pattern']}"
        elif kind in ("enum", "literal_error"):
            code, message = "not_allowed", f"must be one of {context['expected']}"
        else:
            code, message = kind, entry["msg"]
        found.append(ItemError(code, at, f"{entry['loc'][-1] if entry['loc'] else 'data'} {message}"))
    return tuple(found)


@dataclass(frozen=True)
class PartOf:
    """A validator: the amount must not exceed the field ``whole``, which is declared before it."""

    whole: str

    def __call__(self, part: int, info: ValidationInfo) -> int:
        amount = info.data.get(self.whole)
        if amount is not None and part > amount:
            raise PydanticCustomError(
                "exceeds_whole", "must not exceed {whole}, which it is part of", {"whole": self.whole}
            )
        return part


def check_count(count: int, items_max: int) -> None:
    """Raises ``TooManyItems`` above the limit."""
    if count > items_max:
        raise TooManyItems(
            "too_many_items", "", f"The body holds {count} items; send at most {items_max} at once."
        )
