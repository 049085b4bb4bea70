"""The hash chain of an audit's report."""

from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.audit.report import chained, verify
from streams.errors import ConfigurationError

LINES = list(
    chained([("period", {"from": "a"}), ("finding", {"code": "twice"}), ("totals", {"items": 2})])
)


def test_a_report_that_was_not_changed_has_its_last_hash(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    path.write_text("\n".join(LINES) + "\n")
    assert verify(path) in LINES[-1]


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [line.replace("twice", "never") for line in lines],
        lambda lines: [lines[0], lines[2]],
        lambda lines: [lines[0], lines[0], *lines[1:]],
        lambda lines: [*lines, "no JSON"],
        lambda lines: [],
    ],
)
def test_a_changed_report_is_refused(change: Callable[[list[str]], list[str]], tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    path.write_text("\n".join(change(LINES)))
    with pytest.raises(ConfigurationError):
        verify(path)
