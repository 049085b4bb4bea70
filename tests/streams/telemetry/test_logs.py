"""A line of the log as JSON has the documented fields and no others."""

import json
import logging
import sys
from typing import Any

from streams.telemetry.logs import configuration


def line(**fields: Any) -> dict[str, Any]:
    """The JSON of a record with these attributes, as a process called worker-0 writes it."""
    spec = configuration("json", "info", "worker-0")["formatters"]["json"]
    formatter = spec.pop("()")(**spec)
    record = logging.makeLogRecord({"levelname": "ERROR", "name": "streams.x", **fields})
    text = formatter.format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line_says_when_how_bad_where_and_what() -> None:
    found = line(msg="partition %d is late", args=(3,), partition=3, created=1_773_500_000.25)
    assert found == {
        "time": "2026-03-14T14:53:20.250000+00:00",
        "level": "ERROR",
        "logger": "streams.x",
        "message": "partition 3 is late",
        "process": "worker-0",
        "partition": 3,
    }


def test_an_error_has_its_traceback_in_the_same_line() -> None:
    try:
        raise ValueError("of old")
    except ValueError:
        found = line(msg="stopping", exc_info=sys.exc_info())
    assert "ValueError: of old" in found["exc_info"]


def test_what_a_log_store_is_not_told_of_does_not_get_in() -> None:
    found = line(msg="refused", tenant="acme", body=b"{}", api_key="rh_1", email="a@b.example")
    assert {"body", "api_key", "email"}.isdisjoint(found)
    assert found["tenant"] == "acme"
