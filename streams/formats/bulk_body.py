"""Bulk bodies: ``{"items": [...]}`` or a bare array of ``{"event": kind, "data": {...}}``.

:class:`streams.formats.fast_reader.FastReader` reads each item first. An item that it refuses, and
every item of a kind that it does not support, is validated by its pydantic model, which lists every
error in it.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from msgspec import Raw
from pydantic import ValidationError

from streams.core.event import Batch
from streams.errors import EnvelopeError
from streams.formats.fast_reader import FastReader
from streams.formats.validation import (
    ERASED_ITEM,
    Data,
    Invalid,
    Item,
    ItemError,
    Reader,
    check_count,
    erased_error,
    errors_of,
)
from streams.wire import json_text
from streams.wire.json_text import pointer

Where = tuple[str | int, ...]

_ERASED = json_text.decode(ERASED_ITEM)


Plain = Callable[[list[Raw]], Sequence[Item | None]]
"""Reads those of some texts that are certainly valid, faster than :class:`FastReader`."""


def _none_is_plain(texts: list[Raw]) -> Sequence[Item | None]:
    return [None] * len(texts)


def bulk_reader(
    kinds: Mapping[str, type[Data]],
    validated_only: Set[str] = frozenset(),
    plain: Plain = _none_is_plain,
) -> Reader:
    """A reader of items of these kinds, by ``event``.

    ``validated_only`` names the kinds that :class:`FastReader` does not support because a field is
    nested. ``plain`` reads first.
    """
    right = FastReader({name: model for name, model in kinds.items() if name not in validated_only})
    validators = {name: model.__pydantic_validator__.validate_python for name, model in kinds.items()}
    allowed = ", ".join(kinds)

    def read_text(text: Raw, where: Where, index: int) -> Item | Invalid:
        try:
            return right.read(text)
        except (ValueError, RecursionError):
            given = bytes(text)
            return read_value(json_text.decode(given), (*where, index), given)

    def read_value(item: Any, where: Where, text: bytes | None) -> Item | Invalid:
        def invalid(code: str, message: str, *at: str) -> Invalid:
            return Invalid((ItemError(code, pointer(*where, *at), message),), text)

        if not isinstance(item, dict):
            return invalid("wrong_type", "item must be an object")
        if item == _ERASED:
            return Invalid((erased_error(*where),), text)
        event = item.get("event")
        if event is None:
            return invalid("required", "event is required", "event")
        validate = validators.get(event) if isinstance(event, str) else None
        if validate is None:
            return invalid("unknown_event", f"event must be one of {allowed}", "event")
        if "data" not in item:
            return invalid("required", "data is required", "data")
        try:
            valid: Item = validate(item["data"])
        except ValidationError as error:
            return Invalid(errors_of(error, *where, "data"), text)
        return valid

    def read_body(body: bytes, batch: Batch, items_max: int) -> list[Item | Invalid]:
        where: Where
        where, texts = json_text.items(body)
        if texts is not None:
            check_count(len(texts), items_max)
            return [
                read_text(texts[index], where, index) if item is None else item
                for index, item in enumerate(plain(texts))
            ]
        where, values = _items_of(json_text.decode(body))
        check_count(len(values), items_max)
        return [read_value(item, (*where, index), None) for index, item in enumerate(values)]

    return read_body


def texts_of(body: bytes) -> list[bytes]:
    """The text of each item of a body. Raises ``EnvelopeError`` if it holds none."""
    _, texts = json_text.items(body)
    if texts is None:
        _items_of(json_text.decode(body))
    return json_text.raw_items(body)


def _items_of(outer: Any) -> tuple[Where, list[Any]]:
    """The items of a body and their path in it. Raises ``EnvelopeError`` if it holds none."""
    where: Where = ()
    if isinstance(outer, dict):
        where = ("items",)
        if "items" not in outer:
            raise EnvelopeError("wrong_envelope", "/items", "items is required.")
        outer = outer["items"]
    if not isinstance(outer, list):
        raise EnvelopeError(
            "wrong_envelope",
            pointer(*where),
            'The body must be {"items": [...]} or a JSON array of items.',
        )
    return where, outer
