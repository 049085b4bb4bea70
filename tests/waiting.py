"""The only function with which tests wait for the results of other threads and processes."""

import time
from collections.abc import Callable

WITHIN_S = 300.0
"""The limit is long: only a failing test reaches it, and machines are sometimes slow."""


def wait_until(condition: Callable[[], bool], what: str = "what the test waits for") -> None:
    """Returns when ``condition`` holds; fails with ``what`` if it does not within the limit."""
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, f"did not come about within {WITHIN_S:.0f} s: {what}"
        time.sleep(0.05)
