"""Transactions of one partition and of several, and partitions that move between the two kinds."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.core.identity import partition_of
from streams.errors import ReleaseTooOld
from streams.kafka.clients import committed_consumer, transactional_producer
from streams.records.topics import OWNERS, STAGED, WINDOW
from streams.runtime.membership import Membership
from streams.settings import Settings
from streams.state.changelog import Position, changelog_records
from streams.state.owned_partition import OwnedPartition, close_partitions, open_partition
from tests.integration.test_line import P1, Line, decoded, read
from tests.line import FRAMES, bet
from tests.waiting import WITHIN_S, wait_until

PLAYER = next(name for n in range(99) if partition_of(f"acme|{(name := f'p-{n}')}", 4) != P1)
P2 = partition_of(f"acme|{PLAYER}", 4)
KINDS = "partition", "worker"


@pytest.fixture
def line(real_settings: Settings) -> Line:
    return Line(real_settings)


def staged(line: Line, *names: str) -> None:
    """Posts a bet of each name on both partitions, and translates them."""
    done = len(line.raw())
    for name in names:
        line.post([bet(f"{name}-1"), bet(f"{name}-2", player_id=PLAYER)])
    line.translate(line.raw()[done:])


def counted(line: Line, partition: int) -> int:
    events = decoded(line.settings, "canonical.game-transactions", "game-transaction", partition)
    return len(events)


@contextmanager
def process(line: Line, worker: str, transactions: str = "worker") -> Iterator[list[OwnedPartition]]:
    """A process that owns both partitions until it is stopped."""
    shared = line.shared(worker, transactions)
    owned = [open_partition(shared, partition) for partition in (P1, P2)]
    yield owned
    for each in owned:
        each.close()


def killed(*owned: OwnedPartition) -> None:
    """Leaves of a process what a kill leaves, but frees the locks of its tables."""
    for each in owned:
        each._tables.close()


@pytest.mark.kafka
@pytest.mark.parametrize("takes", KINDS)
@pytest.mark.parametrize("had", KINDS)
def test_a_zombie_is_fenced_and_counts_nothing(line: Line, had: str, takes: str) -> None:
    #   w1 opens ---- sleeps ---- w2 opens, applies ---- w1 wakes, applies: fenced
    staged(line, "b")
    zombie = open_partition(line.shared("w1", had), P1)
    owner = open_partition(line.shared("w2", takes), P1)
    owner.apply(line.staged())
    with pytest.raises(KafkaException) as caught:
        zombie.apply(line.staged())
    assert caught.value.args[0].code() in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
    owner.close()
    killed(zombie)
    assert counted(line, P1) == 1


@pytest.mark.kafka
def test_partitions_of_a_worker_commit_together(line: Line) -> None:
    staged(line, "b", "c")
    with process(line, "w") as (one, two):
        work: Any = [(one, line.staged(P1)), (two, line.staged(P2))]
        one.lane.apply(work)
        one.lane.apply(work)  # delivered again
    assert (counted(line, P1), counted(line, P2)) == (2, 2)


@pytest.mark.kafka
def test_a_crash_between_two_partitions_of_a_transaction_leaves_nothing_of_either(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged(line, "b")
    shared = line.shared("w", "worker")
    one, two = open_partition(shared, P1), open_partition(shared, P2)

    def crash(run: object) -> None:
        one.lane.producer.flush()
        raise OSError("killed within the transaction")

    monkeypatch.setattr(two, "send", crash)
    with pytest.raises(OSError, match="killed"):
        one.lane.apply([(one, line.staged(P1)), (two, line.staged(P2))])
    killed(one, two)
    with process(line, "w") as (one, two):
        assert (counted(line, P1), counted(line, P2)) == (0, 0)
        one.lane.apply([(one, line.staged(P1)), (two, line.staged(P2))])
    assert (counted(line, P1), counted(line, P2)) == (1, 1)


@pytest.mark.kafka
@pytest.mark.parametrize("takes", KINDS)
def test_a_partition_that_was_given_up_leaves_its_earlier_owner_at_work(line: Line, takes: str) -> None:
    staged(line, "b")
    shared = line.shared("w1", "worker")
    one, two = open_partition(shared, P1), open_partition(shared, P2)
    one.close()
    owner = open_partition(line.shared("w2", takes), P1)
    owner.apply(line.staged(P1))
    owner.close()
    two.apply(line.staged(P2))
    two.close()
    assert (counted(line, P1), counted(line, P2)) == (1, 1)


@pytest.mark.kafka
def test_the_owners_of_a_partition_are_on_their_topic_until_they_are_fenced_or_give_it_up(
    line: Line,
) -> None:
    def notes() -> list[tuple[str, str | None]]:
        prefix = f"{line.settings.topic_prefix}worker-"
        found = [(message.key(), message.value()) for message in read(line.settings, OWNERS, P1)]
        return [
            ((key or b"").decode().removeprefix(prefix)[:2], value.decode() if value else None)
            for key, value in found
        ]

    dead = open_partition(line.shared("w1", "worker"), P1)
    killed(dead)
    open_partition(line.shared("w2", "worker"), P1).close()
    fenced_w1 = [("w1", "w1"), ("w2", "w2"), ("w1", None), ("w2", None)]
    assert notes() == fenced_w1
    open_partition(line.shared("w3", "partition"), P1).close()
    assert notes() == fenced_w1


@pytest.mark.kafka
def test_partitions_that_are_assigned_together_are_claimed_and_released_together(line: Line) -> None:
    def owners() -> list[list[bool]]:
        found = [read(line.settings, OWNERS, partition) for partition in (P1, P2)]
        return [[message.value() is not None for message in messages] for messages in found]

    shared = line.shared("w", "worker")
    shared.lanes.claim([P1, P2])
    assert owners() == [[True], [True]]
    owned = [open_partition(shared, partition) for partition in (P1, P2)]
    assert owners() == [[True], [True]]
    close_partitions(shared.lanes, owned)
    assert owners() == [[True, False], [True, False]]


@pytest.mark.kafka
def test_a_worker_of_an_earlier_release_is_not_joined_by_one_with_one_transaction(line: Line) -> None:
    settings = line.settings.model_copy(update={"transactions": "worker"})
    together, apart = Membership(settings, "w"), Membership(line.settings, "v")
    together.check_releases()  # the group is empty
    earlier = committed_consumer(settings, together.group, **{"client.id": "worker-0-1a2b3c4d"})
    earlier.subscribe([settings.topic_prefix + STAGED])
    wait_until(lambda: earlier.poll(0.1) is None and bool(earlier.assignment()), "the earlier worker")
    with pytest.raises(ReleaseTooOld, match=r"is a worker of an earlier release.* Deploy"):
        together.check_releases()
    apart.check_releases()
    earlier.close()
    for membership in (together, apart):
        membership._lock.close()


@pytest.mark.kafka
def test_a_transaction_that_is_committed_and_not_visible_yet_is_waited_for(line: Line) -> None:
    prefix = line.settings.topic_prefix
    other = transactional_producer(line.settings, f"{prefix}test")
    other.init_transactions()
    other.begin_transaction()
    [record] = changelog_records({}, Position(6, {}))
    other.produce(prefix + WINDOW, FRAMES["window-changes"] + record, partition=P1)
    other.flush()
    shared = line.shared("w")
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(open_partition, shared, P1)
        recoveries = shared.recoveries
        wait_until(lambda: [at.offsets_due for at in recoveries.now()] == [1], "the end is known")
        other.commit_transaction()
        owned = opening.result(WITHIN_S)
    assert owned.expected == 7
    owned.close()
