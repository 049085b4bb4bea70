"""The formats operators post in: one file each, holding its models and its translation."""

from streams.batch import Reader
from streams.sources import fasttrack, gameball, native

READERS: dict[str, Reader] = {
    "native": native.read,
    "fasttrack": fasttrack.read,
    "gameball": gameball.read,
}
"""By the ``source`` header of a raw record."""
