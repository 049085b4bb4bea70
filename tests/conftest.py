"""Fixtures and settings that all tests share."""

import os
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs long tests first."""

    def group_index(item: pytest.Item) -> int:
        return next((at for at, path in enumerate(APART) if item.nodeid.startswith(path)), len(APART))

    items.sort(key=group_index)


class _ByModule(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Runs the tests of a module in one process, for its fixtures."""

    def _split_scope(self, nodeid: str) -> str:
        path, _, _ = nodeid.partition("::")
        return nodeid if path in APART else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Of xdist's own ways, loadgroup could do the same, and does nothing under pytest 9.2."""
    return _ByModule(config, log)
