"""Gaps in the input of a stage: missing records are fetched again, once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from streams.errors import InputGap
from streams.records.topics import RAW

log = logging.getLogger(__name__)

Seek = Callable[[int, int], Awaitable[None]]
"""Moves the position of a partition back to an offset, so that records are delivered again."""


class Gaps:
    """Seeks back to missing records, once for each gap.

    Around a rebalance Faust 0.15.3 may drop a record and deliver the next: a message that is queued
    while the flow is suspended is dropped and its offset counted as read, and later messages of the
    same fetch are delivered when the flow resumes.
    """

    def __init__(self, topic: str, seek: Seek) -> None:
        self._topic = topic
        self._seek = seek
        self._sought: dict[int, int] = {}

    async def seek_back(self, partition: int, expected: int, arrived: int) -> None:
        """Seeks back to the offset ``expected`` after ``arrived`` was delivered instead.

        Records that were already fetched still arrive, with rising offsets; the caller drops them.
        Raises ``InputGap`` if the record is still missing after the seek.
        """
        sought = self._sought.get(partition)
        if sought is None:
            log.warning(
                "%s[%d]: offset %d arrived where %d was expected; seeking back",
                *(self._topic, partition, arrived, expected),
                extra={"partition": partition},
            )
            self._sought[partition] = arrived
            await self._seek(partition, expected)
        elif arrived <= sought:
            raise InputGap(
                f"{self._topic}[{partition}]: offset {arrived} arrived where {expected} was expected, "
                "also after seeking back. Records were deleted before they were processed."
            )

    def close(self, partition: int) -> None:
        """Forgets the gap: the missing record was delivered, or the partition was revoked."""
        self._sought.pop(partition, None)


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
            await self._gaps.seek_back(partition, expected, offset)
            return False
        if offset == expected:
            self._expected[partition] = expected + 1
            self._gaps.close(partition)
        return True
