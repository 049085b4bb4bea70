"""Encoders of Avro records, made from their schemas once.

If there was a C compiler at installation, records are encoded in C (``_encode.pyx``): the encoder
is built for one schema and does not inspect types and union branches of every value, as a general
writer does. Otherwise fastavro encodes. A property test holds both to the same bytes.
"""

from collections.abc import Callable, Collection
from io import BytesIO
from typing import Any

from fastavro import parse_schema, schemaless_writer

try:
    from streams.wire import _encode
except ImportError:
    _encode = None  # type: ignore[assignment]

Encoder = Callable[[Any], bytes]

compiled = _encode
"""The encoder in C; None if there was no C compiler at installation."""


def zigzag_varint(number: int) -> bytes:
    """Avro's int and long."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def encoder(schema: dict[str, Any], *, attributes: Collection[str] | None = None) -> Encoder:
    """The encoder of a record schema as :func:`streams.wire.contracts.on_the_wire` makes them.

    It takes dicts, or objects that have ``attributes`` of these names. For a field that is left out, or
    is no attribute, it writes the default. Raises ``ValueError`` if a field has neither.

    Supports what the contracts use: primitives but float and double, enums, arrays, maps, records, and
    unions of null with one other type. In C, anything else raises ``ValueError``.
    """
    for field in schema["fields"]:
        if attributes is not None and field["name"] not in attributes and "default" not in field:
            raise ValueError(f"{schema['name']}.{field['name']}: neither an attribute nor a default")
    make = with_fastavro if compiled is None else compiled.encoder
    return make(schema, attributes=attributes)


def with_fastavro(schema: dict[str, Any], *, attributes: Collection[str] | None = None) -> Encoder:
    """The encoder of a record schema with fastavro's writer; see :func:`encoder`."""
    parsed = parse_schema(schema, _ignore_default_error=True)  # a default of bytes is text in JSON
    required = [field["name"] for field in schema["fields"] if "default" not in field]
    names = [field["name"] for field in schema["fields"] if field["name"] in (attributes or ())]

    def encode(record: Any) -> bytes:
        if attributes is not None:
            record = {name: getattr(record, name) for name in names}
        for name in required:
            record[name]  # fastavro's own error is narrower where null is allowed
        out = BytesIO()
        schemaless_writer(out, parsed, record)
        return out.getvalue()

    return encode


def joined_in_python(head: bytes, number: int, tails: list[bytes]) -> list[bytes]:
    """``head``, ``number`` as a long and the tail, for each of ``tails``."""
    lead = head + zigzag_varint(number)
    return [lead + tail for tail in tails]


joined = joined_in_python if compiled is None else compiled.joined
"""``head``, ``number`` as a long and the tail, for each of ``tails``; in C if it is compiled."""
