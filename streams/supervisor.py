"""Keeps the processes of one machine running: starts them, starts them again, stops them in order."""

import ctypes
import logging
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from streams.errors import RoundhouseError

log = logging.getLogger(__name__)

RESTARTS_MAX = 10
RESTARTS_WITHIN_S = 120.0
PAUSE_S = (0.2, 10.0)
"""Before a start after the first end in a row, and at most; it doubles from end to end."""
STOP_WITHIN_S = 20.0
_PR_SET_PDEATHSIG = 1


class GaveUp(RoundhouseError):
    """A process ended too often in a short time to be started once more."""


@dataclass
class _Child:
    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log_path: Path | None
    process: subprocess.Popen[bytes] | None = None
    ends: deque[float] = field(default_factory=lambda: deque(maxlen=RESTARTS_MAX))
    start_at: float | None = None

    def start(self) -> None:
        with open(self.log_path, "ab") if self.log_path else nullcontext() as out:
            self.process = subprocess.Popen(
                self.command,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT if out else None,
                start_new_session=True,  # a Ctrl-C is for the supervisor, which stops in order
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    def stop(self) -> None:
        process = self.process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            log.warning("%s did not stop within %.0f s, killing it", self.name, STOP_WITHIN_S)
            process.kill()
            process.wait()


class Supervisor:
    """Runs children until :meth:`stop`. Stopping goes in the reverse of the order of starting."""

    def __init__(self, log_dir: Path | None = None, pause_s: tuple[float, float] = PAUSE_S) -> None:
        self.log_dir = log_dir
        self.pause_s = pause_s
        self._children: list[_Child] = []
        self._stopping = threading.Event()
        if log_dir:
            log_dir.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Starts a process that must go on running; returns its pid."""
        path = self.log_dir / f"{name}.log" if self.log_dir else None
        child = _Child(name, command, environment, path)
        child.start()
        self._children.append(child)
        assert child.process
        return child.process.pid

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {child.name: child.process.pid for child in self._children if child.process}

    def check(self) -> None:
        """Starts again what has ended. Raises :class:`GaveUp` after too many ends in a row."""
        now = time.monotonic()
        for child in list(self._children):
            assert child.process
            if child.start_at is not None:
                if now >= child.start_at:
                    child.start_at = None
                    child.start()
            elif (code := child.process.poll()) is not None:
                self._ended(child, code, now)

    def _ended(self, child: _Child, code: int, now: float) -> None:
        child.ends.append(now)
        recent = sum(now - end < RESTARTS_WITHIN_S for end in child.ends)
        where = f" Its log: {child.log_path}." if child.log_path else ""
        if recent == RESTARTS_MAX:
            raise GaveUp(
                f"{child.name} ended {RESTARTS_MAX} times within {RESTARTS_WITHIN_S:.0f} s, last "
                f"with exit status {code}.{where}"
            )
        first, longest = self.pause_s
        pause = min(first * 2 ** (recent - 1), longest)
        child.start_at = now + pause
        log.warning(
            "%s ended with exit status %s, starting it again in %.1f s.%s",
            child.name,
            code,
            pause,
            where,
        )

    def run(self) -> None:
        """Checks until told to stop."""
        while not self._stopping.wait(0.2):
            self.check()

    def ask_to_stop(self) -> None:
        """Lets :meth:`run` return."""
        self._stopping.set()

    def stop(self) -> None:
        """Ends all processes, last started first; each gets time to finish what it is at."""
        for child in reversed(self._children):
            child.stop()
        self._children.clear()

    def end(self, name: str) -> None:
        """Ends one process for good."""
        child = next(child for child in self._children if child.name == name)
        self._children.remove(child)
        child.stop()


def stop_on_signals(supervisor: Supervisor) -> None:
    """SIGINT and SIGTERM end :meth:`Supervisor.run`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: supervisor.ask_to_stop())


def _die_with_parent() -> None:
    """Linux: a child whose supervisor is killed is killed too; the line is made for that.

    The parent is the *thread* that started the child: run a supervisor in a thread that outlives it.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
