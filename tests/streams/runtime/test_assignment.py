"""The partitions that each worker owns and follows, and the moves when workers join and leave."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.runtime.assignment import Member, Share, plan

PARTITIONS = 12
some = st.frozensets(st.integers(0, PARTITIONS - 1))
anyone = st.builds(Member, some, some, some)
groups = st.dictionaries(st.sampled_from("abcdef"), anyone, min_size=1)


@given(groups, st.integers(1, PARTITIONS), st.integers(0, 3))
def test_whatever_workers_say_they_have_all_is_assigned_and_in_the_end_evenly(
    members: dict[str, Member], partitions: int, standbys: int
) -> None:
    shares = plan(members, partitions, standbys)
    copies = min(standbys, len(members) - 1)
    for _ in range(2):
        owned = Counter(partition for share in shares.values() for partition in share.owns)
        followed = Counter(partition for share in shares.values() for partition in share.follows)
        assert owned == Counter(range(partitions))
        assert followed == Counter({partition: copies for partition in range(partitions) if copies})
        assert not any(share.owns & (share.follows | share.warms) for share in shares.values())
        held = {name: frozenset().union(*member) for name, member in members.items()}
        for name, share in shares.items():
            for partition in share.owns - held[name]:  # cold
                assert not copies or not any(partition in other for other in held.values())
        members = settled(shares)
        last, shares = shares, plan(members, partitions, standbys)
    numbers = [len(share.owns) for share in last.values()]
    assert max(numbers) - min(numbers) <= 1


def settled(shares: dict[str, Share]) -> dict[str, Member]:
    """The members of a group in which all copies are up to date."""
    return {
        name: Member(share.owns, share.follows | share.warms, frozenset().union(*share))
        for name, share in shares.items()
    }


def grown(workers: int, partitions: int, standbys: int) -> dict[str, Share]:
    """The shares of workers that have joined one after another."""
    shares: dict[str, Share] = {}
    for number in range(workers):
        shares = plan(settled(shares) | {f"worker-{number}": Member()}, partitions, standbys)
        shares = plan(settled(shares), partitions, standbys)
    return shares


SIZES = [(2, 4, 1), (3, 4, 1), (3, 12, 1), (4, 16, 1), (4, 16, 2), (6, 64, 1)]


@pytest.mark.parametrize(("workers", "partitions", "standbys"), SIZES)
def test_nothing_moves_without_a_reason_and_what_a_worker_leaves_goes_to_its_followers(
    workers: int, partitions: int, standbys: int
) -> None:
    before = grown(workers, partitions, standbys)
    assert plan(settled(before), partitions, standbys) == before
    for gone in before:
        rest = {name: member for name, member in settled(before).items() if name != gone}
        after = plan(rest, partitions, standbys)
        assert not any(share.warms for share in after.values())
        for name, share in after.items():
            assert share.owns <= before[name].owns | before[name].follows, (gone, name)

        was = before[gone].owns | before[gone].follows
        back = plan(settled(after) | {gone: Member(on_disk=was)}, partitions, standbys)
        assert back[gone].owns <= was
        for name, share in back.items():
            if name != gone:
                assert share.owns <= after[name].owns | after[name].follows


@pytest.mark.parametrize(("workers", "partitions", "standbys"), SIZES)
def test_a_worker_that_has_no_state_warms_its_share_before_it_owns_it(
    workers: int, partitions: int, standbys: int
) -> None:
    before = grown(workers, partitions, standbys)
    others = {name: member for name, member in settled(before).items() if name != "worker-0"}
    first = plan(others | {"new": Member()}, partitions, standbys)
    assert first["new"].owns == frozenset()
    assert len(first["new"].warms) == partitions // workers
    then = plan(settled(first), partitions, standbys)
    assert len(then["new"].owns) >= partitions // workers
    for name, share in then.items():
        assert share.owns <= first[name].owns | first[name].follows | first[name].warms
    assert not any(share.warms for share in then.values())


def test_without_standbys_a_new_worker_has_its_share_at_once() -> None:
    before = grown(2, 12, 0)
    assert len(plan(settled(before) | {"new": Member()}, 12, 0)["new"].owns) == 4
