"""Whether tests that need a Docker engine can run here."""

import shutil
import subprocess
from functools import cache


@cache
def has_docker_engine() -> bool:
    """Whether a Docker engine answers."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
