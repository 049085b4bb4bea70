"""Nothing lost, nothing doubled: the line under faults, against independent books.

Each test feeds a day twice over HTTP and does one kind of harm on the way; when the line has drained,
canonical topics, rounds, ClickHouse and accounts must equal what was posted.
"""

import signal
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from streams.broker.local import missing_tools
from tests.faults.crashing_worker import POINTS
from tests.faults.harness import Held, Proof, differences, proof, wait_until
from tests.oracle import Expected, Round

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(
        bool(missing_tools()), reason=f"a real Kafka needs {' and '.join(missing_tools())}"
    ),
]
EVENTS = 30_000


def kill_workers(line: Proof) -> None:
    for kill in range(3):
        line.load()
        line.signal(f"worker-{kill % 2}", signal.SIGKILL)


def pause_a_worker_beyond_its_session(line: Proof) -> None:
    """A zombie: stopped until others own its partitions, then woken.

    It is fenced and ends if it was at work, and rejoins if it was not; either way it counts nothing.
    """
    line.load()
    line.signal("worker-0", signal.SIGSTOP)
    time.sleep(line.settings.session_timeout_s + 4)  # the fault itself: its length is the point
    line.signal("worker-0", signal.SIGCONT)
    line.load()


def rebalance(line: Proof) -> None:
    """A third worker comes and goes."""
    for turn in range(2, 5):
        line.load()
        line.stack.start(f"worker-{turn}", "worker-process", str(turn))
        wait_until((line.settings.state_home / f"worker-{turn}" / "alive.json").exists)
        line.stack.supervisor.end(f"worker-{turn}")


def kill_the_sink(line: Proof) -> None:
    for _ in range(3):
        line.load()
        line.signal("sink", signal.SIGKILL)


def kill_the_edge(line: Proof) -> None:
    """Requests that were stored and not answered are posted again."""
    line.retried = True
    for _ in range(3):
        line.load()
        line.signal("edge", signal.SIGKILL)


FAULTS = (
    kill_workers,
    pause_a_worker_beyond_its_session,
    rebalance,
    kill_the_sink,
    kill_the_edge,
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_nothing_is_lost_or_doubled(fault: object, tmp_path: Path) -> None:
    assert callable(fault)
    events = 100_000 if fault is kill_workers else EVENTS
    with proof(tmp_path, seed=11, events=events) as line:
        fault(line)


@pytest.mark.parametrize("points", [list(POINTS)[:6], list(POINTS)[6:]], ids=["process", "translate"])
def test_a_crash_at_every_named_point_loses_and_doubles_nothing(
    points: list[str], tmp_path: Path
) -> None:
    counter = tmp_path / "crashes"
    with proof(tmp_path, seed=13, events=EVENTS, processes=0, harms=len(points)) as line:
        command = [sys.executable, "-m", "tests.faults.crashing_worker", str(counter), *points]
        line.stack.supervisor.start("worker-0", command, line.stack.environment)
        for turn in range(len(points)):
            line.load()
            wait_until(lambda turn=turn: int(counter.read_text()) > turn + 1)  # type: ignore[misc]
    log = (tmp_path / "logs" / "worker-0.log").read_text()
    assert [point for point in points if f"crash point: {point}" not in log] == []


# The verifier itself -------------------------------------------------------------------------

EVENT = ("acme", "gameround", "b")
ROUND = ("acme", "p", "r")
SUMS = (Decimal(2), Decimal(5), Decimal(0), Decimal(0))


def books() -> tuple[Expected, Held]:
    """One event and its round, rightly held."""
    expected = Expected()
    expected.events.add(EVENT)
    expected.received["acme"] = 1
    expected.rounds[ROUND] = Round(bets=SUMS[0], wins=SUMS[1])
    account = {"received": 1, "accepted": 1, "conflict": 0, "rejected": 0}
    return expected, Held(
        Counter({(*EVENT, "bet"): 1}), {ROUND: SUMS}, {ROUND: SUMS}, {"acme": account}
    )


def test_the_verifier_finds_planted_losses_doubles_and_wrong_sums() -> None:
    expected, found = books()
    assert differences(expected, found) == []

    found.events[(*EVENT, "bet")] = 2
    assert any("doubled" in line for line in differences(expected, found))

    expected, found = books()
    found.events.clear()
    assert any("lost" in line for line in differences(expected, found))

    expected, found = books()
    found.events["acme", "gameround", "other", "bet"] = 1
    assert any("out of nowhere" in line for line in differences(expected, found))

    for where in ("rounds", "stored_rounds"):
        expected, found = books()
        getattr(found, where)[ROUND] = (*SUMS[:3], Decimal("0.000000000000000001"))
        assert len(differences(expected, found)) == 1
        getattr(found, where).clear()
        assert len(differences(expected, found)) == 1

    expected, found = books()
    found.accounts["acme"]["accepted"] = 2
    assert len(differences(expected, found)) == 1
