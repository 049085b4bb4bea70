"""What the changelogs hold: puts to the tables, and the position up to which input is applied."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from streams.records.topics import RECORD_BYTES
from streams.state.rocksdb import Puts
from streams.wire.avro import Record, codec, unframe

POSITION_KEY = b"\x00position"
"""Of the position in the window table; its value is a record of the changelog without puts."""

_CHANGES = codec("window-changes")
_PACK = msgspec.msgpack.Encoder().encode
_UNPACK = msgspec.msgpack.Decoder(dict[bytes, bytes]).decode


class Position(NamedTuple):
    """How far the input is applied. ``raw`` by raw partition: (offset, part)."""

    staged_offset: int
    raw: Mapping[int, tuple[int, int]]

    def record(self) -> Record:
        """As the contract ``window-changes`` has it."""
        return {
            "staged_offset": self.staged_offset,
            "raw": {str(p): {"offset": o, "part": part} for p, (o, part) in self.raw.items()},
        }

    @classmethod
    def of(cls, record: Record) -> "Position":
        """The inverse of :meth:`record`."""
        raw = {int(p): (at["offset"], at["part"]) for p, at in record["raw"].items()}
        return cls(record["staged_offset"], raw)


def stored_position(value: bytes) -> Position:
    """The inverse of what :data:`POSITION_KEY` holds."""
    return Position.of(_CHANGES.decode(value)["position"])


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


def window_puts(key: bytes | None, value: bytes) -> Puts:
    """The puts of a record of the window changelog."""
    record = _CHANGES.decode(unframe(value))
    puts = _UNPACK(record["puts"])
    if record["position"] is not None:
        puts[POSITION_KEY] = change({}, Position.of(record["position"]))
    return puts


def profile_puts(key: bytes | None, value: bytes) -> Puts:
    """The put of a record of the profiles changelog."""
    assert key is not None
    return {key: unframe(value)}
