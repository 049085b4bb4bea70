"""The findings of the checks."""

from enum import StrEnum
from typing import NamedTuple


class Severity(StrEnum):
    """The severity of a finding. An error makes ``roundhouse doctor`` exit with status 1."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(NamedTuple):
    """One result of a check: its name, the observation, and the correction ("" if nothing is wrong)."""

    check: str
    severity: Severity
    found: str
    mend: str = ""


def ok(check: str, found: str) -> Finding:
    """A finding: the check passed."""
    return Finding(check, Severity.OK, found)


def warning(check: str, found: str, mend: str) -> Finding:
    """A finding: the line works, but is misconfigured or will stop working."""
    return Finding(check, Severity.WARNING, found, mend)


def error(check: str, found: str, mend: str) -> Finding:
    """A finding: the line does not work, or can lose or duplicate events."""
    return Finding(check, Severity.ERROR, found, mend)
