"""Gaps in the input of a stage: records that are missing are asked for again, once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from streams.errors import InputGap
from streams.records.topics import RAW

log = logging.getLogger(__name__)

Seek = Callable[[int, int], Awaitable[None]]
"""Asks for the records of a partition again, from an offset on."""


class Gaps:
    """Asks for records again where some are missing, once for each gap.

    Around a rebalance Faust 0.15.3 may drop a record and deliver the next: a message that waits while
    the flow is suspended is let go, its offset counted as read, and what was fetched with it passes
    when the flow resumes.
    """

    def __init__(self, topic: str, seek: Seek) -> None:
        self._topic = topic
        self._seek = seek
        self._sought: dict[int, int] = {}

    async def seek_back(self, partition: int, due: int, came: int) -> None:
        """What was under way comes with rising offsets, and is to be dropped too."""
        sought = self._sought.get(partition)
        if sought is None:
            log.warning("%s[%d]: %d came, %d was due; seeking back", self._topic, partition, came, due)
            self._sought[partition] = came
            await self._seek(partition, due)
        elif came <= sought:
            raise InputGap(
                f"{self._topic}[{partition}]: {due} was due and does not come even after seeking back "
                f"to it; {came} came instead. Records were deleted before they were processed."
            )

    def close(self, partition: int) -> None:
        """What was due has come, or the partition is somebody else's."""
        self._sought.pop(partition, None)


class InputOrder:
    """Raw records in their order, from where their partition was committed.

    ``committed(partition)`` is that offset, and ``seek(partition, offset)`` asks for records again.
    """

    def __init__(self, committed: Callable[[int], int], seek: Seek) -> None:
        self._committed = committed
        self._gaps = Gaps(RAW, seek)
        self._due: dict[int, int] = {}

    def forget(self) -> None:
        """Forgets what is due: another assignment begins."""
        for partition in list(self._due):
            self._gaps.close(partition)
        self._due.clear()

    async def admit(self, partition: int, offset: int) -> bool:
        """Whether the record may be translated; one that may not is to be dropped unacknowledged."""
        due = self._due.get(partition)
        if due is None:
            due = self._due[partition] = await asyncio.to_thread(self._committed, partition)
        if offset > due:
            await self._gaps.seek_back(partition, due, offset)
            return False
        if offset == due:
            self._due[partition] = due + 1
            self._gaps.close(partition)
        return True
