"""What a check finds."""

from enum import StrEnum
from typing import NamedTuple


class Severity(StrEnum):
    """How bad it is. An error makes ``roundhouse doctor`` exit with status 1."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(NamedTuple):
    """One result of a check: its name, what was found, and how to mend it ("" where all is well)."""

    check: str
    severity: Severity
    found: str
    mend: str = ""


def ok(check: str, found: str) -> Finding:
    """The check passed."""
    return Finding(check, Severity.OK, found)


def warning(check: str, found: str, mend: str) -> Finding:
    """The line works, but not as it should, or not for long."""
    return Finding(check, Severity.WARNING, found, mend)


def error(check: str, found: str, mend: str) -> Finding:
    """The line does not work, or can lose or double events."""
    return Finding(check, Severity.ERROR, found, mend)
