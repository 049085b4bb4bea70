"""What the parts of a definition share: amounts, names, local times and the period."""

from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, ClassVar, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

Money = Annotated[Decimal, Field(ge=0, max_digits=38, decimal_places=18)]
Names = Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(min_length=1)]
CurrencyCode = Annotated[str, Field(pattern=r"^[A-Z0-9]{3,10}$")]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    LATER: ClassVar[frozenset[str]] = frozenset()
    """Fields that came later: without them, the hash of a definition is what it was before."""

    def meant(self) -> dict[str, Any]:
        """The part as JSON, without fields of :data:`LATER` that say nothing."""
        document = self.model_dump(mode="json", by_alias=True)
        for name, field in type(self).model_fields.items():
            value, key = getattr(self, name), field.alias or name
            if name in self.LATER and value == field.get_default(call_default_factory=True):
                del document[key]
            elif isinstance(value, Part):
                document[key] = value.meant()
            elif isinstance(value, list):
                document[key] = [
                    inner.meant() if isinstance(inner, Part) else plain
                    for inner, plain in zip(value, document[key], strict=True)
                ]
        return document


def _local(value: object) -> object:
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("must be a date or a date and time like 2026-03-14T18:00") from None
        if moment.tzinfo is not None:
            raise ValueError("must have no offset: it is meant in the period's time_zone")
        return moment
    raise ValueError("must be a date or a date and time like 2026-03-14T18:00")


LocalTime = Annotated[datetime, BeforeValidator(_local)]


@cache
def _time_zones() -> set[str]:
    """The names of time zones, which are read from several hundred files."""
    return available_timezones()


def known_zone(name: str) -> str:
    """The name of a time zone. Raises ``ValueError`` if there is none of that name."""
    if name not in _time_zones():
        raise ValueError("is not an IANA time zone like Europe/Helsinki")
    return name


class Period(Part):
    """A period from (inclusive) to (exclusive), in local time of ``time_zone``."""

    start: LocalTime = Field(alias="from", description="First moment, local time.")
    end: LocalTime = Field(alias="to", description="First moment that is over, local time.")
    time_zone: str = Field("UTC", description="IANA name, e.g. Europe/Helsinki.")

    _zone = field_validator("time_zone")(known_zone)

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.start >= self.end:
            raise ValueError("ends before it begins: `to` must be later than `from`")
        return self

    def utc(self) -> tuple[datetime, datetime]:
        """Begin and end of the period in UTC."""
        return self.between(self.start, self.end)

    def between(self, start: datetime, end: datetime) -> tuple[datetime, datetime]:
        """Two local times of the period's time zone in UTC."""
        zone = ZoneInfo(self.time_zone)
        ends = [moment.replace(tzinfo=zone).astimezone(UTC) for moment in (start, end)]
        return ends[0], ends[1]
