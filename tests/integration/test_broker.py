"""The line's needs of a broker, on Kafka and on the in-memory one, and the line without a broker.

Where the in-memory broker differs from Kafka, a test asserts the difference.
"""

import json
import random
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from connectors.demo.day import day
from streams.core.event import to_json
from streams.kafka.admin import wait_for_broker
from streams.kafka.clients import committed_consumer, idempotent_producer, transactional_producer
from streams.kafka.offsets import watermarks
from streams.records.raw_batch import RawRecord, headers_of
from streams.records.topics import CONTRACTS, RAW, STAGED
from streams.settings import Settings
from streams.wire.avro import codec, unframe
from tests import line as in_memory
from tests.integration.test_line import Line, headers_of_message, read
from tests.line import batch_of_post

PARTITIONS = range(4)


def is_real(settings: Settings) -> bool:
    return not wait_for_broker(settings).startswith("mockCluster")


def produce(settings: Settings, count: int, **record: Any) -> None:
    producer = idempotent_producer(settings)
    refused: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            refused.append(error)

    for number in range(count):
        given = {"value": b"%d" % number, "partition": 1, **record}
        producer.produce(settings.topic_prefix + RAW, on_delivery=on_delivery, **given)
    assert producer.flush(60) == 0
    assert refused == []


def ends(settings: Settings) -> tuple[int, int]:
    consumer = committed_consumer(settings, "test-ends")
    found = watermarks(consumer, TopicPartition(settings.topic_prefix + RAW, 1))
    consumer.close()
    return found


def test_a_partition_keeps_its_records_in_order_each_at_the_next_offset(settings: Settings) -> None:
    produce(settings, 500)
    found = read(settings, RAW, 1)
    assert [message.value() for message in found] == [b"%d" % number for number in range(500)]
    assert [message.offset() for message in found] == list(range(500))
    assert ends(settings) == (0, 500)
    assert read(settings, RAW, 0) == []


def test_key_headers_time_and_value_are_kept_byte_for_byte(settings: Settings) -> None:
    headers = [("same", b"1"), ("same", b"2"), ("empty", b""), ("none", None)]
    produce(settings, 1, key=b"\x00key", value=b"\xff" * 2_000_000, headers=headers, timestamp=7)
    produce(settings, 1, key=None, value=None, headers=[])
    with_headers, without = read(settings, RAW, 1)
    assert headers_of_message(with_headers) == headers
    assert (with_headers.key(), with_headers.value()) == (b"\x00key", b"\xff" * 2_000_000)
    assert with_headers.timestamp()[1] == 7
    assert (without.key(), without.value(), without.headers()) == (None, None, None)


def test_a_group_goes_on_where_it_committed(settings: Settings) -> None:
    partition = TopicPartition(settings.topic_prefix + RAW, 1)
    for committed in (3, 2):
        consumer = committed_consumer(settings, "test-group")
        consumer.commit(offsets=[TopicPartition(partition.topic, 1, committed)], asynchronous=False)
        consumer.close()
        other = committed_consumer(settings, "test-group")
        assert [found.offset for found in other.committed([partition], timeout=60)] == [committed]
        other.close()


def test_a_committed_transaction_is_read_whole_and_its_mark_takes_an_offset(settings: Settings) -> None:
    producer = transactional_producer(settings, f"{settings.topic_prefix}test")
    producer.init_transactions()
    for _ in range(2):
        producer.begin_transaction()
        for topic, partition in ((RAW, 1), (RAW, 1), (STAGED, 0)):
            producer.produce(settings.topic_prefix + topic, b"x", partition=partition)
        producer.commit_transaction()
    assert [message.offset() for message in read(settings, RAW, 1)] == [0, 1, 3, 4]
    assert [message.offset() for message in read(settings, STAGED, 0)] == [0, 2]
    assert ends(settings) == (0, 6)


def test_an_aborted_transaction_is_hidden_by_kafka_and_shown_by_the_in_memory_broker(
    settings: Settings,
) -> None:
    producer = transactional_producer(settings, f"{settings.topic_prefix}test")
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(settings.topic_prefix + RAW, b"x", partition=1)
    producer.flush()
    producer.abort_transaction()
    assert len(read(settings, RAW, 1)) == (0 if is_real(settings) else 1)


def test_only_kafka_fences_a_producer_whose_transactional_id_another_has_taken(
    settings: Settings,
) -> None:
    first = transactional_producer(settings, f"{settings.topic_prefix}test")
    first.init_transactions()
    second = transactional_producer(settings, f"{settings.topic_prefix}test")
    second.init_transactions()
    first.begin_transaction()
    first.produce(settings.topic_prefix + RAW, b"x", partition=1)
    if is_real(settings):
        with pytest.raises(KafkaException) as caught:
            first.commit_transaction(60)
        assert caught.value.args[0].code() in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
    else:
        first.commit_transaction(60)


def test_only_the_in_memory_broker_drops_what_is_more_than_5_mb(settings: Settings) -> None:
    produce(settings, 8, value=random.Random(1).randbytes(1_000_000))
    low, high = ends(settings)
    assert high == 8
    assert low == 0 if is_real(settings) else 0 < low < 8


# The line in memory -------------------------------------------------------------------------


POSITIONS = {"raw_partition", "raw_offset", "reject_id", "outcome_id", "segment"}
"""Fields that say where a record came from."""


def test_the_line_in_memory_sends_what_the_line_on_a_broker_sends(settings: Settings) -> None:
    on_broker, alone = Line(settings), in_memory.Line(partitions=settings.partitions)
    for number, post in enumerate(day(seed=12, events=600)):
        made = batch_of_post(post, number, "day")
        alone.post(post.body, made)
        on_broker.translate([RawRecord(0, number, headers_of(made, 0), post.body)])
    alone.settle()
    for partition in PARTITIONS:
        with on_broker.owned(partition) as owned:
            owned.apply(on_broker.staged(partition))
    for topic in alone.sent:
        found = [
            json.loads(to_json(CONTRACTS[topic], codec(CONTRACTS[topic]).decode(unframe(value))))
            for message in read(settings, topic, *PARTITIONS)
            if (value := message.value()) is not None
        ]
        assert _comparable(found) == _comparable(alone.sent[topic]), topic


def _comparable(sent: list[dict[str, Any]]) -> list[str]:
    return sorted(
        json.dumps({name: value for name, value in record.items() if name not in POSITIONS})
        for record in sent
    )
