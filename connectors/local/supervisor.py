"""Keeps the processes of one machine running: starts, restarts and stops them in order.

A process that ends is restarted without limit, after growing pauses; its end stops no other process.
Only an end with :data:`EXIT_CONFIGURATION` is final, because a restart does not correct a setting.
"""

import ctypes
import itertools
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from streams.errors import GaveUp
from streams.runtime.fail_stop import EXIT_CONFIGURATION
from streams.telemetry.health import Health, judged

log = logging.getLogger(__name__)

ALIVE_S = 30.0
"""A process that has run for this time is healthy: the count of its consecutive ends is reset."""
ENDS_WELL_MAX = 2
"""A process with more consecutive ends than this is reported, even while it runs."""
PAUSE_S = (0.2, 30.0)
"""The pause before a restart: the first and the longest one; it doubles with each consecutive end."""
STOP_WITHIN_S = 25.0
MORE_TO_STOP_S = 5.0
"""Extra time for a process of Roundhouse, which ends after ``ROUNDHOUSE_STOP_WITHIN_S`` itself."""
_PR_SET_PDEATHSIG = 1


class Child(NamedTuple):
    """The state of a supervised process.

    ``ends`` is the number of its consecutive ends, each within :data:`ALIVE_S` of its start, and
    ``restarts`` that of all its restarts. ``exit_status`` is that of its last end (negative: the
    signal), None if it never ended. ``starts_in_s`` is None while it runs.
    """

    name: str
    pid: int
    ends: int
    restarts: int
    exit_status: int | None
    starts_in_s: float | None


@dataclass
class _Child:
    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log_path: Path | None
    group: str
    files: Sequence[int] = ()
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    ends: int = 0
    restarts: int = 0
    exit_status: int | None = None
    start_at: float | None = None

    def start(self) -> None:
        self.started_at = time.monotonic()
        with open(self.log_path, "ab") if self.log_path else nullcontext() as out:
            self.process = subprocess.Popen(
                self.command,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT if out else None,
                pass_fds=self.files,
                start_new_session=True,  # Ctrl-C reaches only the supervisor
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    def ask_to_stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop(self, within_s: float) -> None:
        """Waits for the process to end after :meth:`ask_to_stop`, and kills it if it does not."""
        process = self.process
        if process is None:
            return
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            log.warning("%s did not stop within %.0f s, killing it", self.name, within_s)
            process.kill()
            process.wait()


class Supervisor:
    """Runs processes until :meth:`stop`, which stops them in the reverse order of their starts.

    ``pause_s`` differs from its default only in tests.
    """

    def __init__(
        self,
        log_dir: Path | None = None,
        pause_s: tuple[float, float] = PAUSE_S,
        stop_within_s: float = STOP_WITHIN_S,
    ) -> None:
        self.log_dir = log_dir
        self.pause_s = pause_s
        self.stop_within_s = stop_within_s
        self._children: list[_Child] = []
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        if log_dir:
            log_dir.mkdir(parents=True, exist_ok=True)

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        group: str = "",
        *,
        files: Sequence[int] = (),
    ) -> int:
        """Starts a process and keeps it running; returns its pid.

        Processes of one ``group`` that were started one after another are stopped at the same time.
        The process inherits the file descriptors ``files``, under the same numbers.
        """
        path = self.log_dir / f"{name}.log" if self.log_dir else None
        child = _Child(name, command, environment, path, group or name, files)
        with self._changing:
            child.start()
            self._children.append(child)
        assert child.process
        return child.process.pid

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {child.name: child.process.pid for child in self._children if child.process}

    def command(self, name: str) -> tuple[Sequence[str], Mapping[str, str]]:
        """The command and environment of a process, as they were given to :meth:`start`. For tests."""
        child = next(child for child in self._children if child.name == name)
        return child.command, child.environment

    def children(self) -> list[Child]:
        """The state of each process, in the order of their starts. Any thread may call it."""
        now = time.monotonic()
        return [
            Child(
                child.name,
                child.process.pid,
                child.ends,
                child.restarts,
                child.exit_status,
                None if child.start_at is None else max(0.0, child.start_at - now),
            )
            for child in list(self._children)
            if child.process
        ]

    def health(self) -> Health:
        """The health: ready while every process runs and none ends repeatedly."""
        children = self.children()
        facts = {"processes": [child._asdict() for child in children]}
        return judged(facts, waiting=[_trouble(child) for child in children if _is_in_trouble(child)])

    def check(self) -> None:
        """Restarts processes that have ended. Raises :class:`GaveUp` if a setting is wrong."""
        now = time.monotonic()
        with self._changing:
            for child in self._children:
                assert child.process
                if child.start_at is not None:
                    if now >= child.start_at:
                        child.start()
                        child.restarts += 1
                        child.start_at = None
                elif (code := child.process.poll()) is not None:
                    self._ended(child, code, now)
                elif now - child.started_at > ALIVE_S:
                    child.ends = 0

    def _ended(self, child: _Child, code: int, now: float) -> None:
        child.ends += 1
        child.exit_status = code
        where = f" Its log: {child.log_path}." if child.log_path else ""
        if code == EXIT_CONFIGURATION:
            raise GaveUp(
                f"{child.name} ended with exit status {code}: a setting is wrong, and a restart would "
                f"not mend it.{where}"
            )
        first, longest = self.pause_s
        pause = min(first * 2 ** min(child.ends - 1, 32), longest)
        child.start_at = now + pause
        log.warning(
            "%s ended with exit status %s, %d in a row; starting it again in %.1f s.%s",
            child.name,
            code,
            child.ends,
            pause,
            where,
        )

    def run(self) -> None:
        """Checks until told to stop."""
        while not self._stopping.wait(0.2):
            self.check()

    def ask_to_stop(self) -> None:
        """Tells :meth:`run` to return."""
        self._stopping.set()

    def stop(self) -> None:
        """Stops all processes, the last started first; each gets time to finish its work."""
        with self._changing:
            for _, group in itertools.groupby(reversed(self._children), lambda child: child.group):
                children = list(group)
                for child in children:
                    child.ask_to_stop()
                deadline = time.monotonic() + self.stop_within_s
                for child in children:
                    child.stop(max(0.0, deadline - time.monotonic()))
            self._children.clear()

    def end(self, name: str, within_s: float | None = None) -> None:
        """Ends one process without a restart, by force if it does not stop in time. For tests."""
        with self._changing:
            child = next(child for child in self._children if child.name == name)
            self._children.remove(child)
        child.ask_to_stop()
        child.stop(self.stop_within_s if within_s is None else within_s)


def _is_in_trouble(child: Child) -> bool:
    return child.starts_in_s is not None or child.ends > ENDS_WELL_MAX


def _trouble(child: Child) -> str:
    now = "runs" if child.starts_in_s is None else f"is started again in {child.starts_in_s:.0f} s"
    return (
        f"{child.name} has ended {child.ends} times in a row, last with exit status "
        f"{child.exit_status}; it {now}"
    )


def stop_on_signals(supervisor: Supervisor) -> None:
    """SIGINT and SIGTERM end :meth:`Supervisor.run`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: supervisor.ask_to_stop())


def _die_with_parent() -> None:
    """On Linux, makes the kernel kill this child when its supervisor is killed.

    The parent is the *thread* that started the child: run a supervisor in a thread that outlives
    its children.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
