"""The canonical kinds, and the encoding of an event of any format as one Avro datum."""

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

TEST_SUFFIX = ".test"
"""The end of a test tenant's name. No other tenant's name has a point."""


def is_test(tenant: str) -> bool:
    """Whether a tenant's events are tests, which no KPI and no campaign counts."""
    return tenant.endswith(TEST_SUFFIX)


CORRECTION_PREFIX = "correction-"
"""The beginning of the batch id of a correction. No other batch id has it: they are UUIDs."""


def is_correction(batch_id: str) -> bool:
    """Whether a batch replaces an accepted item: see :mod:`streams.stages.process`."""
    return batch_id.startswith(CORRECTION_PREFIX)


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

    @property
    def subject_field(self) -> str:
        """The field that identifies what its events are about."""
        return "game_id" if self is Kind.GAME else "player_id"


_CONTRACTS = {kind: kind.name.lower().replace("_", "-") for kind in Kind}
_TOPICS = {kind: f"canonical.{contract}s" for kind, contract in _CONTRACTS.items()}


class Batch(NamedTuple):
    """The fields that all items of a request share. The headers of its raw record carry them.

    ``received_at`` is in microseconds since the epoch, UTC. ``traceparent`` is that of a request that
    is traced; only the edge has it.
    """

    tenant: str
    source: str
    batch_id: str
    received_at: int
    counts: bool
    merges_channels: bool
    idempotency_key: str | None
    traceparent: str | None = None


class Translated(msgspec.Struct, frozen=True, gc=False):
    """A valid item in canonical terms.

    ``subject`` is the player, or the game for a game. ``bodies`` are the fields that the kind adds
    to the shared leading ones: one body for most items, two for a realtime-gameround with a win.
    ``timed`` is false if the format carries no time; ``occurred_at`` is then the receipt.
    """

    kind: Kind
    subject: str
    source_event: str
    event_id: str
    occurred_at: int
    bodies: list[Record]
    timed: bool = True


def player_body(player_id: str, **known: object) -> Record:
    """The body of a canonical player event in which only the fields ``known`` are set."""
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


# A datum has three runs of fields: those that the batch shares, encoded once for all its events; the
# item's position; and the content, which is hashed.
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
    """The content of each of the item's events: every field that does not depend on the delivery."""
    origin = _ORIGIN.encode(item)
    encode_body = _BODY[item.kind].encode
    return [origin + encode_body(body) for body in item.bodies]


def hash_of_content(item: Translated, contents: list[bytes]) -> bytes:
    """The hash by which a repeated item is compared: 8 bytes for each version of its contract.

    ``contents`` are those of ``item``. The first 8 bytes cover the fields of version 1 of the
    contract, the next those of version 2, and so on: see
    :func:`streams.core.identity.same_content`. The time is left out if the format carries none, or
    a retry would differ from the first delivery.
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
    """The two runs of a content as one version of the contract defines them."""

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
    """The hash of an item that an older version cannot express. That version never accepted it, so any
    value that differs will do.
    """
    try:
        origin = encoders.origin(item)
        return content_hash([origin + encoders.body(body) for body in item.bodies])
    except (KeyError, OverflowError, TypeError, ValueError):
        return content_hash([b"only in newer versions", newest])


datums: Callable[[bytes, int, list[bytes]], list[bytes]] = joined
"""Builds the whole datums of an item from the result of :func:`encode_batch`, its position and its
contents.
"""


def encode(batch: Batch, position: int, item: Translated) -> list[bytes]:
    """The whole datums of an item."""
    return datums(encode_batch(batch), position, encode_content(item))


def decode(kind: Kind, datum: bytes) -> Record:
    """The event as a record, logical types left as they are on the wire."""
    return _WHOLE[kind].decode(datum)


class Content:
    """The encoding of a kind's events in one version of its contract.

    An event is forwarded in the version in which its content was written, whatever the present
    version is.
    """

    def __init__(self, kind: Kind, frame: bytes, writer: Schema) -> None:
        """``writer`` is the schema of the version, ``frame`` the five bytes before its datums."""
        contract = kind.contract
        is_present = writer == schema(contract)
        self.frame = frame
        self.decode: Callable[[bytes], Record] = (
            _CONTENT[kind].decode if is_present else resolving(contract, writer, after="position")
        )
        """The fields of a content, resolved to the present version."""
        self.decode_whole: Callable[[bytes], Record] = (
            _WHOLE[kind].decode if is_present else resolving(contract, writer)
        )
        """The fields of a whole datum, resolved to the present version."""
        self.encode_batch: Callable[[Batch], bytes] = encode_batch
        """The run before the position."""
        if not is_present:
            lead = field_index(writer, "position")
            self.encode_batch = Codec(
                contract, 0, lead, attributes=Batch._fields, version=writer
            ).encode


Contents = Sequence[Content]
"""Contents by kind."""


def contents_of(frames: Mapping[str, bytes], schema_of: Callable[[str, bytes], Schema]) -> Contents:
    """The encodings, by kind, in the versions that ``frames`` name by contract.

    ``schema_of(contract, frame)`` is the schema that a frame names.
    """
    return [
        Content(kind, frames[kind.contract], schema_of(kind.contract, frames[kind.contract]))
        for kind in Kind
    ]


def to_json(contract: str, record: Record) -> bytes:
    """The record as readable JSON: money as decimal text, bytes as hex."""

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
