"""Standby copies: the state that a worker has of a partition it follows when it becomes the owner."""

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.core.identity import partition_of
from streams.errors import StateMismatch
from streams.kafka.clients import idempotent_producer
from streams.records.staged_chunk import erasing
from streams.records.topics import STAGED
from streams.settings import Settings
from streams.stages.process import ROUND_KEY
from streams.state.follower import Followers
from streams.state.owned_partition import state_directory
from tests.integration.test_line import P1, Line, decoded
from tests.line import FRAMES, bet, win
from tests.waiting import wait_until

pytestmark = pytest.mark.kafka


class Copying(Line):
    """A line whose workers follow each other's partitions."""

    def settle(self, owner: str, *ids: str) -> None:
        """Posts bets, opens the partition as a worker, and applies them."""
        self.post([bet(name) for name in ids])
        records = self.raw()[-1:]
        Line(self.settings, self.frames).translate(records)
        with self.owned(worker=owner) as owned:
            owned.apply(self.staged())

    @contextmanager
    def following(self, worker: str) -> Iterator[Followers]:
        failures: list[BaseException] = []
        followers = Followers(self.shared(worker), failures.append)
        followers.follow([P1])
        try:
            yield followers
        finally:
            followers.close()
            if failures:
                raise failures[0]

    def caught_up(self, followers: Followers, entries: int) -> None:
        def whole() -> bool:
            return [(c.entries, c.behind) for c in followers.now()] == [(entries, 0)]

        wait_until(whole, f"a copy of {entries} entries")

    def erase(self, owner: str, key: str) -> None:
        """Writes the command to erase a player, and applies it as a worker."""
        headers, datum = erasing(key)
        producer = idempotent_producer(self.settings)
        producer.produce(
            self.settings.topic_prefix + STAGED,
            FRAMES["staged-chunk"] + datum,
            partition=P1,
            headers=headers,  # type: ignore[arg-type]  # a list of wider pairs, they say
        )
        assert producer.flush(30) == 0
        with self.owned(worker=owner) as owned:
            owned.apply(self.staged())

    def finds(self, worker: str, text: bytes) -> bool:
        """Whether a file of the worker's state has this text."""
        directory = state_directory(self.settings, worker, P1)
        return any(text in path.read_bytes() for path in directory.rglob("*") if path.is_file())

    def read_by(self, worker: str) -> int:
        """The number of entries that a worker reads when it opens the partition."""
        with self.owned(worker=worker):
            [progress] = self.recoveries.now()
            assert progress.percent == 100.0
            return progress.entries


@pytest.fixture
def line(real_settings: Settings) -> Copying:
    return Copying(real_settings)


def test_a_partition_that_comes_to_a_worker_with_a_copy_is_opened_by_reading_the_rest(
    line: Copying,
) -> None:
    #   w1 owns:  100 bets            1 bet       w1 away
    #   w2 follows     100 bets  stops                    opens: reads 1 bet, then owns
    line.settle("w1", *(f"b{n}" for n in range(100)))
    with line.following("w2") as followers:
        line.caught_up(followers, 102)  # ids, their round, the position
        line.settle("w1", "again")
        line.caught_up(followers, 105)
        followers.release(P1)
        line.settle("w1", "last")
        assert line.read_by("w2") == 3
        line.settle("w2", "b7", "last", "after")
    counted = [o for o in decoded(line.settings, "outcomes", "outcome") if o["stage"] == "process"]
    assert [(o["accepted"], o["duplicate"]) for o in counted] == [(100, 0), (1, 0), (1, 0), (1, 2)]
    newest = decoded(line.settings, "rounds", "round")[-1]
    assert (newest["bet_count"], newest["revision"]) == (103, 4)
    assert line.read_by("w3") == 102 + 3 + 3 + 3  # without a copy


def test_a_copy_is_kept_through_hand_overs_there_and_back(line: Copying) -> None:
    line.settle("w1", "b1")
    with line.following("w2") as followers:
        line.caught_up(followers, 3)
        followers.release(P1)
        line.settle("w2", "b2")
        with line.following("w1") as back:
            line.caught_up(back, 3)
        followers.follow([P1])
        line.settle("w1", "b3")
        line.caught_up(followers, 3)
    assert (line.read_by("w1"), line.read_by("w2")) == (0, 0)


