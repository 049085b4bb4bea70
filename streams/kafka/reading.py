"""Reads partitions to their present ends."""

import time
from collections.abc import Iterator, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.errors import BrokerUnavailable

SILENCE_S = 60.0


def to_the_ends(
    consumer: Consumer, places: Sequence[TopicPartition], silence_s: float = SILENCE_S
) -> Iterator[Message]:
    """The records of partitions, each from the offset of its place to its end.

    ``consumer`` reports the ends (:func:`streams.kafka.clients.committed_consumer`) and is assigned to
    the places. Raises ``BrokerUnavailable`` if Kafka sends nothing for ``silence_s``.
    """
    left = {(place.topic, place.partition) for place in places}
    consumer.assign(list(places))
    heard = time.monotonic()
    while left:
        message = consumer.poll(1.0)
        if message is None:
            if time.monotonic() - heard > silence_s:
                raise BrokerUnavailable(f"Kafka has sent nothing for {silence_s:g} s")
            continue
        heard = time.monotonic()
        error = message.error()
        if error is None:
            yield message
        elif error.code() == KafkaError._PARTITION_EOF:
            left.discard((str(message.topic()), message.partition() or 0))
        else:
            raise KafkaException(error)
