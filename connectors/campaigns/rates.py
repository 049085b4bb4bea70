"""Exchange rates from a CSV file: ``day,base,quote,rate`` and, optionally, ``source``."""

import csv
import re
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path

from connectors.clickhouse.query import insert
from streams.errors import RatesError
from streams.settings import Settings

COLUMNS = ("day", "base", "quote", "rate")
_CODE = re.compile(r"[A-Z0-9]{3,10}")
_LARGEST = Decimal(10) ** 20
_SMALLEST = Decimal(1).scaleb(-18)


def read(path: Path, source: str = "") -> list[dict[str, str]]:
    """The checked rows of a file. ``source`` applies to rows that name none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RatesError(f"{path}: cannot be read: {error}") from None
    reader = csv.DictReader(text.splitlines())
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise RatesError(
            f"{path}:1: the header lacks {', '.join(missing)}; it needs {','.join(COLUMNS)}"
        )
    found, wrong = [], []
    for row in reader:
        try:
            found.append(_checked(row, source))
        except ValueError as error:
            wrong.append(f"{path}:{reader.line_num}: {error}")
    if wrong:
        raise RatesError("\n".join(wrong))
    return found


def _checked(row: dict[str, str], source: str) -> dict[str, str]:
    values = {name: (row[name] or "").strip() for name in COLUMNS}
    try:
        date.fromisoformat(values["day"])
    except ValueError:
        raise ValueError(f"day {values['day']!r} is not a date like 2026-03-14") from None
    for name in ("base", "quote"):
        if not _CODE.fullmatch(values[name]):
            raise ValueError(f"{name} {values[name]!r} is not a currency code like EUR")
    if values["base"] == values["quote"]:
        raise ValueError(f"base and quote are both {values['base']}")
    try:
        rate = Decimal(values["rate"])
    except InvalidOperation:
        raise ValueError(f"rate {values['rate']!r} is not a number") from None
    if not rate.is_finite() or not _SMALLEST <= rate < _LARGEST or rate != rate.quantize(_SMALLEST):
        raise ValueError(f"rate {rate} must be above zero, with at most 18 digits after the point")
    named = (row.get("source") or "").strip() or source
    if not named:
        raise ValueError("no source: add a column `source`, or give --source")
    return {**values, "rate": f"{rate:f}", "source": named}


def import_rates(settings: Settings, path: Path, source: str = "") -> int:
    """Adds the rates of a file and returns their number. The last import for a day is valid."""
    found = read(path, source)
    if found:
        insert(settings, "rates", found)
    return len(found)
