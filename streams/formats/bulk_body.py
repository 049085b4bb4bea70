"""Bulk bodies: ``{"items": [...]}`` or a bare array of ``{"event": kind, "data": {...}}``.

Most items are right. So each is first read straight from its JSON into an object with the fields of its
model, by ``msgspec`` and with the same conditions (:class:`_Plain`); one that is not right, or that has
a field that :class:`_Plain` does not know how to read, is validated by its pydantic model, which says
what is wrong. A property test holds the two to the same answers.
"""

import types
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec
from annotated_types import MaxLen
from msgspec import Meta, Raw
from pydantic import AfterValidator, PlainValidator, StringConstraints, ValidationError
from pydantic.fields import FieldInfo

from streams.core.event import Batch
from streams.errors import EnvelopeError
from streams.formats.validation import (
    Data,
    Invalid,
    Item,
    ItemError,
    PartOf,
    Reader,
    check_count,
    errors_of,
    parse_amount,
    parse_number,
    parse_timestamp,
)
from streams.wire import json_text as jsontext
from streams.wire.json_text import pointer

Where = tuple[str | int, ...]


def bulk_reader(kinds: Mapping[str, type[Data]]) -> Reader:
    """A reader of items of these kinds, by ``event``."""
    plain = _Plain(kinds)
    validators = {name: model.__pydantic_validator__.validate_python for name, model in kinds.items()}
    allowed = ", ".join(kinds)

    def read_text(text: Raw, where: Where, index: int) -> Item | Invalid:
        try:
            return plain.read(text)
        except (ValueError, RecursionError):
            given = bytes(text)
            return read_value(jsontext.decode(given), (*where, index), given)

    def read_value(item: Any, where: Where, text: bytes | None) -> Item | Invalid:
        def invalid(code: str, message: str, *at: str) -> Invalid:
            return Invalid((ItemError(code, pointer(*where, *at), message),), text)

        if not isinstance(item, dict):
            return invalid("wrong_type", "item must be an object")
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
        where, texts = jsontext.items(body)
        if texts is not None:
            check_count(len(texts), items_max)
            return [read_text(text, where, index) for index, text in enumerate(texts)]
        where, values = _items_of(jsontext.decode(body))
        check_count(len(values), items_max)
        return [read_value(item, (*where, index), None) for index, item in enumerate(values)]

    return read_body


def _items_of(outer: Any) -> tuple[Where, list[Any]]:
    """The items of a body and where they are. Raises ``EnvelopeError`` if it holds none."""
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


# Right items ---------------------------------------------------------------------------------

_NUMBER_BYTES_MAX = 40


class _Field(NamedTuple):
    """How ``msgspec`` reads a field, and what makes the model's value of that, if anything."""

    kind: Any
    convert: Callable[[Any], Any] | None = None
    part_of: str | None = None


class _Shape(NamedTuple):
    """What is left to do with an object after ``msgspec`` has read it."""

    converts: list[tuple[str, Callable[[Any], Any]]]
    parts: list[tuple[str, str]]


class _Plain:
    """Reads right items of those models all of whose fields it knows how to read."""

    def __init__(self, kinds: Mapping[str, type[Data]]) -> None:
        self._shapes: dict[type, _Shape] = {}
        items = []
        for event, model in kinds.items():
            fields = {name: _field(hint) for name, hint in _hints(model).items()}
            known = {name: field for name, field in fields.items() if field is not None}
            if len(known) == len(fields):
                data = _struct(model, known)
                self._shapes[data] = _Shape(
                    [(name, field.convert) for name, field in known.items() if field.convert],
                    [(name, field.part_of) for name, field in known.items() if field.part_of],
                )
                item = msgspec.defstruct("Item", [("data", data)], tag_field="event", tag=event)
                items.append(item)
        self._decode = msgspec.json.Decoder(Union[tuple(items)]).decode  # noqa: UP007

    def read(self, text: Raw) -> Item:
        """Raises ``ValueError`` or ``RecursionError`` unless it is surely right."""
        data = self._decode(text).data
        shape = self._shapes[type(data)]
        for name, convert in shape.converts:
            value = getattr(data, name)
            if value is not None:
                setattr(data, name, convert(value))
        for name, whole in shape.parts:
            if getattr(data, name) > getattr(data, whole):
                raise ValueError(f"{name} exceeds {whole}")
        item: Item = data
        return item


def _struct(model: type[Data], fields: Mapping[str, _Field]) -> type:
    """A class with the fields and methods of ``model``, without its validation."""
    methods = {
        name: member
        for base in reversed(model.__mro__)
        if issubclass(base, Data) and base is not Data
        for name, member in vars(base).items()
        if isinstance(member, types.FunctionType)
    }
    layout: list[Any] = []
    for name, field in fields.items():
        info = model.model_fields[name]
        layout.append((name, field.kind) if info.is_required() else (name, field.kind, info.default))
    return msgspec.defstruct(model.__name__, layout, namespace=methods, kw_only=True, gc=False)


def _hints(model: type[Data]) -> dict[str, Any]:
    hints = get_type_hints(model, include_extras=True)
    return {name: hints[name] for name in model.model_fields}


def _field(hint: Any) -> _Field | None:
    """None for a type that is not known here."""
    if hint is bool or get_origin(hint) is Literal:
        return _Field(hint)
    if get_origin(hint) in (Union, types.UnionType) and types.NoneType in get_args(hint):
        [one] = [branch for branch in get_args(hint) if branch is not types.NoneType]
        field = _field(one)
        return field and _optional(field)
    if get_origin(hint) is Annotated:
        base, *conditions = get_args(hint)
        return _conditional(base, conditions)
    return None


def _optional(field: _Field) -> _Field | None:
    convert = field.convert
    if field.part_of is not None:
        return None
    if field.kind is not Raw or convert is None:
        return field._replace(kind=field.kind | None)
    return field._replace(convert=lambda text: None if bytes(text) == b"null" else convert(text))


def _conditional(base: Any, conditions: list[Any]) -> _Field | None:
    match base, conditions:
        case _, [StringConstraints() as known]:
            pattern = known.pattern
            meta = Meta(
                min_length=known.min_length,
                max_length=known.max_length,
                pattern=None if pattern is None else str(pattern).replace("$", r"\Z"),
            )
            return _Field(Annotated[str, meta])
        case _, [FieldInfo(metadata=[MaxLen(max_length=most)])] if get_origin(base) is list:
            entry = _field(*get_args(base))
            if entry is not None and entry.convert is None:
                return _Field(Annotated[types.GenericAlias(list, entry.kind), Meta(max_length=most)])
        case _, [PlainValidator(func=function)]:
            return _VALIDATED.get(function)
        case _, [PlainValidator(func=function), AfterValidator(func=PartOf(whole=whole))]:
            field = _VALIDATED.get(function)
            return None if field is None else field._replace(part_of=whole)
    return None


def _number(parse: Callable[[object], int]) -> _Field:
    """Amounts come again and again: what they come to is remembered."""

    @lru_cache(1 << 14)
    def parsed(text: bytes) -> int:
        return parse(jsontext.decode(text))

    def convert(text: Raw) -> int:
        given = bytes(text)
        if len(given) > _NUMBER_BYTES_MAX:
            raise ValueError("a number of unusual length")
        return parsed(given)

    return _Field(Raw, convert)


_VALIDATED: dict[Any, _Field] = {
    parse_timestamp: _Field(str, parse_timestamp),
    parse_number: _number(parse_number),
    parse_amount: _number(parse_amount),
}
