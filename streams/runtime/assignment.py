"""The assignment of partitions to workers: which worker owns each, and which workers follow it.

When a worker leaves, Faust's own assignor gives only some of its partitions to their followers (19 of
64 with six workers), and it leaves one of three workers idle with four partitions. This assignor
replaces the choice and keeps Faust's protocol, so that one group may have workers with either.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import faust
from faust.assignor.client_assignment import ClientAssignment, ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor

_ON_DISK, _CAUGHT_UP, _WARMS = "on-disk", "caught-up", "warms"
"""Keys that are used like topic names, in addition to the followed partitions of Faust's protocol: the
partitions with some state on a worker's disk, those whose copies are up to date, and those that the
worker will own later."""


class Member(NamedTuple):
    """A worker's partitions before a rebalance; ``followed`` are those whose copies are up to date."""

    owned: frozenset[int] = frozenset()
    followed: frozenset[int] = frozenset()
    on_disk: frozenset[int] = frozenset()


class Share(NamedTuple):
    """A worker's partitions after a rebalance. It follows those in ``warms`` in addition, and owns them
    when its copies are up to date."""

    owns: frozenset[int]
    follows: frozenset[int]
    warms: frozenset[int]


def plan(members: Mapping[str, Member], partitions: int, standbys: int) -> dict[str, Share]:
    """Owners and followers of all partitions.

    A partition goes to a member that has its state: its owner, else a follower, else one with
    some state of it on the disk. Under this condition, the numbers of partitions of any two members
    differ by at most one. With standbys the balance comes later: a member without state first follows
    the partitions that it will own. The followers of one owner's partitions are spread over the other
    members, so that these can take over all of them.
    """
    owners, warms = _owners(members, partitions, standbys > 0)
    followers = _followers(members, owners, min(standbys, len(members) - 1))
    return {
        name: Share(
            frozenset(partition for partition, owner in owners.items() if owner == name),
            frozenset(partition for partition, names in followers.items() if name in names),
            frozenset(partition for partition, later in warms.items() if later == name),
        )
        for name in members
    }


def _owners(
    members: Mapping[str, Member], partitions: int, warm: bool
) -> tuple[dict[int, str], dict[int, str]]:
    """The owner of each partition, and the later owners of those that will move."""
    least, more = divmod(partitions, len(members))
    by_owned = sorted(members, key=lambda name: (-len(members[name].owned), name))
    places = _Places({name: least + (rank < more) for rank, name in enumerate(by_owned)})
    copies = Counter(partition for member in members.values() for partition in member.followed)
    # partitions without copies first: those that an owner must give up should have a copy elsewhere
    ranked = sorted(range(partitions), key=lambda each: (copies[each], each))

    def place(holds: Callable[[Member], Container[int]]) -> None:
        held = {name: holds(members[name]) for name in by_owned}
        can = [[name for name in by_owned if each in held[name]] for each in range(partitions)]
        for partition in ranked:
            if partition not in places.owners:
                places.find(partition, can, set())

    place(lambda member: member.owned)
    place(lambda member: member.owned | member.followed)
    place(lambda member: member.owned | member.followed | member.on_disk)
    above: list[int] = []
    for partition in [each for each in ranked if warm and each not in places.owners]:
        held = [
            (tier, places.number(name), name)
            for name, member in members.items()
            for tier, has in enumerate(member)
            if partition in has
        ]
        if held:
            places.put(partition, min(held)[2])
            above.append(partition)
    place(lambda member: range(partitions))
    return places.owners, places.later(above)


class _Places:
    """Owners with a bounded number of partitions each."""

    def __init__(self, room: Mapping[str, int]) -> None:
        self._room = room
        self.owners: dict[int, str] = {}
        self._owned: dict[str, set[int]] = {name: set() for name in room}

    def find(self, partition: int, can: Sequence[Sequence[str]], tried: set[str]) -> bool:
        """Assigns a partition to a possible member; others may move for it (an augmenting path)."""
        for name in can[partition]:
            if name in tried:
                continue
            tried.add(name)
            owned = self._owned[name]
            if len(owned) < self._room[name] or any(self.find(p, can, tried) for p in sorted(owned)):
                self.put(partition, name)
                return True
        return False

    def put(self, partition: int, name: str) -> None:
        """Assigns a partition to a member, even above its bound."""
        if partition in self.owners:
            self._owned[self.owners[partition]].remove(partition)
        self.owners[partition] = name
        self._owned[name].add(partition)

    def number(self, name: str) -> int:
        """The number of partitions of a member."""
        return len(self._owned[name])

    def later(self, partitions: Iterable[int]) -> dict[int, str]:
        """The later owners, with free room, of partitions that are above the bound of their owners."""
        left = {name: room - len(self._owned[name]) for name, room in self._room.items()}
        found = {}
        for partition in partitions:
            name = max(left, key=lambda each: left[each])
            found[partition] = name
            left[name] -= 1
        return found


