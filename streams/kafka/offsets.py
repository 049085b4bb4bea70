"""Offsets: the ends of partitions and the committed positions of groups."""

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from streams.kafka.clients import committed_consumer
from streams.settings import Settings

_ELECTING = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)

Answer = TypeVar("Answer")

PartitionId = tuple[str, int]
"""A topic's name, including the prefix, and a partition."""


def when_elected(ask: Callable[[], Answer], timeout_s: float = 30.0) -> Answer:
    """What ``ask`` returns; asks again while a leader or a coordinator is just being elected."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in _ELECTING or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def watermarks(consumer: Consumer, tp: TopicPartition, timeout_s: float = 30.0) -> tuple[int, int]:
    """The first and the end offset of a partition. Waits while its leader is being elected."""
    return when_elected(lambda: consumer.get_watermark_offsets(tp, timeout=timeout_s), timeout_s)


def committed_offset(settings: Settings, group: str, topic: str, partition: int) -> int:
    """The committed offset of a group; if it has none, the first offset of the partition."""
    consumer = committed_consumer(settings, group)
    try:
        tp = TopicPartition(topic, partition)
        [found] = when_elected(lambda: consumer.committed([tp], timeout=30))
        return found.offset if found.offset >= 0 else watermarks(consumer, tp)[0]
    finally:
        consumer.close()


def list_offsets(
    admin: AdminClient,
    partitions: Iterable[TopicPartition],
    spec: OffsetSpec,
    isolation: IsolationLevel,
    timeout_s: float,
) -> dict[PartitionId, int]:
    """The offset of each partition that ``spec`` names, like its end. Raises ``KafkaException``."""
    asked = {TopicPartition(tp.topic, tp.partition): spec for tp in partitions}
    if not asked:
        return {}
    answers = admin.list_offsets(asked, isolation_level=isolation, request_timeout=timeout_s)
    return {(tp.topic, tp.partition): answer.result().offset for tp, answer in answers.items()}
