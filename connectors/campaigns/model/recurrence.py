"""Periods that recur: each day, week or month in a time zone, as one file.

An occurrence is a campaign of its own. Its name is that of the definition with the local date on which
it begins, and its hash is that of the same campaign written by hand.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, Self
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from connectors.campaigns.model.parts import LocalTime, Part, Period, known_zone

LONGEST_NAME = 53
"""Of a campaign that recurs, so that the name of an occurrence has no more than 64 characters."""


class Occurrence(NamedTuple):
    """One period of a campaign that recurs."""

    name: str
    period: Period


class Recurrence(Part):
    """Periods that follow one another without a gap, each as long as a local day, week or month."""

    every: Literal["day", "week", "month"]
    start: LocalTime = Field(alias="from", description="Beginning of the first, local time.")
    end: LocalTime | None = Field(
        None, alias="to", description="End of the last, local time; without it, there is no last."
    )
    time_zone: str = Field("UTC", description="IANA name, e.g. Europe/Helsinki.")

    _zone = field_validator("time_zone")(known_zone)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.every == "month" and self.start.day > 28:
            raise ValueError(
                f"`from` is on day {self.start.day}, which some months lack: begin on day 28 or before"
            )
        if self.end is None:
            return self
        if self.start >= self.end:
            raise ValueError("ends before it begins: `to` must be later than `from`")
        last = self._index(self.end)
        if self._begin(last) != self.end:
            raise ValueError(
                f"`to` must be the end of a {self.every}, like {self._begin(last + 1):%Y-%m-%dT%H:%M}"
            )
        return self

    def at(self, name: str, moment: datetime) -> Occurrence:
        """The occurrence that is running, or the first or last one if none is."""
        local = moment.astimezone(ZoneInfo(self.time_zone)).replace(tzinfo=None)
        index = max(self._index(local) - 1, 0)
        while self._utc(index + 1) <= moment:
            index += 1
        if self.end is not None:
            index = min(index, self._index(self.end) - 1)
        return self._occurrence(name, index)

    def of(self, name: str, day: datetime) -> Occurrence | None:
        """The newest occurrence that has begun by the end of a local day, unless it is over by then."""
        index = self._index(day + timedelta(days=1, microseconds=-1))
        begin = self._begin(index)
        if index < 0 or (self.end is not None and begin >= self.end) or self._begin(index + 1) <= day:
            return None
        return self._occurrence(name, index)

    def until(self, name: str, moment: datetime) -> Iterator[Occurrence]:
        """Every occurrence that begins before a moment, from the first."""
        index = 0
        while self._utc(index) < moment and (self.end is None or self._begin(index) < self.end):
            yield self._occurrence(name, index)
            index += 1

    def _occurrence(self, name: str, index: int) -> Occurrence:
        start, end = self._begin(index), self._begin(index + 1)
        text = {"from": start.isoformat(), "to": end.isoformat(), "time_zone": self.time_zone}
        return Occurrence(f"{name}-{start:%Y-%m-%d}", Period.model_validate(text))

    def _begin(self, index: int) -> datetime:
        if self.every != "month":
            return self.start + index * timedelta(days=1 if self.every == "day" else 7)
        years, month = divmod(self.start.month - 1 + index, 12)
        return self.start.replace(year=self.start.year + years, month=month + 1)

    def _index(self, local: datetime) -> int:
        """The last that begins at or before a local time; negative before the first."""
        if self.every != "month":
            return (local - self.start) // timedelta(days=1 if self.every == "day" else 7)
        months = (local.year - self.start.year) * 12 + local.month - self.start.month
        return months - (self._begin(months) > local)

    def _utc(self, index: int) -> datetime:
        return self._begin(index).replace(tzinfo=ZoneInfo(self.time_zone)).astimezone(UTC)
