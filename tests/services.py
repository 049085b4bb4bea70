"""Runs a command of Roundhouse that does not end by itself."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import WITHIN_S


@contextmanager
def service(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process of its own, which faults can arm; at the end it is told to stop."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.armed", *command],
            env=environment, stdout=out, stderr=out,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(WITHIN_S)
