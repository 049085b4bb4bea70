"""Seeks after a gap, and when there is another one."""

import asyncio

import pytest

from streams.errors import InputGap
from streams.runtime.gaps import AGAIN_AFTER_S, Gaps


class Partition:
    """A partition whose records are told to :class:`Gaps`, at a time that the test says."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sought: list[int] = []
        self.gaps = Gaps("staged", self._seek, lambda: self.now)

    async def _seek(self, partition: int, offset: int) -> None:
        self.sought.append(offset)

    def seek(self, after_s: float = 0.0) -> int:
        """How often is sought now."""
        self.now += after_s
        before = len(self.sought)
        asyncio.run(self.gaps.seek())
        return len(self.sought) - before

    def come(self, *offsets: int) -> None:
        for offset in offsets:
            self.gaps.found(0, 4, offset)


def test_a_gap_is_sought_once_and_again_only_when_the_record_does_not_come() -> None:
    partition = Partition()
    assert partition.seek() == 0
    partition.come(5)
    assert partition.seek() == 1
    partition.come(6, 7)  # were on their way
    assert partition.seek(AGAIN_AFTER_S - 1) == 0
    assert partition.seek(1) == 1
    assert partition.seek(AGAIN_AFTER_S) == 1  # also if nothing comes at all
    partition.gaps.close(0)
    assert partition.seek(AGAIN_AFTER_S) == 0
    assert set(partition.sought) == {4}


def test_records_that_were_on_their_way_at_another_seek_are_no_loss() -> None:
    partition = Partition()
    partition.come(5)
    partition.seek()
    partition.come(6, 7)
    partition.seek(AGAIN_AFTER_S)
    partition.come(8, 9)
    with pytest.raises(InputGap, match=r"staged\[0\]: offset 7 arrived where 4 was expected"):
        partition.come(7)


def test_a_record_that_comes_before_the_seek_is_no_loss() -> None:
    partition = Partition()
    partition.come(5, 6, 5)
    assert partition.seek() == 1


def test_a_gap_that_closes_while_others_are_sought_is_left_alone() -> None:
    sought: list[int] = []

    async def seek(partition: int, offset: int) -> None:
        sought.append(partition)
        gaps.close(2)

    gaps = Gaps("staged", seek)
    gaps.found(1, 4, 5)
    gaps.found(2, 4, 5)
    asyncio.run(gaps.seek())
    assert sought == [1]
