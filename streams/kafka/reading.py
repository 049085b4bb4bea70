"""Reads partitions to their present ends."""

import time
from collections.abc import Iterator, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.errors import BrokerUnavailable

SILENCE_S = 60.0


def to_the_ends(
    consumer: Consumer,
    places: Sequence[TopicPartition],
    silence_s: float = SILENCE_S,
    ends: Mapping[tuple[str, int], int] | None = None,
) -> Iterator[Message]:
    """The records of partitions, each from the offset of its place to its end.

    ``consumer`` reports the ends (:func:`streams.kafka.clients.committed_consumer`) and is assigned to
    the places. A consumer of committed records is at the end where the first open transaction begins;
    records that are committed behind it come after that transaction has ended. With ``ends`` they are
    waited for: each partition is read at least up to its offset there. Raises ``BrokerUnavailable`` if
    Kafka sends nothing for ``silence_s``.
    """
    due = ends or {}
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
            place = str(message.topic()), message.partition() or 0
            if (message.offset() or 0) >= due.get(place, 0):
                left.discard(place)
        else:
            raise KafkaException(error)
