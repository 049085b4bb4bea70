"""The one way in which tests wait for what other threads and processes bring about."""

import time
from collections.abc import Callable

WITHIN_S = 300.0
"""Long, because it is only waited out by a test that fails, and machines are slow at times."""


def wait_until(condition: Callable[[], bool], what: str = "what the test waits for") -> None:
    """Returns when ``condition`` holds; fails, naming ``what``, if it does not come about."""
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, f"did not come about within {WITHIN_S:.0f} s: {what}"
        time.sleep(0.05)
