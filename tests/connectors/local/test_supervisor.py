"""Processes are started again when they end, given up after too many ends, stopped in order."""

import os
import signal
import sys
from pathlib import Path

import pytest

from connectors.local.supervisor import RESTARTS_MAX, Supervisor
from streams.errors import GaveUp
from tests.waiting import wait_until

FOREVER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


def test_a_killed_process_is_started_again_and_stop_ends_it(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    first = supervisor.start("child", FOREVER, os.environ)
    log = tmp_path / "child.log"
    wait_until(lambda: log.read_text().count("up") == 1)
    os.kill(first, signal.SIGKILL)

    def restarted() -> bool:
        supervisor.check()
        return supervisor.pids()["child"] != first

    wait_until(restarted)
    wait_until(lambda: log.read_text().count("up") == 2)
    second = supervisor.pids()["child"]
    supervisor.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


def test_a_process_that_cannot_live_is_given_up_with_its_log_named(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, pause_s=(0.01, 0.02))
    supervisor.start("child", [sys.executable, "-c", "raise SystemExit(3)"], os.environ)

    def fails() -> bool:
        supervisor.check()
        return False

    with pytest.raises(GaveUp, match=rf"{RESTARTS_MAX} times.*child\.log"):
        wait_until(fails)
    supervisor.stop()


def test_a_process_that_was_well_each_time_is_never_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.local.supervisor.ALIVE_S", 0.0)  # any life is long enough
    supervisor = Supervisor(tmp_path, pause_s=(0.01, 10.0), restarts_max=3)
    log = tmp_path / "child.log"
    supervisor.start("child", [sys.executable, "-c", "print('up')"], os.environ)

    def started_often() -> bool:
        supervisor.check()
        return log.read_text().count("up") >= 6

    wait_until(started_often)
    supervisor.stop()
