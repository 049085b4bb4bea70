"""Gaps in the input of a stage: missing records are fetched again."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from streams.errors import InputGap
from streams.records.topics import RAW

log = logging.getLogger(__name__)

Seek = Callable[[int, int], Awaitable[None]]
"""Moves the position of a partition back to an offset, so that records are delivered again."""

AGAIN_AFTER_S = 10.0
"""If the missing record has not come for so long after a seek, there is another one."""


@dataclass
class _Gap:
    """A gap: the offset that is missing, the highest one that was delivered since, and that one as of
    the last seek, if there was any.
    """

    expected: int
    highest: int
    sought: int | None = None
    due_at: float = float("-inf")


class Gaps:
    """Seeks back to missing records.

    Around a rebalance Faust 0.15.3 may drop a record and deliver the next: a message that is queued
    while the flow is suspended is dropped and its offset counted as read, and later messages of the
    same fetch are delivered when the flow resumes.

    :meth:`seek` does not run in the task that reads the records: Faust has to get rid of those that it
    has fetched before it can go back.
    """

    def __init__(self, topic: str, seek: Seek, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: seconds."""
        self._topic = topic
        self._seek = seek
        self._clock = clock
        self._open: dict[int, _Gap] = {}

    def found(self, partition: int, expected: int, arrived: int) -> None:
        """Takes note that the offset ``arrived`` was delivered in the place of ``expected``.

        Records that were already fetched still arrive, with rising offsets; the caller drops them.
        Raises ``InputGap`` if the record is still missing after a seek.
        """
        gap = self._open.get(partition)
        if gap is None:
            log.warning(
                "%s[%d]: offset %d arrived where %d was expected; seeking back",
                *(self._topic, partition, arrived, expected),
                extra={"partition": partition},
            )
            self._open[partition] = _Gap(expected, arrived)
        elif gap.sought is not None and arrived <= gap.sought:
            raise InputGap(
                f"{self._topic}[{partition}]: offset {arrived} arrived where {expected} was expected, "
                "also after seeking back. Records were deleted before they were processed."
            )
        else:
            gap.highest = max(gap.highest, arrived)

    async def seek(self) -> None:
        """Seeks back in each partition with a gap, and again where the missing record does not come."""
        for partition, gap in list(self._open.items()):
            if self._clock() < gap.due_at or self._open.get(partition) is not gap:
                continue
            if gap.sought is not None:
                log.warning(
                    "%s[%d]: offset %d has not come; seeking back again",
                    *(self._topic, partition, gap.expected),
                    extra={"partition": partition},
                )
            await self._seek(partition, gap.expected)
            gap.sought, gap.due_at = gap.highest, self._clock() + AGAIN_AFTER_S

    def close(self, partition: int) -> None:
        """Forgets the gap: the missing record was delivered, or the partition was revoked."""
        self._open.pop(partition, None)


class InputOrder:
    """The order of raw records: each partition's records follow its committed offset without a gap.

    ``committed(partition)`` is that offset, and ``seek(partition, offset)`` delivers records again.
    """

    def __init__(self, committed: Callable[[int], int], seek: Seek) -> None:
        self._committed = committed
        self._gaps = Gaps(RAW, seek)
        self._expected: dict[int, int] = {}

    def forget(self) -> None:
        """Forgets the expected offsets, because a new assignment begins."""
        for partition in list(self._expected):
            self._gaps.close(partition)
        self._expected.clear()

    async def admit(self, partition: int, offset: int) -> bool:
        """Whether the record may be translated. If not, the caller drops it unacknowledged."""
        expected = self._expected.get(partition)
        if expected is None:
            expected = self._expected[partition] = await asyncio.to_thread(self._committed, partition)
        if offset > expected:
            self._gaps.found(partition, expected, offset)
            return False
        if offset == expected:
            self._expected[partition] = expected + 1
            self._gaps.close(partition)
        return True

    async def seek(self) -> None:
        """Seeks back where records are missing."""
        await self._gaps.seek()
