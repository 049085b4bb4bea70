"""Literals of ClickHouse's SQL."""

from datetime import UTC, datetime


def quoted(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def instant(at: datetime) -> str:
    """A time with microseconds, in UTC, as text without quotes."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"


def moment(at: datetime) -> str:
    """A time literal with microseconds, in UTC."""
    return f"toDateTime64('{instant(at)}', 6, 'UTC')"
