"""Gets programs and files of other projects through Go; builds each program once."""

import fcntl
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HOME = Path(__file__).parent.parent / ".tools"


def go_tool(package: str, version: str, tags: str = "") -> Path:
    """The program of a Go package, built with ``tags``.

    Skips the test, with the reason, if the program cannot be built.
    """
    program = HOME / f"{re.sub('/v[0-9]+$', '', package).rpartition('/')[2]}@{version}"
    if program.exists():
        return program
    if shutil.which("go") is None:
        pytest.skip(f"{package} needs Go, not found on the PATH")
    HOME.mkdir(exist_ok=True)
    with open(HOME / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not program.exists():
            _build(package, version, tags, program)
    return program


def go_module(module: str, version: str) -> Path:
    """The directory of a module's files; skips the test, with the reason, if the download fails."""
    if shutil.which("go") is None:
        pytest.skip(f"{module} needs Go, not found on the PATH")
    command = ["go", "mod", "download", "-json", f"{module}@{version}"]
    loaded = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    found = json.loads(loaded.stdout or "{}")
    if "Dir" not in found:
        pytest.skip(f"{module} cannot be downloaded: {found.get('Error', loaded.stderr)[-300:]}")
    return Path(found["Dir"])


def _build(package: str, version: str, tags: str, program: Path) -> None:
    """``go install`` names the program after the package; here the version is part of the name."""
    home = HOME / f"building-{program.name}"
    built = subprocess.run(
        ["go", "install", f"-tags={tags}", f"{package}@{version}"],
        env=os.environ | {"GOBIN": str(home.resolve())},
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        pytest.skip(f"{package} cannot be built: {built.stderr.strip()[-300:]}")
    [made] = home.iterdir()
    made.rename(program)
    home.rmdir()
