"""A line loses and doubles nothing under any fault, compared with independent books.

``make faults`` does the same for longer, in random order, and measures recovery times.
"""

from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from connectors.local.kafka import missing_tools
from tests.faults.books import Held, differences
from tests.faults.faults import FAULTS
from tests.faults.harness import line
from tests.faults.run import Report, play
from tests.oracle import Expected, Round

QUICK = [fault for fault in FAULTS if fault.quick and not fault.together]
ALONE = [fault for fault in QUICK if fault.brokers == 1]
TOGETHER = [fault for fault in FAULTS if fault.quick and fault.together]
POINTS_OF_A_WORKER = [fault for fault in ALONE if fault.name.startswith("worker: dies")]
GROUPS = {
    "three brokers": [fault for fault in QUICK if fault.brokers > 1],
    "a worker's points": POINTS_OF_A_WORKER,
    "everything else": [fault for fault in ALONE if fault not in POINTS_OF_A_WORKER],
    "one transaction for a worker": TOGETHER,
}
"""Groups of faults, each caused one after another in one line; the groups can run side by side."""

needs_kafka = pytest.mark.skipif(
    bool(missing_tools()), reason=f"a real Kafka needs {' and '.join(missing_tools())}"
)


@needs_kafka
@pytest.mark.kafka
@pytest.mark.parametrize("group", GROUPS)
def test_nothing_is_lost_or_doubled(group: str, tmp_path: Path) -> None:
    report, faults = Report(), GROUPS[group]
    brokers = faults[0].brokers
    with line(
        tmp_path,
        seed=11,
        brokers=brokers,
        server=brokers > 1,
        items_per_s=300,
        transactions="worker" if faults is TOGETHER else "partition",
    ) as target:
        play(target, faults, report)
    assert report.wrong == [], f"{len(report.wrong)} differences\n{report.table()}"
    assert set(report.recoveries) == {fault.name for fault in faults}


# The verifier itself -------------------------------------------------------------------------

EVENT = ("acme", "gameround", "b")
ROUND = ("acme", "p", "r")
SUMS = (Decimal(2), Decimal(5), Decimal(0), Decimal(0))


def books() -> tuple[Expected, Held]:
    """The books of one event and its round, and correct contents of the line for them."""
    expected = Expected()
    expected.events.add(EVENT)
    expected.received["acme"] = 1
    expected.rounds[ROUND] = Round(bets=SUMS[0], wins=SUMS[1])
    account = {"received": 1, "accepted": 1, "conflict": 0, "rejected": 0}
    return expected, Held(
        Counter({(*EVENT, "bet"): 1}), {ROUND: SUMS}, {ROUND: SUMS}, {"acme": account}
    )


def wrong(expected: Expected, found: Held, *, retried: bool = False) -> list[str]:
    return differences(expected, found, retried=retried).wrong


def test_the_verifier_finds_planted_losses_doubles_and_wrong_sums() -> None:
    expected, found = books()
    assert wrong(expected, found) == []

    found.events[(*EVENT, "bet")] = 2
    assert any("doubled" in line for line in wrong(expected, found))

    expected, found = books()
    found.events.clear()
    assert any("lost" in line for line in wrong(expected, found))

    expected, found = books()
    found.events["acme", "gameround", "other", "bet"] = 1
    assert any("not posted" in line for line in wrong(expected, found))

    for where in ("rounds", "stored_rounds"):
        expected, found = books()
        getattr(found, where)[ROUND] = (*SUMS[:3], Decimal("0.000000000000000001"))
        assert len(wrong(expected, found)) == 1
        getattr(found, where).clear()
        assert len(wrong(expected, found)) == 1

    expected, found = books()
    found.accounts["acme"]["accepted"] = 2
    assert len(wrong(expected, found)) == 1


def test_requests_sent_again_may_add_to_what_was_received_but_to_nothing_else() -> None:
    expected, found = books()
    found.accounts["acme"]["received"] = 2
    assert wrong(expected, found)
    assert wrong(expected, found, retried=True) == []
    found.accounts["acme"]["received"] = 0
    assert wrong(expected, found, retried=True)
