"""A description of the machine, how fast it is, and the CPU and memory that a process has used."""

import hashlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Self

from streams.wire.avro_encoder import compiled

PROBE_EVERY_S = 0.5
_PROBED = bytes(32_768)
_PROBES = 40
_TICK = os.sysconf("SC_CLK_TCK")


class Probe:
    """How fast the machine is while a benchmark runs: the CPU time of one computation, again and again.

    A virtual processor may share its core with those of other machines. While they are busy, the same
    code takes more CPU time, and no time is reported as stolen. Figures of two runs can be compared as
    they are only if their probes agree.
    """

    def __init__(self) -> None:
        self._times_ms: list[float] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            began = time.thread_time_ns()
            for _ in range(_PROBES):
                hashlib.blake2b(_PROBED).digest()
            self._times_ms.append((time.thread_time_ns() - began) / 1e6)
            if self._ending.wait(PROBE_EVERY_S):
                return

    @property
    def ms(self) -> float:
        """The mean CPU time of the computation so far, in milliseconds."""
        return round(statistics.fmean(self._times_ms), 2)


def described() -> dict[str, str]:
    """The date and the machine, for the beginning of every result."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
        f"{'' if compiled is None else ', Avro encoder in C'}",
    }


@cache
def _homes() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="roundhouse-bench-")


def fresh_home() -> Path:
    """An empty directory for one run; all of them are removed when the process ends, and not before.

    For minutes after a file is removed, ext4 does not reuse its inode and searches past it whenever it
    creates a file: a run that removed files would slow down the next run.
    """
    return Path(tempfile.mkdtemp(dir=_homes().name))


def cpu_s(pid: int) -> float:
    """The CPU seconds that a process has used, including its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def peak_mib(pid: int) -> float:
    """The peak resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def resident_mib(pid: int) -> float:
    """The resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def in_own_process(module: str, *arguments: str, given: str = "") -> str:
    """Runs a module with ``given`` as its input; returns what it prints. Raises if it fails."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, input=given, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def own_peak_mib() -> int:
    """The peak resident memory of this process (``getrusage`` would include that of its parent)."""
    return round(peak_mib(os.getpid()))
