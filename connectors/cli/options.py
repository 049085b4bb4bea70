"""Types of options that several commands share."""

from datetime import UTC, datetime
from typing import Any

import click


class UtcTime(click.DateTime):
    """A day or a time of a day, in UTC."""

    def __init__(self) -> None:
        super().__init__(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The time, with its zone."""
        time: datetime = super().convert(value, param, ctx)
        return time.replace(tzinfo=UTC)
