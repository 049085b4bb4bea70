"""Avro as it goes over the wire: schemas from ``avro/``, datums, Confluent frames, containers.

Records are plain dicts. Logical types are left to the caller: a decimal is its bytes
(:mod:`streams.wire.money`), a timestamp is its microseconds, an enum its symbol. That keeps ``Decimal``
and ``datetime`` off the hot path, and fastavro's decimal writer rounds to 28 digits anyway.
"""

import json
from collections.abc import Iterable
from functools import cache
from io import BytesIO
from typing import Any, cast

from fastavro import parse_schema, schemaless_reader

from streams.wire.avro_encoder import encoder, zigzag_varint
from streams.wire.contracts import schema

Record = dict[str, Any]

MAGIC = b"\x00"
FRAME_BYTES = 5
_SYNC = b"roundhouse-sync!"


def _without_logical_types(node: Any) -> Any:
    if isinstance(node, dict):
        if "logicalType" in node:
            return node["type"]
        return {key: _without_logical_types(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_without_logical_types(value) for value in node]
    return node


class Codec:
    """Writes and reads the datums of one record, or of the run of its fields ``[start:stop]``.

    An Avro record is its fields one after another, so a run of fields is a record of its own and
    two runs joined are the whole.
    """

    def __init__(
        self, name: str, start: int = 0, stop: int | None = None, *, of_attributes: bool = False
    ) -> None:
        bare = _without_logical_types(schema(name))
        bare["fields"] = bare["fields"][start:stop]
        self.name = name
        self.encode = encoder(bare, of_attributes=of_attributes)
        """The datum of a record; its errors mean a bug, input is validated before.

        ``of_attributes``: of an object that has the fields as attributes."""
        self.schema = parse_schema(bare)
        """The schema of the run, without logical types."""

    def decode(self, datum: bytes) -> Record:
        """The record of ``datum``."""
        return cast(Record, schemaless_reader(BytesIO(datum), self.schema, None))


@cache
def codec(name: str) -> Codec:
    """The codec of a whole record, made once."""
    return Codec(name)


def frame(schema_id: int) -> bytes:
    """The five bytes before a datum in the Confluent wire format."""
    return MAGIC + schema_id.to_bytes(4, "big")


def unframe(value: bytes) -> bytes:
    """The datum within a framed value. Raises ``ValueError`` if it is not framed."""
    if len(value) < FRAME_BYTES or value[:1] != MAGIC:
        raise ValueError("not in the Confluent wire format (magic byte 0 and a schema id)")
    return value[FRAME_BYTES:]


@cache
def _container_header(name: str) -> bytes:
    text = json.dumps(schema(name)).encode()
    entries = (b"avro.schema", text), (b"avro.codec", b"null")
    meta = b"".join(zigzag_varint(len(k)) + k + zigzag_varint(len(v)) + v for k, v in entries)
    return b"Obj\x01" + zigzag_varint(len(entries)) + meta + b"\x00" + _SYNC


def container(name: str, datums: Iterable[bytes]) -> bytes:
    """An Avro object container file of ``datums`` in one block, decoding none of them."""
    rows = list(datums)
    block = b"".join(rows)
    return b"".join(
        (_container_header(name), zigzag_varint(len(rows)), zigzag_varint(len(block)), block, _SYNC)
    )
