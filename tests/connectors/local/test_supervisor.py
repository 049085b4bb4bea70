"""The supervisor restarts processes that end, except for a wrong setting, and stops them in order."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.local.supervisor import Child, Supervisor
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


def check_until(supervisor: Supervisor, condition: Callable[[Child], bool]) -> Child:
    """Checks the one child until its state fulfils a condition."""

    def fulfilled() -> bool:
        supervisor.check()
        return condition(supervisor.children()[0])

    wait_until(fulfilled)
    return supervisor.children()[0]


def test_a_process_that_cannot_live_is_started_again_for_ever_and_reported(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, pause_s=(0.01, 0.02))
    supervisor.start("child", [sys.executable, "-c", "raise SystemExit(3)"], os.environ)
    child = check_until(supervisor, lambda child: child.restarts >= 12 and child.ends > 12)
    assert child.exit_status == 3
    health = supervisor.health()
    assert (health.live, health.ready) == (True, False)
    assert f"child has ended {child.ends} times in a row, last with exit status 3" in health.reasons[0]
    supervisor.stop()


def test_pauses_grow_to_a_bound(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, pause_s=(0.01, 5.0))
    supervisor.start("child", [sys.executable, "-c", ""], os.environ)
    pauses: dict[int, float] = {}
    while len(pauses) < 4:
        child = check_until(supervisor, lambda child: child.starts_in_s is not None)
        assert child.starts_in_s is not None
        pauses.setdefault(child.ends, child.starts_in_s)
        check_until(supervisor, lambda child: child.starts_in_s is None)
    assert all(pauses[ends] <= 0.01 * 2 ** (ends - 1) for ends in pauses)
    assert pauses[4] > 0.01
    supervisor.stop()


def test_a_process_that_lives_long_enough_is_well_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = Supervisor(tmp_path, pause_s=(0.01, 0.01))
    marker = tmp_path / "healed"
    script = f"import pathlib, time; pathlib.Path({str(marker)!r}).exists() and time.sleep(600)"
    supervisor.start("child", [sys.executable, "-c", script], os.environ)
    check_until(supervisor, lambda child: child.ends >= 4)
    marker.touch()
    check_until(supervisor, lambda child: child.starts_in_s is None and child.ends >= 4)
    monkeypatch.setattr("connectors.local.supervisor.ALIVE_S", 0.5)
    check_until(supervisor, lambda child: child.ends == 0)
    assert supervisor.health().ready
    supervisor.stop()


def test_a_wrong_setting_is_given_up_with_the_log_named(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path)
    supervisor.start("child", [sys.executable, "-c", "raise SystemExit(78)"], os.environ)
    with pytest.raises(GaveUp, match=r"setting is wrong.*child\.log"):
        check_until(supervisor, lambda child: False)
    supervisor.stop()


def test_processes_of_a_group_are_stopped_at_the_same_time(tmp_path: Path) -> None:
    """Each ends only when the other has been told to stop too."""
    script = (
        "import pathlib, signal, sys, time\n"
        "told, other = map(pathlib.Path, sys.argv[1:])\n"
        "def stop(*_):\n"
        "    told.touch()\n"
        "    while not other.exists(): time.sleep(0.01)\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    supervisor = Supervisor(tmp_path)
    names = ["a", "b"]
    for name, other in (names, names[::-1]):
        command = [sys.executable, "-c", script, str(tmp_path / name), str(tmp_path / other)]
        supervisor.start(name, command, os.environ, "group")
    wait_until(lambda: all("up" in (tmp_path / f"{name}.log").read_text() for name in names))
    supervisor.stop()
    assert all((tmp_path / name).exists() for name in names)
