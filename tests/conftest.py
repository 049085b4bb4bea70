"""Fixtures and settings that all tests share."""

import os

import pytest
from hypothesis import settings

# A broker of a test lives for a minute, so the second compiler's work never pays: it took a core.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# No deadline: on a loaded machine a slow example is not a failure. Derandomised: CI repeats exactly.
settings.register_profile("default", deadline=None, derandomize=True, max_examples=80)
settings.load_profile("default")

APART = (
    "tests/faults/test_faults.py",
    "tests/integration/test_stack.py",
    "tests/integration/test_benchmarks.py",
)
"""Modules whose tests are long and share nothing: each of their tests may run in any process."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, and the tests of a module, which share its fixtures, in one process."""
    for item in items:
        path, _, _ = item.nodeid.partition("::")
        item.add_marker(pytest.mark.xdist_group(item.nodeid if path in APART else path))

    def group_index(item: pytest.Item) -> int:
        return next((at for at, path in enumerate(APART) if item.nodeid.startswith(path)), len(APART))

    items.sort(key=group_index)