def test_a_copy_holds_nothing_of_a_transaction_that_was_aborted(line: Copying) -> None:
    line.settle("w1", "b1")
    line.post([bet("b2"), win("w")])
    line.translate(line.raw()[1:])
    with line.following("w2") as followers:
        line.caught_up(followers, 3)
        with line.owned(worker="w1") as zombie:
            zombie.lane.producer.begin_transaction()
            zombie.send(line.staged()[1:])
            zombie.lane.producer.flush()
            with line.owned(worker="w3") as owner:  # aborts it
                owner.apply(line.staged())
                with pytest.raises(KafkaException) as caught:
                    zombie.lane.producer.commit_transaction()
        assert caught.value.args[0].code() in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
        line.caught_up(followers, 3 + 4)  # two ids, their round, the position
    assert line.read_by("w2") == 0


def test_a_worker_that_is_killed_while_it_follows_resumes_from_its_disk(
    line: Copying, tmp_path: Path
) -> None:
    line.settle("w1", *(f"b{n}" for n in range(50)))
    home = state_directory(line.settings, "w2", P1)
    with line.following("w2") as followers:
        line.caught_up(followers, 52)
        shutil.copytree(home, tmp_path / "killed")  # what a kill leaves on the disk
    shutil.rmtree(home)
    (tmp_path / "killed").rename(home)
    line.settle("w1", "b7", "new")
    with line.following("w2") as followers:
        wait_until(lambda: [copy.behind for copy in followers.now()] == [0], "the copy")
        followers.release(P1)
        line.settle("w2", "b8", "new", "newer")
    counted = [o for o in decoded(line.settings, "outcomes", "outcome") if o["stage"] == "process"]
    assert [(o["accepted"], o["duplicate"]) for o in counted] == [(50, 0), (1, 1), (1, 2)]


def test_a_damaged_copy_is_set_aside_and_a_new_one_is_made(line: Copying) -> None:
    line.settle("w1", "b1", "b2")
    with line.following("w2") as followers:
        line.caught_up(followers, 4)
    home = state_directory(line.settings, "w2", P1)
    for current in home.rglob("CURRENT"):
        current.write_text("")
    with line.following("w2") as followers:
        line.caught_up(followers, 4)
    assert home.with_name(f"{home.name}.damaged").is_dir()
    assert line.read_by("w2") == 0


def test_a_copy_of_another_cluster_or_ahead_of_its_changelog_stops_the_worker(line: Copying) -> None:
    line.settle("w1", "b1")
    with line.owned(worker="w2") as owned:
        owned._tables.window.write({}, 1_000, 0)
    for match in ("is ahead of its changelog", "another Kafka cluster"):
        failures: list[BaseException] = []
        followers = Followers(line.shared("w2"), failures.append)
        followers.follow([P1])
        wait_until(partial(bool, failures), "what ended the thread")
        followers.release(P1)
        with pytest.raises(StateMismatch, match=match):
            raise failures[0]
        line.cluster = "another"


def test_an_erased_player_leaves_every_copy_of_the_state_and_is_refused_from_then_on(
    line: Copying,
) -> None:
    #   w1 owns:  player, bet         erased       stays refused
    #   w2 follows:    both     stops        follows again: erased
    #   w3:                                                 built from the changelogs: erased
    names = (f"player-to-erase-{number}" for number in itertools.count())
    player = next(name for name in names if partition_of(f"acme|{name}", 4) == P1)
    about = {"unique_id": "u", "timestamp": "2026-03-14T12:00:00Z", "username": "known-as"}
    line.post([{"event": "player", "data": {"player_id": player, **about}}])
    line.post([bet("b1", player_id=player), bet("other")])
    Line(line.settings, line.frames).translate(line.raw())
    with line.owned(worker="w1") as owned:
        owned.apply(line.staged())
    with line.following("w2") as followers:
        line.caught_up(followers, 7)  # ids, rounds, the profile, the position
    for worker in ("w1", "w2"):
        assert line.finds(worker, player.encode())
        assert line.finds(worker, b"known-as")

    line.erase("w1", f"acme|{player}")
    with line.following("w2") as followers:
        line.caught_up(followers, 4)  # the mark, the tombstone, the erased rounds, the position
    line.read_by("w3")
    for worker in ("w1", "w2", "w3"):
        assert not line.finds(worker, player.encode())
        assert not line.finds(worker, b"known-as")
        with line.owned(worker=worker) as owned:
            assert len(owned.reader.erased) == 1
            [(_, state)] = owned._tables.window.entries(ROUND_KEY)
            assert b"p-1" in state

    line.post([bet("b2", player_id=player), bet("b1", player_id=player)])
    Line(line.settings, line.frames).translate(line.raw()[-1:])
    with line.owned(worker="w3") as owned:
        owned.apply(line.staged())
    *_, last = (o for o in decoded(line.settings, "outcomes", "outcome") if o["stage"] == "process")
    assert (last["accepted"], last["conflict"]) == (0, 2)
