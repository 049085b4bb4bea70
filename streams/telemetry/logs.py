"""The logs of a process: lines of text for people, or lines of JSON for a log store.

A line of JSON has ``time``, ``level``, ``logger``, ``message`` and ``process``, and where they are
known ``batch_id``, ``tenant``, ``partition``, ``trace_id`` and ``exc_info``. Other fields of a log
record are dropped. Log messages must not contain bodies, keys or contacts.
"""

from typing import Any, Literal

from pythonjsonlogger.json import JsonFormatter

Form = Literal["text", "json"]

FIELDS = (
    "time",
    "level",
    "logger",
    "message",
    "process",
    "batch_id",
    "tenant",
    "partition",
    "trace_id",
    "exc_info",
)
QUIET = ("httpx", "httpcore", "aiokafka", "uvicorn")
"""Loggers of libraries that log only warnings and errors."""


class JsonLines(JsonFormatter):
    """One JSON object a line, with :data:`FIELDS` and no others."""

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """The allowed fields, in the order of :data:`FIELDS`."""
        return {name: log_data[name] for name in FIELDS if name in log_data}


def configuration(form: Form, level: str, process: str) -> dict[str, Any]:
    """For :func:`logging.config.dictConfig`: all logs go to stderr. ``process`` is the name."""
    formatters: dict[str, Any] = {
        "text": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
        "json": {
            "()": JsonLines,
            "fmt": ["levelname", "name", "message"],
            "rename_fields": {"levelname": "level", "name": "logger"},
            "static_fields": {"process": process},
            "timestamp": "time",
        },
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {form: formatters[form]},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stderr",
                "formatter": form,
            }
        },
        "root": {"level": level.upper(), "handlers": ["stderr"]},
        "loggers": {name: {"level": "WARNING"} for name in QUIET},
    }
