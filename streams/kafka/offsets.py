"""Offsets: where partitions begin and end, where groups go on, and how far they are behind."""

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.errors import BrokerUnavailable
from streams.kafka.clients import committed_consumer
from streams.records.topics import CONTRACTS, PROFILES, RAW, STAGED, WINDOW
from streams.settings import Settings

_ELECTING = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)


def watermarks(consumer: Consumer, place: TopicPartition, timeout_s: float = 30.0) -> tuple[int, int]:
    """Where a partition begins and ends; waits for a leader that is just being elected."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return consumer.get_watermark_offsets(place, timeout=timeout_s)
        except KafkaException as error:
            if error.args[0].code() not in _ELECTING or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def committed_offset(settings: Settings, group: str, topic: str, partition: int) -> int:
    """The offset at which a group goes on; where the partition begins, if it has committed none."""
    consumer = committed_consumer(settings, group)
    try:
        place = TopicPartition(topic, partition)
        [found] = consumer.committed([place], timeout=30)
        return found.offset if found.offset >= 0 else watermarks(consumer, place)[0]
    finally:
        consumer.close()


def lag(settings: Settings) -> dict[str, int]:
    """How many records each stage has not yet committed: translate, process, sink.

    The last mark of a transaction takes up an offset and is no record.
    """
    prefix = settings.topic_prefix
    sink = [topic for topic in CONTRACTS if topic not in (STAGED, WINDOW, PROFILES)]
    stages = {"translate": ("line", [RAW]), "process": ("line", [STAGED]), "sink": ("sink", sink)}
    found = {}
    for stage, (group, names) in stages.items():
        places = [
            TopicPartition(prefix + name, number)
            for name in names
            for number in range(settings.partitions)
        ]
        consumer = committed_consumer(settings, prefix + group)
        try:
            behind = 0
            for place in consumer.committed(places, timeout=10):
                low, high = watermarks(consumer, place, 10)
                ahead = high - (place.offset if place.offset >= 0 else low)
                behind += max(0, ahead - 1) if stage == "sink" else ahead
            found[stage] = behind
        except KafkaException as error:
            raise BrokerUnavailable(
                f"Kafka at {settings.kafka_bootstrap} does not answer: {error.args[0].str()}"
            ) from None
        finally:
            consumer.close()
    return found
