"""A process ends when it must not continue, and when its stop takes too long."""

import subprocess
import sys

import pytest

from streams.runtime.fail_stop import EXIT_CONFIGURATION, EXIT_FAILED

ENDS = {
    "failure": ("fail_stop(InputGap('records are missing'))", EXIT_FAILED, "InputGap: records"),
    "configuration": (
        "fail_stop(PortInUse('port 1 is in use'))",
        EXIT_CONFIGURATION,
        "PortInUse: port 1",
    ),
    "slow stop": ("end_within(0.1); time.sleep(600)", EXIT_FAILED, "the stop is not complete"),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_exit_status_says_whether_a_restart_may_help(end: str) -> None:
    code, status, message = ENDS[end]
    script = (
        "import time; from streams.errors import *; from streams.runtime.fail_stop import *; " + code
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == status
    assert message in result.stderr
