"""The canonical kinds, and how an event of any source becomes one Avro datum."""

import json
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, Self

import msgspec
from msgspec.structs import replace

from streams.core.identity import content_hash
from streams.wire.avro import Codec, Record, field_index, resolving
from streams.wire.avro_encoder import joined
from streams.wire.contracts import Schema, schema, versions
from streams.wire.money import from_bytes, to_decimal

SOURCES = ("native", "fasttrack", "gameball")
"""The formats that operators post in; :mod:`streams.formats` has a reader for each."""


class Kind(IntEnum):
    """A canonical kind. The value is its byte in ``staged``: append, never renumber."""

    GAME_TRANSACTION = 0
    PAYMENT = 1
    PLAYER = 2
    GAME = 3
    LOGIN = 4
    SPORTS_BET = 5
    CUSTOM_EVENT = 6

    @property
    def contract(self) -> str:
        """Name of its ``.avsc``."""
        return _CONTRACTS[self]

    @property
    def topic(self) -> str:
        """Its topic, without the prefix."""
        return _TOPICS[self]


_CONTRACTS = {kind: kind.name.lower().replace("_", "-") for kind in Kind}
_TOPICS = {kind: f"canonical.{contract}s" for kind, contract in _CONTRACTS.items()}


class Batch(NamedTuple):
    """What all items of a request have in common: its headers in the raw record.

    ``received_at`` in microseconds since the epoch, UTC.
    """

    tenant: str
    source: str
    batch_id: str
    received_at: int
    counts: bool
    merges_channels: bool
    idempotency_key: str | None


class Translated(msgspec.Struct, frozen=True, gc=False):
    """A valid item in canonical terms.

    ``subject`` is the player, or the game for a game. ``bodies`` are the fields that the kind adds
    to the shared leading ones; an item has one, a realtime-gameround that won has two. ``timed`` is
    false where the source sends no time and ``occurred_at`` is the receipt.
    """

    kind: Kind
    subject: str
    source_event: str
    event_id: str
    occurred_at: int
    bodies: list[Record]
    timed: bool = True


def player_body(player_id: str, **known: object) -> Record:
    """The body of a canonical player event that says ``known`` and nothing else."""
    return {
        "player_id": player_id,
        "username": None,
        "registered_at": None,
        "country": None,
        "currency": None,
        "gender": None,
        "affiliate": None,
        "operator": None,
        "has_tags": False,
        "tags": [],
        "consent_email": None,
        "is_blocked": None,
        "is_promo_banned": None,
        "mobile": None,
        "email": None,
    } | known


# A datum falls into three runs: what the batch shares, which is encoded once for all its events, the
# item's position, and the content, which is hashed. A field belongs to the run in which it stands.
_POSITION = field_index(schema("login"), "position")
_OCCURRED_AT = field_index(schema("login"), "occurred_at")
_ORIGIN_FIELDS = Translated.__struct_fields__
_BATCH = Codec("login", 0, _POSITION, attributes=Batch._fields)
_ORIGIN = Codec("login", _POSITION + 1, _OCCURRED_AT + 1, attributes=_ORIGIN_FIELDS)
_CONTENT = [Codec(kind.contract, _POSITION + 1) for kind in Kind]
_BODY = [Codec(kind.contract, _OCCURRED_AT + 1) for kind in Kind]
_WHOLE = [Codec(kind.contract) for kind in Kind]


def encode_batch(batch: Batch) -> bytes:
    """The run of leading fields that all events of ``batch`` share."""
    return _BATCH.encode(batch)


def encode_content(item: Translated) -> list[bytes]:
    """The content of each of the item's events: all that does not depend on the delivery."""
    origin = _ORIGIN.encode(item)
    encode_body = _BODY[item.kind].encode
    return [origin + encode_body(body) for body in item.bodies]


def hash_of_content(item: Translated, contents: list[bytes]) -> bytes:
    """Whether an item that comes again is the same: 8 bytes for each version of its contract.

    ``contents`` are those of ``item``. The first 8 bytes are of what version 1 of the contract has, the
    next of what version 2 has, and so on: see :func:`streams.core.identity.same_content`. The time is
    left out where the source sends none, or every item that comes again would be another one.
    """
    if not item.timed:
        item = replace(item, occurred_at=0)
        contents = encode_content(item)
    newest = content_hash(contents)
    older = _OLDER[item.kind]
    if not older:
        return newest
    return b"".join([*(_older_hash(item, encoders, newest) for encoders in older), newest])


