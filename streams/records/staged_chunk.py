"""The records of ``staged``: groups of items that translate sends to process, each group from one
request.

The records have the contract ``staged-chunk``; the items in them are packed as MessagePack, which
``msgspec`` reads and checks in C. The topic is internal to Roundhouse.

A header of the record names the schema ids in which the contents of its items are written, one for
each kind. Process, of an older or a newer version, forwards them under those ids. Records of 0.1.0
have no header: their contents are of version 1 of every contract.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from streams.core.event import Batch, Contents, Kind
from streams.core.identity import CONTENT_BYTES, ID_BYTES
from streams.core.round import Transaction
from streams.records import layout
from streams.records.raw_batch import Headers
from streams.wire.avro import MAGIC, Record, codec

try:
    from streams.records import _staged as compiled
except ImportError:
    compiled = None  # type: ignore[assignment]

PROFILE_KINDS = frozenset((Kind.PLAYER, Kind.GAME, Kind.CUSTOM_EVENT))
"""Kinds that update the profile of a player or a game: process reads their events."""

CONTENTS = "contents"
"""The header: four bytes for each kind, in their order."""

PARTITIONS = "partitions"
"""The header: the number of partitions among which translate divided the items."""

ERASE = "erase"
"""The header of a record that erases a player: the player's key. The record has no groups."""

_ID_BYTES = 4
_STAGED = codec("staged-chunk")


class StagedRecord(NamedTuple):
    """A record of ``staged``."""

    offset: int
    value: bytes
    headers: Headers = ()

    @property
    def contents(self) -> bytes | None:
        """The schema ids in the header; None if the record has no header."""
        return next((value for name, value in self.headers if name == CONTENTS), None)

    @property
    def erases(self) -> str | None:
        """The key of the player that the record erases; None for a record of groups."""
        return next((value.decode() for name, value in self.headers if name == ERASE), None)

    @property
    def partitions(self) -> int | None:
        """The number of partitions in the header; None if the record has no such header."""
        found = next((value for name, value in self.headers if name == PARTITIONS), b"")
        return int(found) if found.isdigit() else None


def partitions_header(partitions: int) -> tuple[str, bytes]:
    """The header for items that are divided among so many partitions."""
    return PARTITIONS, b"%d" % partitions


def content_header(frames: Mapping[str, bytes]) -> tuple[str, bytes]:
    """The header for contents that are written under ``frames``, by contract."""
    return CONTENTS, b"".join(frames[kind.contract][1:] for kind in Kind)


def content_frames(header: bytes) -> dict[str, bytes]:
    """The inverse of :func:`contents_header`, for the kinds that both versions know."""
    ids = [header[at : at + _ID_BYTES] for at in range(0, len(header), _ID_BYTES)]
    return {kind.contract: MAGIC + number for kind, number in zip(Kind, ids, strict=False)}


class StagedItem(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A translated item.

    ``lookup_only``: the item updates a profile, and is neither counted nor emitted. ``key`` is its
    key on the canonical topic, ``contents`` its events as :func:`streams.core.event.encode_content`
    encodes them. ``transactions`` are the fields of a game transaction that rounds need, so that
    process does not decode it. ``content_hash`` has 8 bytes for each version of the kind's
    contract, see :func:`streams.core.event.hash_of_content`. Fields are appended, never moved.
    """

    position: Annotated[int, Meta(ge=0, lt=1 << 31)]
    kind: Kind
    lookup_only: bool
    id_hash: Annotated[bytes, Meta(min_length=ID_BYTES, max_length=ID_BYTES)]
    content_hash: Annotated[bytes, Meta(min_length=CONTENT_BYTES)]
    key: str
    contents: Annotated[list[bytes], Meta(min_length=1)]
    transactions: list[Transaction]


PackedItem = tuple[bytes, int]
"""A staged item as MessagePack, and how many bytes its contents have."""


class PackedGroup(NamedTuple):
    """A group with the fields of the contract ``staged-chunk``; its items are packed as MessagePack."""

    raw_partition: int
    raw_offset: int
    part: int
    tenant: str
    source: str
    batch_id: str
    received_at: int
    counts: bool
    items: bytes


class Group(NamedTuple):
    """The items of one request that belong to one staged partition, or a part of them.

    ``contents`` are the encodings of their contents.
    """

    raw_partition: int
    raw_offset: int
    part: int
    batch: Batch
    items: list[StagedItem]
    contents: Contents


_pack = msgspec.msgpack.Encoder().encode
_unpack_item = msgspec.msgpack.Decoder(StagedItem).decode
_unpack_items = msgspec.msgpack.Decoder(list[StagedItem]).decode


def pack_item(item: StagedItem) -> PackedItem:
    """The item packed."""
    return _pack(item), sum(map(len, item.contents))


def pack(at: tuple[int, int, int], batch: Batch, items: Iterable[PackedItem]) -> PackedGroup:
    """A group of a batch. ``at``: its raw partition, raw offset and part."""
    return PackedGroup(
        *at,
        batch.tenant,
        batch.source,
        batch.batch_id,
        batch.received_at,
        batch.counts,
        _pack([msgspec.Raw(item) for item, _ in items]),
    )


def encode_chunk(groups: Iterable[PackedGroup]) -> bytes:
    """The ``staged-chunk`` datum of ``groups``."""
    return _STAGED.encode({"groups": [group._asdict() for group in groups]})


def erasing(key: str) -> tuple[list[tuple[str, bytes]], bytes]:
    """Headers and datum of the record that erases the player with this key."""
    return [*layout.STAGED_LAYOUT.newest_headers, (ERASE, key.encode())], encode_chunk([])


def groups_of(
    value: bytes, contents: Contents, decode: Callable[[bytes], Record] = _STAGED.decode
) -> list[Group]:
    """The groups of a ``staged-chunk`` datum, or of what ``decode`` takes.

    Raises ``ValueError`` if translate cannot have written it.
    """
    try:
        return [unpack(PackedGroup(**group), contents) for group in decode(value)["groups"]]
    except (EOFError, LookupError, ArithmeticError, TypeError) as error:  # what fastavro raises
        raise ValueError(str(error) or type(error).__name__) from None


def unpack(group: PackedGroup, contents: Contents) -> Group:
    """A group with its items read. Raises ``ValueError`` if translate cannot have written it."""
    batch = Batch(
        group.tenant,
        group.source,
        group.batch_id,
        group.received_at,
        group.counts,
        merges_channels=False,
        idempotency_key=None,
    )
    found = None if compiled is None else compiled.unpack(group.items, _unpack_item)
    items, others = found or 2 * (_unpack_items(group.items),)
    for item in others:
        if (item.kind is Kind.GAME_TRANSACTION) != bool(item.transactions):
            raise ValueError("the group's transactions are not those of its items")
        if item.kind in PROFILE_KINDS:
            contents[item.kind].decode(item.contents[0])
    return Group(group.raw_partition, group.raw_offset, group.part, batch, items, contents)
