"""Identity: idempotency hashes, topic keys, partitions."""

from collections.abc import Mapping
from functools import reduce
from hashlib import blake2b
from zlib import crc32

from streams.errors import ConfigurationError

ID_BYTES = 16
CONTENT_BYTES = 8


def hash_after(lead: str, last: str) -> bytes:
    """The 16-byte hash of a list of parts: those of ``lead`` (:func:`lengthened`), then ``last``.

    A caller makes the ``lead`` that many lists share only once.
    """
    return blake2b(lengthened(lead, last).encode(), digest_size=ID_BYTES).digest()


def lengthened(lead: str, part: str) -> str:
    """``lead`` with one part more. The length of each part is included: no two lists give one text."""
    return f"{lead}{len(part)}:{part}"


def content_hash(contents: list[bytes]) -> bytes:
    """The 8-byte hash of an item's contents. Avro datums delimit themselves, so they are hashed as one
    text.
    """
    return blake2b(b"".join(contents), digest_size=CONTENT_BYTES).digest()


def same_content(one: bytes, other: bytes) -> bool:
    """Whether two items are the same in the newest version that both hashes cover.

    An item's hash has a :func:`content_hash` for each version of its contract, the oldest first, so
    the hash of a newer version begins with that of an older one.
    """
    known = min(len(one), len(other))
    return one[:known] == other[:known]


def key_of(first: str, *parts: str) -> str:
    """A readable topic key: ``tenant|player``, with ``%`` and ``|`` in a part escaped."""
    return reduce(longer_key, parts, _escaped(first))


def longer_key(key: str, part: str) -> str:
    """``key`` with one part appended."""
    return f"{key}|{_escaped(part)}"


def _escaped(part: str) -> str:
    if "|" in part or "%" in part:
        return part.replace("%", "%25").replace("|", "%7C")
    return part


def erased_mark(key: str) -> bytes:
    """The 16-byte hash by which an erased player, named by its topic key, is recognised later."""
    return blake2b(key.encode(), digest_size=ID_BYTES, person=b"erased player").digest()


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key; librdkafka's ``consistent`` partitioner chooses the same."""
    return crc32(key.encode()) % partitions


def parents(old: int, new: int) -> Mapping[int, int]:
    """For each partition that a growth from ``old`` to ``new`` adds: the one that had its keys before.

    Raises ``ConfigurationError`` unless ``new`` is a multiple of ``old``: keys would come from several.
    """
    if new <= old or new % old:
        raise ConfigurationError(
            f"{old} partitions can become a multiple, like {2 * old}, and not {new}: the ids of a new "
            "partition must all have been decided by one old partition"
        )
    return {partition: partition % old for partition in range(old, new)}
