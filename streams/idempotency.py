"""Which event is which: keys, hashes, partitions."""

from functools import reduce
from hashlib import blake2b
from zlib import crc32

ID_BYTES = 16
CONTENT_BYTES = 8


def hash_of(*parts: str) -> bytes:
    """16 bytes for ``parts``."""
    return digest(lengthed(*parts))


def lengthed(*parts: str) -> str:
    """Each part with its length, so that no two lists are the same when joined."""
    return "".join([f"{len(part)}:{part}" for part in parts])


def digest(joined: str) -> bytes:
    """16 bytes for what :func:`lengthed` made; where many share a beginning it is made once."""
    return blake2b(joined.encode(), digest_size=ID_BYTES).digest()


def content_hash(contents: list[bytes]) -> bytes:
    """8 bytes for an item's content; Avro datums delimit themselves, so they may simply be joined."""
    return blake2b(b"".join(contents), digest_size=CONTENT_BYTES).digest()


def key_of(first: str, *parts: str) -> str:
    """A topic key people can read: ``tenant|player``, with ``%`` and ``|`` in a part escaped."""
    return reduce(longer_key, parts, _escaped(first))


def longer_key(key: str, part: str) -> str:
    """A key with one part more."""
    return f"{key}|{_escaped(part)}"


def _escaped(part: str) -> str:
    if "|" in part or "%" in part:
        return part.replace("%", "%25").replace("|", "%7C")
    return part


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key; librdkafka's ``consistent`` partitioner chooses the same."""
    return crc32(key.encode()) % partitions
