"""Fixtures and settings that all tests share."""

import os

import pytest
from hypothesis import settings

# A test's broker runs for a minute. The JVM's second compiler would use a core and not save time.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# No deadline: on a loaded machine a slow example is not a failure. Derandomised: each run is the same.
settings.register_profile("default", deadline=None, derandomize=True, max_examples=80)
settings.load_profile("default")

APART = (
    "tests/faults/test_faults.py",
    "tests/integration/test_stack.py",
    "tests/integration/test_benchmarks.py",
)
"""Modules whose tests are long and share no fixtures: each test may run in any process."""


@pytest.hookimpl(tryfirst=True)  # xdist's own hook reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs long tests first, and the tests of any other module in one process, for its fixtures."""
    for item in items:
        path, _, _ = item.nodeid.partition("::")
        item.add_marker(pytest.mark.xdist_group(item.nodeid if path in APART else path))

    def group_index(item: pytest.Item) -> int:
        return next((at for at, path in enumerate(APART) if item.nodeid.startswith(path)), len(APART))

    items.sort(key=group_index)
