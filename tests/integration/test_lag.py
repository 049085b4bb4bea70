"""The lag of a consumer group, measured on the in-memory cluster and on a real Kafka."""

import time
from contextlib import closing

import pytest
from confluent_kafka import TopicPartition

from streams.errors import BrokerUnavailable
from streams.kafka.clients import committed_consumer, idempotent_producer, transactional_producer
from streams.kafka.lag import LINE, SINK, LagMeter, records_behind
from streams.records.topics import OUTCOMES, STAGED
from streams.settings import Settings
from streams.telemetry.lag_metrics import Lag
from tests.waiting import wait_until

AGE_S = 600.0


def answers(meter: LagMeter) -> bool:
    """Whether the lag is known; a broker that has just started must first find the coordinator."""
    try:
        meter.measure()
    except BrokerUnavailable:
        return False
    return True


def lag_of(meter: LagMeter, topic: str, partition: int) -> Lag:
    [found] = [lag for lag in meter.measure() if (lag.topic, lag.partition) == (topic, partition)]
    return found


def commit(settings: Settings, group: str, topic: str, offset: int) -> None:
    consumer = committed_consumer(settings, settings.topic_prefix + group)
    consumer.commit(
        offsets=[TopicPartition(settings.topic_prefix + topic, 1, offset)], asynchronous=False
    )
    consumer.close()


def test_lag_is_counted_from_the_first_record_that_is_not_committed(settings: Settings) -> None:
    producer, topic = idempotent_producer(settings), settings.topic_prefix + STAGED
    now_ms = int(time.time() * 1000)
    for number in range(4):  # the oldest first, a minute apart
        written_ms = now_ms - int(AGE_S * 1000) + number * 60_000
        producer.produce(topic, b"x", partition=1, timestamp=written_ms)
        producer.flush(30)
    with closing(LagMeter(settings, LINE)) as meter:
        wait_until(lambda: answers(meter), "the group's coordinator")
        nothing_committed = lag_of(meter, STAGED, 1)
        assert (nothing_committed.stage, nothing_committed.records) == ("process", 4)
        assert nothing_committed.seconds == pytest.approx(AGE_S, abs=30)
        assert lag_of(meter, STAGED, 0) == Lag("process", STAGED, 0, 0, 0.0)
        commit(settings, "line", STAGED, 2)
        some = lag_of(meter, STAGED, 1)
        assert some.records == 2
        assert some.seconds == pytest.approx(AGE_S - 120, abs=30)
        commit(settings, "line", STAGED, 4)
        assert lag_of(meter, STAGED, 1) == Lag("process", STAGED, 1, 0, 0.0)


@pytest.mark.kafka
def test_aborted_records_and_transaction_markers_do_not_count_as_lag(real_settings: Settings) -> None:
    settings = real_settings
    producer = transactional_producer(settings, f"{settings.topic_prefix}test")
    producer.init_transactions(30)
    topic = settings.topic_prefix + OUTCOMES
    for end in (producer.commit_transaction, producer.abort_transaction):
        producer.begin_transaction()
        producer.produce(topic, b"x", partition=1)
        producer.flush(30)
        end(30)
    # after offset 0, the committed record, come its marker, the aborted record and the latter's marker
    commit(settings, "sink", OUTCOMES, 1)
    with closing(LagMeter(settings, SINK)) as meter:
        wait_until(lambda: answers(meter), "the group's coordinator")
        assert lag_of(meter, OUTCOMES, 1) == Lag("sink", OUTCOMES, 1, 0, 0.0)
    assert records_behind(settings)["sink"] == 0
