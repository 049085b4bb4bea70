"""Waits until the stages and the sink have passed everything that was written before."""

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing

from streams.errors import NotSettled
from streams.kafka.lag import LINE, SINK, Group, LagMeter
from streams.kafka.offsets import PartitionId
from streams.records.topics import RAW, STAGED
from streams.settings import Settings

_LOOK_EVERY_S = 0.5
_REPORT_EVERY_S = 10.0

Report = Callable[[str], None]


def drain(
    settings: Settings, topics: Collection[str], report: Report, within_s: float = float("inf")
) -> None:
    """Waits until each stage has passed what the stage before it has written up to now, and the sink
    what is on ``topics`` then.

    Raises ``NotSettled`` if that takes longer than ``within_s``, with the partition that is behind.
    """
    deadline = time.monotonic() + within_s
    for group, names in ((LINE, [RAW]), (LINE, [STAGED]), (SINK, topics)):
        with closing(LagMeter(settings, group)) as meter:
            _pass(meter, group, {settings.topic_prefix + name for name in names}, report, deadline)


def _pass(
    meter: LagMeter, group: Group, topics: Collection[str], report: Report, deadline: float
) -> None:
    wanted = [place for place in meter.partitions if place[0] in topics]
    ends = {place: at.end for place, at in meter.positions(wanted).items()}
    reported = time.monotonic()
    while behind := _behind(meter, ends):
        topic, number = behind[0]
        more = f" and {len(behind) - 1} more" if behind[1:] else ""
        waits = f"for the group {group.name} to pass {topic}[{number}]{more}"
        if time.monotonic() > deadline:
            raise NotSettled(f"waited {waits}; `roundhouse health` shows what the line does")
        if time.monotonic() - reported > _REPORT_EVERY_S:
            reported = time.monotonic()
            report(f"waiting {waits}")
        time.sleep(_LOOK_EVERY_S)


def _behind(meter: LagMeter, ends: Mapping[PartitionId, int]) -> list[PartitionId]:
    """The partitions in which the group has not passed an end. Markers of transactions after the last
    record are never committed.
    """
    short = {
        place: at for place, at in meter.positions(ends.keys()).items() if at.committed < ends[place]
    }
    lags = meter.lags(short)
    return [place for place, lag in zip(short, lags, strict=True) if lag.records]
