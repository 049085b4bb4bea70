"""Keeps the processes of one machine running: starts them, starts them again, stops them in order."""

import ctypes
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

from streams.errors import GaveUp

log = logging.getLogger(__name__)

RESTARTS_MAX = 10
ALIVE_S = 30.0
"""A process that lived so long was well: its end is the first in a row again."""
PAUSE_S = (0.2, 10.0)
"""Before a start after the first end in a row, and at most; it doubles from end to end."""
STOP_WITHIN_S = 20.0
_PR_SET_PDEATHSIG = 1


@dataclass
class _Child:
    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log_path: Path | None
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    ends: int = 0
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
                start_new_session=True,  # a Ctrl-C is for the supervisor, which stops in order
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    def stop(self, within_s: float = STOP_WITHIN_S) -> None:
        process = self.process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            log.warning("%s did not stop within %.0f s, killing it", self.name, within_s)
            process.kill()
            process.wait()


class Supervisor:
    """Runs children until :meth:`stop`. Stopping goes in the reverse of the order of starting.

    ``pause_s`` and ``restarts_max`` differ from their defaults only in tests.
    """

    def __init__(
        self,
        log_dir: Path | None = None,
        pause_s: tuple[float, float] = PAUSE_S,
        restarts_max: int = RESTARTS_MAX,
    ) -> None:
        self.log_dir = log_dir
        self.pause_s = pause_s
        self.restarts_max = restarts_max
        self._children: list[_Child] = []
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        if log_dir:
            log_dir.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Starts a process that must go on running; returns its pid."""
        path = self.log_dir / f"{name}.log" if self.log_dir else None
        child = _Child(name, command, environment, path)
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

    def check(self) -> None:
        """Starts again what has ended. Raises :class:`GaveUp` after too many ends in a row."""
        now = time.monotonic()
        with self._changing:
            for child in self._children:
                assert child.process
                if child.start_at is not None:
                    if now >= child.start_at:
                        child.start_at = None
                        child.start()
                elif (code := child.process.poll()) is not None:
                    self._ended(child, code, now)

    def _ended(self, child: _Child, code: int, now: float) -> None:
        child.ends = 1 if now - child.started_at > ALIVE_S else child.ends + 1
        where = f" Its log: {child.log_path}." if child.log_path else ""
        if child.ends == self.restarts_max:
            raise GaveUp(
                f"{child.name} ended {self.restarts_max} times in a row, each time within "
                f"{ALIVE_S:.0f} s of its start, last with exit status {code}.{where}"
            )
        first, longest = self.pause_s
        pause = min(first * 2 ** (child.ends - 1), longest)
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
        with self._changing:
            for child in reversed(self._children):
                child.stop()
            self._children.clear()

    def end(self, name: str, within_s: float = STOP_WITHIN_S) -> None:
        """Ends one process for good, by force if it does not stop in time. For tests."""
        with self._changing:
            child = next(child for child in self._children if child.name == name)
            self._children.remove(child)
        child.stop(within_s)


def stop_on_signals(supervisor: Supervisor) -> None:
    """SIGINT and SIGTERM end :meth:`Supervisor.run`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: supervisor.ask_to_stop())


def _die_with_parent() -> None:
    """Linux: a child whose supervisor is killed is killed too; the line is made for that.

    The parent is the *thread* that started the child: run a supervisor in a thread that outlives it.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
