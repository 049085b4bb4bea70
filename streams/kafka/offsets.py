"""Offsets: where partitions begin and end, and where groups go on."""

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.kafka.clients import committed_consumer
from streams.settings import Settings

_ELECTING = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)


def watermarks(consumer: Consumer, tp: TopicPartition, timeout_s: float = 30.0) -> tuple[int, int]:
    """Where a partition begins and ends; waits for a leader that is just being elected."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return consumer.get_watermark_offsets(tp, timeout=timeout_s)
        except KafkaException as error:
            if error.args[0].code() not in _ELECTING or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def committed_offset(settings: Settings, group: str, topic: str, partition: int) -> int:
    """The offset at which a group goes on; where the partition begins, if it has committed none."""
    consumer = committed_consumer(settings, group)
    try:
        tp = TopicPartition(topic, partition)
        [found] = consumer.committed([tp], timeout=30)
        return found.offset if found.offset >= 0 else watermarks(consumer, tp)[0]
    finally:
        consumer.close()
