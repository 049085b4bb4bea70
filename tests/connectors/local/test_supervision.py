"""A supervisor serves which of its processes run, how often they ended, and when they start again."""

import os
import signal
import sys
from pathlib import Path

from connectors.local.supervision import supervision
from connectors.local.supervisor import Supervisor
from streams.settings import Settings
from tests.scrapes import scrape, targets, total
from tests.waiting import wait_until

FOREVER = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_restarts_and_pauses_are_served_as_metrics(tmp_path: Path) -> None:
    settings, supervisor = Settings(data_dir=tmp_path), Supervisor(pause_s=(0.01, 300.0))
    supervisor.start("steady", FOREVER, os.environ)
    failing = supervisor.start("failing", FOREVER, os.environ)
    with supervision(settings, supervisor, "test"):
        [target] = targets(settings)
        assert (target.job, target.instance.split("@")[0]) == ("supervisor", "supervisor-test")

        def served(name: str, process: str) -> float:
            supervisor.check()
            return total(scrape(target), f"roundhouse_supervised_{name}", process=process)

        os.kill(failing, signal.SIGKILL)
        wait_until(lambda: served("restarts", "failing") == 1, "a restart")
        assert (served("up", "failing"), served("consecutive_ends", "failing")) == (1, 1)

        supervisor.pause_s = (200.0, 300.0)
        os.kill(supervisor.pids()["failing"], signal.SIGKILL)
        wait_until(lambda: served("up", "failing") == 0, "a pause")
        assert 200 < served("pause_seconds", "failing") <= 300
        assert (served("restarts", "failing"), served("consecutive_ends", "failing")) == (1, 2)
        assert total(scrape(target), "roundhouse_health", state="ready") == 0
        assert (served("up", "steady"), served("restarts", "steady")) == (1, 0)
    supervisor.stop()


def test_the_supervisors_port_comes_after_one_for_each_of_its_processes(tmp_path: Path) -> None:
    supervisor = Supervisor()
    for name in ("worker-0", "worker-1"):
        supervisor.start(name, FOREVER, os.environ)
    with supervision(Settings(data_dir=tmp_path), supervisor, "on-any-port") as free:
        settings = Settings(data_dir=tmp_path, status_port=free)
        with supervision(settings, supervisor, "worker") as port:
            assert free + 2 <= port < free + 34
    supervisor.stop()
