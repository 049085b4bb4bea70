"""Runs a module of these tests in a process of its own: chDB is one to a process and to a directory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def answer_of(module: str, directory: Path) -> Any:
    """The JSON that ``module`` prints, with a directory as its argument. It must end with status 0."""
    run = subprocess.run(
        [sys.executable, "-m", module, str(directory)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)
