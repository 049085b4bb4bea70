"""How a transactional id takes a partition over from those that wrote it before. Pure: without Kafka.

A *lane* is a transactional id under which a process writes partitions. ``process-<P>`` is the own lane
of partition P: whoever takes P over fences it, so it needs no claim. Another lane may write several
partitions; it belongs to one process, which initialises it once, before its first claim. Such a lane
claims a partition before it writes it, and releases it after its last transaction with the partition
has committed. Claims and releases are records of one log for each partition: the key is the lane, a
claim has a value, and a tombstone says that the lane does not write under its earlier claim any more.

Taking a partition over, and the state after a crash at the end of each step:

1. ``claim``, unless the lane is the partition's own. The claim of a lane that never writes stays in the
   log; the next owner fences it for nothing.
2. ``fence`` the partition's own lane. If that is the lane that takes over, this is its initialisation.
3. ``notes``: the other lanes that claimed before this claim (or, without one, up to now) and have not
   released since. ``fence`` each of them. Nothing is written; the next owner does the same again.
4. ``retire``: tombstones for the lanes that were fenced.
5. The caller reads the changelog to its high watermark, and waits until the last stable offset reaches
   it: a commit returns before its markers are written, and a lane that has released is not fenced.

Why no two lanes write a partition at the same time, whatever the order of their steps: of two lanes
with claims, the one with the later claim reads the earlier one and fences that lane before it reads the
changelog. Of a lane L with a claim and the partition's own lane O: L claims before it fences O. If O
was initialised before that, it is fenced. If it is initialised after that, its process then reads the
claim, and fences L. Compaction keeps the last record of a lane, so no claim that stands is lost. A
fenced lane is never initialised by its process again; the own lane of a partition is, but only by a
process that then takes the partition over.

``tests/streams/state/test_takeover.py`` executes these functions in every order of their steps.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple, Protocol


class Note(NamedTuple):
    """A record of the log of a partition's owners: a claim of ``lane``, or its end."""

    lane: str
    claims: bool
    offset: int


class Owners(Protocol):
    """The owners of one partition, for the lane that takes it over. Every call blocks."""

    lane: str
    """The lane that takes over."""

    own: str
    """The partition's own lane."""

    def claim(self) -> int:
        """Writes a claim of :attr:`lane`; returns its offset. Fails if the lane is fenced."""
        ...

    def fence(self, lane: str) -> None:
        """Initialises a transactional id: what was open under it is aborted, what is being committed
        is committed, and its earlier producers write nothing any more.
        """
        ...

    def notes(self, through: int | None) -> Iterable[Note]:
        """The records of the log in order, to its present end, which is behind ``through``."""
        ...

    def retire(self, lanes: Collection[str]) -> None:
        """Writes tombstones for lanes that are fenced."""
        ...


def take_over(owners: Owners) -> None:
    """Takes a partition over; afterwards no other lane can write it. See the module's steps."""
    claimed = None if owners.lane == owners.own else owners.claim()
    owners.fence(owners.own)
    others = [lane for lane in standing(owners.notes(claimed), claimed) if lane != owners.lane]
    for lane in others:
        owners.fence(lane)
    if others:
        owners.retire(others)


def standing(notes: Iterable[Note], claimed: int | None) -> list[str]:
    """The lanes that claimed before the offset ``claimed`` (None: at any time) and have not released.

    A release counts at any offset: a lane that claims again after it is a later owner.
    """
    found: dict[str, None] = {}
    for note in notes:
        if not note.claims:
            found.pop(note.lane, None)
        elif claimed is None or note.offset < claimed:
            found[note.lane] = None
    return list(found)
