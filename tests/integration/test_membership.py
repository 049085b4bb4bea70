"""A worker's membership of the consumer group is kept across a restart and belongs to one process."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from streams.settings import Settings
from tests.integration.test_line import Line, decoded
from tests.line import bet
from tests.waiting import WITHIN_S, wait_until

pytestmark = pytest.mark.kafka


class Workers:
    """Worker processes of one line, by name."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, index: int, log: str, **changed: Any) -> subprocess.Popen[bytes]:
        settings = self.settings.model_copy(update=changed)
        values = settings.model_dump(exclude_none=True)
        environment = {f"ROUNDHOUSE_{name.upper()}": str(value) for name, value in values.items()}
        command = [sys.executable, "-P", "-m", "connectors.cli", "worker-process", str(index)]
        with open(self.settings.data_dir / f"{log}.log", "ab") as out:
            process = subprocess.Popen(command, env=os.environ | environment, stdout=out, stderr=out)
        self.running.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.settings.data_dir / f"{name}.log").read_text()

    def joined(self, name: str) -> list[str]:
        """The generations of the group that a worker has joined, in order."""
        return re.findall(r"Joined group \S+ \(generation (\d+)\)", self.log(name))

    def entries(self, name: str) -> list[str]:
        """For each partition that a worker has opened, in order, the entries that it read."""
        return _entries(self.log(name))

    def has_opened(self, name: str, count: int) -> bool:
        """Whether a worker has opened so many partitions since its last assignment."""
        return len(_entries(self.log(name).rpartition("_on_partitions_assigned")[2])) == count

    def members(self) -> dict[str, tuple[str, list[int]]]:
        """By instance id, the client id and the staged partitions of each member."""
        group = f"{self.settings.topic_prefix}line"
        admin = AdminClient({"bootstrap.servers": self.settings.kafka_bootstrap, "log_level": 0})
        found = admin.describe_consumer_groups([group])[group].result(WITHIN_S).members
        staged = f"{self.settings.topic_prefix}staged"
        return {
            member.group_instance_id: (
                member.client_id,
                sorted(
                    place.partition
                    for place in member.assignment.topic_partitions
                    if place.topic == staged
                ),
            )
            for member in found
        }

    def assigned(self) -> dict[str, list[int]]:
        return {instance: partitions for instance, (_, partitions) in self.members().items()}

    def stop(self) -> None:
        for process in self.running:
            process.kill()
            process.wait(WITHIN_S)


@pytest.fixture
def workers(real_settings: Settings) -> Iterator[Workers]:
    # a restart on a busy machine takes longer than the time-out of the other tests
    settings = real_settings.model_copy(update={"session_timeout_s": 120.0, "instance": "here"})
    workers = Workers(settings)
    yield workers
    workers.stop()


def test_a_worker_warms_its_share_before_it_owns_it_and_leaves_it_warm(
    workers: Workers,
) -> None:
    #   zero: owns all .......... owns 2, follows 2 ....... owns all, having read nothing
    #   one:            follows   owns 2, follows 2   killed
    workers.settings = workers.settings.model_copy(update={"standbys": 1, "session_timeout_s": 6.0})
    workers.start(0, "zero")
    wait_until(partial(workers.has_opened, "zero", 4), "the first worker's partitions")
    line = Line(workers.settings)
    for n in range(40):
        line.post([bet(f"b{n}", player_id=f"p-{n}", round_id=f"r-{n}")])
    wait_until(lambda: accepted(line) == 40, "the bets")

    one = workers.start(1, "one")
    wait_until(partial(workers.has_opened, "one", 2), "the second worker's share")
    assert workers.log("one").count("following partition") >= 4
    assert workers.entries("one") == ["0", "0"]
    wait_until(partial(workers.has_opened, "zero", 2), "those that the first has kept")
    wait_until(lambda: workers.log("zero").count("following partition") == 2, "the copies at zero")

    one.kill()
    wait_until(partial(workers.has_opened, "zero", 4), "all at zero")
    assert workers.entries("zero")[-4:] == ["0"] * 4


def _entries(log: str) -> list[str]:
    return re.findall(r"open: partition .* read, (\d+) entries", log)


def accepted(line: Line) -> int:
    outcomes = [o for n in range(4) for o in decoded(line.settings, "outcomes", "outcome", n)]
    return sum(o["accepted"] for o in outcomes if o["stage"] == "process")


def test_a_restart_moves_no_partition_and_a_name_is_held_by_one_process(
    workers: Workers, tmp_path: Path
) -> None:
    zero = workers.start(0, "zero")
    wait_until(partial(workers.has_opened, "zero", 4), "the first worker's partitions")
    one = workers.start(1, "one")
    wait_until(partial(workers.has_opened, "one", 2), "the second worker's partitions")
    wait_until(partial(workers.has_opened, "zero", 2), "those that the first has kept")
    assigned = workers.assigned()
    assert {len(partitions) for partitions in assigned.values()} == {2}
    generations = workers.joined("one")

    for number, end in enumerate((signal.SIGKILL, signal.SIGTERM), 1):
        zero.send_signal(end)
        zero.wait(WITHIN_S)
        zero = workers.start(0, f"zero-{number}")
        wait_until(partial(workers.has_opened, f"zero-{number}", 2), "the partitions of before")
        assert workers.joined(f"zero-{number}") == generations[-1:]
        assert workers.assigned() == assigned
    assert workers.joined("one") == generations

    beside = workers.start(0, "beside")
    assert beside.wait(WITHIN_S) == 70
    assert f"process {zero.pid} runs as worker-0 in {tmp_path}" in workers.log("beside")

    elsewhere = workers.start(0, "elsewhere", data_dir=tmp_path / "elsewhere")
    assert zero.wait(WITHIN_S) == 70
    assert "has joined the consumer group" in workers.log("zero-2")
    assert "as " + next(name for name in assigned if "worker-0" in name) in workers.log("zero-2")
    assert (elsewhere.poll(), one.poll()) == (None, None)
    assert workers.joined("one") == generations
