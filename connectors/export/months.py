"""A period, cut at the beginnings of months in UTC."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple


class Month(NamedTuple):
    """A calendar month, or the part of it within a period: from ``start`` to before ``end``."""

    name: str
    start: datetime
    end: datetime


def months(start: datetime, end: datetime) -> Iterator[Month]:
    """The months from ``start`` to before ``end``, in order."""
    at = start.astimezone(UTC)
    while at < end:
        turn = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)
        yield Month(f"{at:%Y-%m}", at, min(turn, end))
        at = turn
