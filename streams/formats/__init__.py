"""The formats operators post in: one file each, holding its models and its translation."""

from streams.formats import fasttrack, gameball, native
from streams.formats.validation import Reader

READERS: dict[str, Reader] = {
    "native": native.read,
    "fasttrack": fasttrack.read,
    "gameball": gameball.read,
}
"""The readers by the ``source`` header of a raw record."""
