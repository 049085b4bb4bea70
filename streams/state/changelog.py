"""The records of the changelogs: puts to the tables, and the position of the applied input."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from streams.core.profile import Profile, profile_of
from streams.kafka.schemas import Schemas
from streams.records.topics import CONTRACTS, PROFILES, RECORD_BYTES, WINDOW
from streams.state.rocksdb import Changes, Puts
from streams.wire.avro import FRAME_BYTES, MAGIC, Reader, Record, codec

POSITION_KEY = b"\x00position"
"""Key of the position in the window table; its value is a changelog record without puts."""

FIRST_SEGMENT = -1
"""See :class:`Position`."""

_CHANGES = codec("window-changes")
_NAMED = b"\x01"
_PACK = msgspec.msgpack.Encoder().encode
_UNPACK = msgspec.msgpack.Decoder(dict[bytes, bytes]).decode


class Position(NamedTuple):
    """The position up to which input is applied.

    ``raw`` is, by raw partition, the last (offset, part). Under :data:`FIRST_SEGMENT`, which is no
    partition, it has what a partition that was added later adds to its staged offsets to number
    segments: they continue where those of its parent ended, or two segments of a round could have one
    number. Every version, also 0.1.0, keeps the whole map from transaction to transaction.
    """

    staged_offset: int
    raw: Mapping[int, tuple[int, int]]

    @property
    def first_segment(self) -> int:
        """What is added to a staged offset to number a segment."""
        return self.raw.get(FIRST_SEGMENT, (0, 0))[0]

    def of_child(self) -> "Position":
        """The position at which a partition begins whose parent is at this position."""
        segments = self.first_segment + self.staged_offset + 1
        return Position(-1, {**self.raw, FIRST_SEGMENT: (segments, 0)})

    def record(self) -> Record:
        """The position as the contract ``window-changes`` has it."""
        return {
            "staged_offset": self.staged_offset,
            "raw": {str(p): {"offset": o, "part": part} for p, (o, part) in self.raw.items()},
        }

    @classmethod
    def of(cls, record: Record) -> "Position":
        """The inverse of :meth:`record`."""
        raw = {int(p): (at["offset"], at["part"]) for p, at in record["raw"].items()}
        return cls(record["staged_offset"], raw)


def change(puts: Puts, position: Position | None) -> bytes:
    """The datum of one changelog record."""
    return _CHANGES.encode(
        {"puts": _PACK(puts), "position": None if position is None else position.record()}
    )


def changelog_records(puts: Puts, position: Position) -> list[bytes]:
    """The changelog records of one transaction, the position in the last."""
    whole = change(puts, position)
    if len(whole) <= RECORD_BYTES or len(puts) < 2:
        return [whole]
    entries = list(puts.items())
    parts = math.ceil(len(whole) / RECORD_BYTES)
    size = math.ceil(len(entries) / parts)
    slices = [dict(entries[start : start + size]) for start in range(0, len(entries), size)]
    return [*[change(part, None) for part in slices[:-1]], change(slices[-1], position)]


class StateCodec:
    """State as changelogs and tables hold it, whichever version has written it.

    A record of a changelog is framed as every Avro record is. In a table a datum stands bare where
    version 1 of its contract has written it, as 0.1.0 did, and otherwise behind a byte with which no
    bare datum begins and the schema id: ``0x01`` would be a length or an index below zero.
    """

    def __init__(self, schemas: Schemas) -> None:
        self._window, self._profile = CONTRACTS[WINDOW], CONTRACTS[PROFILES]
        self._frames = schemas.frames
        self._first = {name: schemas.first(name) for name in (self._window, self._profile)}
        self._readers = {
            name: Reader(name, schemas.frames[name], schemas.schema_of) for name in self._first
        }

    def window_puts(self, key: bytes | None, value: bytes | None) -> Puts:
        """The puts of a record of the window changelog."""
        assert value is not None
        record = self._readers[self._window].read(value)
        puts = _UNPACK(record["puts"])
        if record["position"] is not None:
            puts[POSITION_KEY] = self.stored_position(Position.of(record["position"]))
        return puts

    def profile_changes(self, key: bytes | None, value: bytes | None) -> Changes:
        """The put of a record of the profiles changelog; a tombstone deletes its key."""
        assert key is not None
        return {key: None if value is None else self.stored_profile(value)}

    def stored_position(self, position: Position) -> bytes:
        """What the window table holds under :data:`POSITION_KEY`."""
        return self._stored(self._window, self._frames[self._window] + change({}, position))

    def stored_profile(self, framed: bytes) -> bytes:
        """What the table of profiles holds for a value of its changelog."""
        return self._stored(self._profile, framed)

    def position(self, stored: bytes) -> Position:
        """The inverse of :meth:`stored_position`, for any version."""
        return Position.of(self._read(self._window, stored)["position"])

    def profile(self, stored: bytes) -> Profile:
        """The profile that the table of profiles holds, written by any version."""
        return profile_of(self._read(self._profile, stored))

    def _stored(self, contract: str, framed: bytes) -> bytes:
        if framed.startswith(self._first[contract]):
            return framed[FRAME_BYTES:]
        return _NAMED + framed[len(MAGIC) :]

    def _read(self, contract: str, stored: bytes) -> Record:
        if stored.startswith(_NAMED):
            return self._readers[contract].read(MAGIC + stored[len(_NAMED) :])
        return self._readers[contract].read(self._first[contract] + stored)