def _followers(
    members: Mapping[str, Member], owners: Mapping[int, str], standbys: int
) -> dict[int, set[str]]:
    followers: dict[int, set[str]] = {partition: set() for partition in owners}
    of_owner: Counter[tuple[str, str]] = Counter()
    in_all: Counter[str] = Counter()
    owned = Counter(owners.values())
    evenly = -(-len(owners) * standbys // len(members))
    for _, (partition, owner) in itertools.product(range(standbys), sorted(owners.items())):
        spread = -(-owned[owner] * standbys // (len(members) - 1))
        costs = [
            (
                of_owner[owner, name] >= spread,
                partition not in member.followed | member.owned,
                in_all[name] >= evenly,
                partition not in member.on_disk,
                of_owner[owner, name],
                in_all[name],
                name,
            )
            for name, member in members.items()
            if name != owner and name not in followers[partition]
        ]
        name = min(costs)[-1]
        followers[partition].add(name)
        of_owner[owner, name] += 1
        in_all[name] += 1
    return followers


class Local(NamedTuple):
    """The numbers of the partitions that a worker reports to the group's leader."""

    on_disk: Callable[[], Iterable[int]]
    caught_up: Callable[[], Iterable[int]]


class StickyAssignor(PartitionAssignor):
    """An assignor with Faust's protocol that assigns by :func:`plan`."""

    local: Local
    standbys: int

    @property
    def followed(self) -> frozenset[int]:
        """The partitions to follow, including :attr:`warms`."""
        return frozenset().union(*self._assignment.standbys.values())

    @property
    def warms(self) -> frozenset[int]:
        """The followed partitions that the worker will own when its copies are up to date."""
        return frozenset(self._assignment.standbys.get(_WARMS, ()))

    @property
    def _metadata(self) -> ClientMetadata:
        metadata = super()._metadata
        had = metadata.assignment
        told = {_ON_DISK: sorted(self.local.on_disk()), _CAUGHT_UP: sorted(self.local.caught_up())}
        standbys = {topic: had.standbys[topic] for topic in had.standbys if topic != _WARMS}
        metadata.assignment = ClientAssignment(actives=had.actives, standbys=standbys | told)
        return metadata

    def _perform_assignment(self, cluster: Any, member_metadata: Any) -> Any:
        sent = {name: self._get_client_metadata(each) for name, each in member_metadata.items()}
        self._update_member_urls(sent)
        topics = {topic for each in member_metadata.values() for topic in each.subscription}
        counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        members = {name: _member(each.assignment) for name, each in sent.items()}
        shares = plan(members, max(counts.values(), default=0), self.standbys)
        assignments = {
            name: ClientAssignment(
                actives=_of_topics(share.owns, counts),
                standbys=_of_topics(share.follows, counts) | {_WARMS: sorted(share.warms)},
            )
            for name, share in shares.items()
        }
        return self._protocol_assignments(
            assignments,
            self._get_changelog_distribution(assignments),
            self._get_external_topic_distribution(assignments),
            dict.fromkeys(topics, 0),
        )


def assignor(standbys: int, local: Local) -> type[StickyAssignor]:
    """The class for Faust's setting ``PartitionAssignor``; Faust creates the object itself."""
    return type("StickyAssignor", (StickyAssignor,), {"standbys": standbys, "local": local})


def sticky(app: faust.App) -> StickyAssignor:
    """The assignor that Faust has made for an app."""
    found = app.assignor
    assert isinstance(found, StickyAssignor)
    return found


def _member(assignment: ClientAssignment) -> Member:
    owned = frozenset().union(*assignment.actives.values())
    standbys = dict(assignment.standbys)
    on_disk = frozenset(standbys.pop(_ON_DISK, ()))
    caught_up = standbys.pop(_CAUGHT_UP, None)
    followed = frozenset().union(*standbys.values()) if caught_up is None else frozenset(caught_up)
    return Member(owned, followed, on_disk)


def _of_topics(partitions: Iterable[int], counts: Mapping[str, int]) -> dict[str, list[int]]:
    return {
        topic: sorted(each for each in partitions if each < count) for topic, count in counts.items()
    }
