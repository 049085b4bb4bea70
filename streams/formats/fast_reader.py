"""The fast reader of bulk items: from JSON text directly to objects with the fields of their models.

Every field of a model has a type of :mod:`streams.formats.validation`; :func:`_field` derives from
that type how ``msgspec`` reads and checks it in C. The fast reader refuses every item that is not
certainly valid and gives no reason: pydantic then validates the item. A property test compares the
results of the two readers.
"""

import types
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec
from annotated_types import MaxLen
from msgspec import Meta, Raw
from pydantic import AfterValidator, PlainValidator, StringConstraints
from pydantic.fields import FieldInfo

from streams.formats.validation import (
    Data,
    Item,
    PartOf,
    parse_amount,
    parse_number,
    parse_timestamp,
)
from streams.wire import json_text

_NUMBER_BYTES_MAX = 40


class _Field(NamedTuple):
    """How ``msgspec`` reads a field, and the conversion from that to the model's value, if there is
    one.
    """

    kind: Any
    convert: Callable[[Any], Any] | None = None
    part_of: str | None = None


class _Shape(NamedTuple):
    """The conversions and checks that follow after ``msgspec`` has read an object."""

    converts: list[tuple[str, Callable[[Any], Any]]]
    parts: list[tuple[str, str]]


class FastReader:
    """A reader of valid items of these kinds, by ``event``."""

    def __init__(self, kinds: Mapping[str, type[Data]]) -> None:
        """Raises ``TypeError`` for a field whose type the fast reader does not support."""
        self._shapes: dict[type, _Shape] = {}
        items = []
        for event, model in kinds.items():
            fields = {name: _field_of(model, name, hint) for name, hint in _hints(model).items()}
            data = _struct(model, fields)
            self._shapes[data] = _Shape(
                [(name, field.convert) for name, field in fields.items() if field.convert],
                [(name, field.part_of) for name, field in fields.items() if field.part_of],
            )
            item = msgspec.defstruct("Item", [("data", data)], tag_field="event", tag=event)
            items.append(item)
        self._decode = msgspec.json.Decoder(Union[tuple(items)]).decode  # noqa: UP007

    def read(self, text: Raw) -> Item:
        """Reads an item. Raises ``ValueError`` or ``RecursionError`` unless it is certainly valid."""
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


def _field_of(model: type[Data], name: str, hint: Any) -> _Field:
    field = _field(hint)
    if field is None:
        raise TypeError(
            f"{model.__module__}.{model.__name__}.{name}: its type has no reading in {__name__}. Add "
            "one, or name the kind in validated_only of its bulk_reader."
        )
    return field


def _field(hint: Any) -> _Field | None:
    """How a field of this type is read; None if the type is not supported."""
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
    """A field that holds a JSON number. Most bodies repeat the same amounts, so their values are
    cached.
    """

    @lru_cache(1 << 14)
    def parsed(text: bytes) -> int:
        return parse(json_text.decode(text))

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
