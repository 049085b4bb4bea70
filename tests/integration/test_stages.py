"""The checks that the stages make before they send records."""

import asyncio
import json
from pathlib import Path
from threading import Lock

import pytest
from confluent_kafka import TopicPartition

from streams.errors import InputGap, TooManyRejects
from streams.kafka.clients import committed_consumer
from streams.kafka.offsets import committed_offset
from streams.records.raw_batch import RawRecord, headers_of
from streams.records.topics import RAW
from streams.runtime.gaps import InputOrder
from streams.runtime.stages_on_kafka import Translate
from streams.settings import Settings
from tests.line import FRAMES, NATIVE, bet
from tests.metrics import worker_metrics


def bodies(good: int, bad: int) -> bytes:
    return json.dumps([bet(f"g{n}") for n in range(good)] + [bet("b", -1)] * bad).encode()


@pytest.fixture
def stage(tmp_path: Path, memory_broker: str) -> Translate:
    return Translate(
        Settings(data_dir=tmp_path, kafka_bootstrap=memory_broker),
        FRAMES,
        Lock(),
        worker_metrics(),
    )


def records(body: bytes, invalid: int, count: int) -> list[RawRecord]:
    return [RawRecord(0, offset, headers_of(NATIVE, invalid), body) for offset in range(count)]


def test_many_rejects_that_the_edge_did_not_see_stop_the_stage(stage: Translate) -> None:
    with pytest.raises(TooManyRejects, match=r"500 of the last 2000 items.*REJECT_SHARE_MAX"):
        stage(records(bodies(75, 25), invalid=0, count=20))


def test_many_rejects_that_the_edge_has_seen_do_not_stop_the_stage(stage: Translate) -> None:
    stage(records(bodies(10, 90), invalid=90, count=40))


def test_a_few_unexpected_rejects_do_not_stop_the_stage(stage: Translate) -> None:
    stage(records(bodies(90, 10), invalid=0, count=40))


class Offsets:
    """Passes the offsets of raw records to an :class:`InputOrder`, and records where it seeks."""

    def __init__(self, committed: int) -> None:
        self.committed = committed
        self.sought: list[int] = []
        self.order = InputOrder(lambda partition: self.committed, self._seek)

    async def _seek(self, partition: int, offset: int) -> None:
        self.sought.append(offset)

    def come(self, *offsets: int) -> list[int]:
        async def run() -> list[int]:
            found = [offset for offset in offsets if await self.order.admit(0, offset)]
            await self.order.seek()
            return found

        return asyncio.run(run())


def test_a_raw_record_that_is_missing_after_an_assignment_is_asked_for_again() -> None:
    offsets = Offsets(committed=1532)
    assert offsets.come(1533, 1534) == []  # Faust dropped 1532 during a rebalance
    assert offsets.sought == [1532]
    assert offsets.come(1532, 1533, 1534) == [1532, 1533, 1534]
    assert offsets.come(1536, 1537) == []
    assert offsets.come(1535, 1536) == [1535, 1536]
    assert offsets.sought == [1532, 1535]


def test_a_raw_record_that_does_not_come_even_then_stops_the_stage() -> None:
    offsets = Offsets(committed=5)
    assert offsets.come(7, 8) == []
    with pytest.raises(InputGap, match=r"raw\.batches\[0\]: offset 7 arrived where 5"):
        offsets.come(7)


def test_records_read_again_after_an_assignment_are_translated_again() -> None:
    offsets = Offsets(committed=5)
    assert offsets.come(5, 6, 7) == [5, 6, 7]
    offsets.order.forget()
    offsets.committed = 6
    assert offsets.come(5, 6, 7) == [5, 6, 7]
    assert offsets.sought == []


def test_a_group_goes_on_where_it_committed_and_else_where_the_partition_begins(
    settings: Settings,
) -> None:
    topic = settings.topic_prefix + RAW
    assert committed_offset(settings, "some-group", topic, 0) == 0
    consumer = committed_consumer(settings, "some-group")
    consumer.commit(offsets=[TopicPartition(topic, 0, 7)], asynchronous=False)
    consumer.close()
    assert committed_offset(settings, "some-group", topic, 0) == 7
