"""Avro as it goes over the wire: schemas from ``avro/``, datums, Confluent frames, containers.

Records are plain dicts. Logical types are left to the caller: a decimal is its bytes
(:mod:`streams.wire.money`), a timestamp is its microseconds, an enum its symbol. That keeps ``Decimal``
and ``datetime`` off the hot path, and fastavro's decimal writer rounds to 28 digits anyway.
"""

import json
from collections.abc import Callable, Collection, Sequence
from functools import cache
from io import BytesIO
from typing import Any, cast

from fastavro import parse_schema, schemaless_reader
from fastavro.read import SchemaResolutionError

from streams.errors import NewerVersion
from streams.wire.avro_encoder import encoder, zigzag_varint
from streams.wire.contracts import Schema, on_the_wire, schema

Record = dict[str, Any]

MAGIC = b"\x00"
FRAME_BYTES = 5
_SYNC = b"roundhouse-sync!"


def field_index(schema: Schema, field: str) -> int:
    """The index of a field. Raises ``ValueError`` if there is none of this name."""
    return [known["name"] for known in schema["fields"]].index(field)


class Codec:
    """Writes and reads the datums of one record, or of the run of its fields ``[start:stop]``.

    An Avro record is its fields one after another, so a run of fields is a record of its own and
    two runs joined are the whole.
    """

    def __init__(
        self,
        name: str,
        start: int = 0,
        stop: int | None = None,
        *,
        attributes: Collection[str] | None = None,
        version: Schema | None = None,
    ) -> None:
        """``version`` is another version of the contract in which datums are written and read."""
        bare = _run(version or schema(name), start, stop)
        self.name = name
        self.encode = encoder(bare, attributes=attributes)
        """The datum of a record; its errors mean a bug, input is validated before. A field that has a
        default may be left out.

        ``attributes``: of an object that has attributes of these names."""
        self.schema = _parsed(bare)
        """The schema of the run, without logical types."""

    def decode(self, datum: bytes) -> Record:
        """The record of ``datum``."""
        return cast(Record, schemaless_reader(BytesIO(datum), self.schema, None))


def _run(schema: Schema, start: int, stop: int | None) -> Schema:
    bare: Schema = on_the_wire(schema)
    return bare | {"fields": bare["fields"][start:stop]}


def _parsed(bare: Schema) -> Any:
    return parse_schema(bare, _ignore_default_error=True)  # a default of bytes is text in JSON


def resolving(name: str, writer: Schema, after: str | None = None) -> Callable[[bytes], Record]:
    """Reads datums that ``writer`` has written as records of the present contract ``name``.

    ``after``: not of whole records but of the run of the fields after this one. What is returned raises
    ``NewerVersion`` where Avro cannot resolve the two schemas, and else what fastavro raises.
    """

    def run(schema: Schema) -> Any:
        return _parsed(_run(schema, 0 if after is None else field_index(schema, after) + 1, None))

    present, written = run(schema(name)), run(writer)

    def decode(datum: bytes) -> Record:
        try:
            return cast(Record, schemaless_reader(BytesIO(datum), written, present))
        except SchemaResolutionError as error:
            raise NewerVersion(
                f"a record of the contract {name} is of a version that this one cannot read: {error}. "
                "Deploy here the version that wrote it, or a later one."
            ) from None

    return decode


@cache
def codec(name: str) -> Codec:
    """The codec of a whole record, made once."""
    return Codec(name)


def frame(schema_id: int) -> bytes:
    """The five bytes before a datum in the Confluent wire format."""
    return MAGIC + schema_id.to_bytes(4, "big")


def unframe(value: bytes) -> bytes:
    """The datum within a framed value. Raises ``ValueError`` if it is not framed."""
    return value[len(frame_of(value)) :]


def frame_of(value: bytes) -> bytes:
    """The frame of a framed value. Raises ``ValueError`` if it is not framed."""
    if len(value) < FRAME_BYTES or value[:1] != MAGIC:
        raise ValueError("not in the Confluent wire format (magic byte 0 and a schema id)")
    return value[:FRAME_BYTES]


SchemaOf = Callable[[str, bytes], Schema]
"""The schema that the frame of a contract's record names; ``NewerVersion`` if nobody knows it."""


class Reader:
    """Framed values of a contract, whichever version has written them, as records of the present one.

    ``frame``: that of the present version, whose values are read without asking ``schema_of``.
    """

    def __init__(self, contract: str, frame: bytes, schema_of: SchemaOf) -> None:
        self.contract = contract
        self._schema_of = schema_of
        self._decoders: dict[bytes, Callable[[bytes], Record]] = {frame: codec(contract).decode}

    def read(self, value: bytes) -> Record:
        """Raises ``ValueError`` for what is no framed value of the contract, what fastavro raises for
        a datum that is none, and ``NewerVersion`` for a version that this one cannot read."""
        frame = frame_of(value)
        decode = self._decoders.get(frame)
        if decode is None:
            writer = self._schema_of(self.contract, frame)
            if writer["name"] != schema(self.contract)["name"]:
                raise ValueError(f"written as {writer['name']}, not as the contract {self.contract}")
            decode = self._decoders[frame] = resolving(self.contract, writer)
        return decode(value[FRAME_BYTES:])


class Container:
    """Avro object container files of the datums that one schema has written."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.fields = [field["name"] for field in schema["fields"]]
        text = json.dumps(_without_defaults(schema)).encode()
        entries = (b"avro.schema", text), (b"avro.codec", b"null")
        meta = b"".join(_bytes(key) + _bytes(value) for key, value in entries)
        self._header = b"Obj\x01" + zigzag_varint(len(entries)) + meta + b"\x00" + _SYNC

    def file(self, datums: Sequence[bytes]) -> bytes:
        """A file of ``datums`` in one block, decoding none of them."""
        block = b"".join(datums)
        return b"".join((self._header, zigzag_varint(len(datums)), _bytes(block), _SYNC))


def _without_defaults(node: Any) -> Any:
    """A file holds every field, so nobody needs them; Polars 2.1 refuses all but null and ``[]``."""
    if isinstance(node, dict):
        return {key: _without_defaults(value) for key, value in node.items() if key != "default"}
    return [_without_defaults(value) for value in node] if isinstance(node, list) else node


def _bytes(value: bytes) -> bytes:
    return zigzag_varint(len(value)) + value