class _Encoders(NamedTuple):
    """Of the two runs of a content, as a version of the contract has them."""

    origin: Callable[[Translated], bytes]
    body: Callable[[Record], bytes]

    @classmethod
    def of(cls, contract: str, version: Schema) -> Self:
        after, body = field_index(version, "position") + 1, field_index(version, "occurred_at") + 1
        origin = Codec(contract, after, body, attributes=_ORIGIN_FIELDS, version=version)
        return cls(origin.encode, Codec(contract, body, version=version).encode)


_OLDER = {
    kind: [_Encoders.of(kind.contract, version.schema) for version in versions(kind.contract)[:-1]]
    for kind in Kind
}


def _older_hash(item: Translated, encoders: _Encoders, newest: bytes) -> bytes:
    """An item that an older version cannot express was never accepted by it: any other hash will do."""
    try:
        origin = encoders.origin(item)
        return content_hash([origin + encoders.body(body) for body in item.bodies])
    except (KeyError, OverflowError, TypeError, ValueError):
        return content_hash([b"only in newer versions", newest])


datums: Callable[[bytes, int, list[bytes]], list[bytes]] = joined
"""Whole datums of an item, of what :func:`encode_batch` makes, its position, and its contents."""


def encode(batch: Batch, position: int, item: Translated) -> list[bytes]:
    """The whole datums of an item."""
    return datums(encode_batch(batch), position, encode_content(item))


def decode(kind: Kind, datum: bytes) -> Record:
    """The event as a record, logical types left as they are on the wire."""
    return _WHOLE[kind].decode(datum)


class Content:
    """How one version of a contract writes the events of a kind.

    An event is sent on as the version that its content was written by, whatever the present version is.
    """

    def __init__(self, kind: Kind, frame: bytes, writer: Schema) -> None:
        """``writer``: the schema of the version, and ``frame`` what stands before its datums."""
        contract = kind.contract
        is_present = writer == schema(contract)
        self.frame = frame
        self.decode: Callable[[bytes], Record] = (
            _CONTENT[kind].decode if is_present else resolving(contract, writer, after="position")
        )
        """The fields of a content, as the present version has them."""
        self.decode_whole: Callable[[bytes], Record] = (
            _WHOLE[kind].decode if is_present else resolving(contract, writer)
        )
        """The same of a whole datum."""
        self.encode_batch: Callable[[Batch], bytes] = encode_batch
        """The run before the position."""
        if not is_present:
            lead = field_index(writer, "position")
            self.encode_batch = Codec(
                contract, 0, lead, attributes=Batch._fields, version=writer
            ).encode


Contents = Sequence[Content]
"""By kind."""


def contents_of(frames: Mapping[str, bytes], schema_of: Callable[[str, bytes], Schema]) -> Contents:
    """How contents are written by the versions that ``frames`` name, by contract.

    ``schema_of(contract, frame)`` is the schema that a frame names.
    """
    return [
        Content(kind, frames[kind.contract], schema_of(kind.contract, frames[kind.contract]))
        for kind in Kind
    ]


def to_json(contract: str, record: Record) -> bytes:
    """A record for people to read: money as decimal text, bytes as hex."""

    def plain(node: Any, value: Any) -> Any:
        if isinstance(node, list):
            return None if value is None else plain(node[1], value)
        if isinstance(node, dict):
            if node.get("logicalType") == "decimal":
                return format(to_decimal(from_bytes(value)), "f")
            if node["type"] == "record":
                return {f["name"]: plain(f["type"], value[f["name"]]) for f in node["fields"]}
            if node["type"] == "array":
                return [plain(node["items"], entry) for entry in value]
            if node["type"] == "map":
                return {key: plain(node["values"], entry) for key, entry in value.items()}
        return value.hex() if isinstance(value, bytes) else value

    return json.dumps(plain(schema(contract), record), ensure_ascii=False).encode()
