"""Recovery: a table is brought up to the end of its changelog partition."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.errors import StateMismatch
from streams.kafka.offsets import watermarks
from streams.state.rocksdb import Puts

_RECOVERED_BYTES = 4 << 20
_RECORD_BYTES = 500  # of memory that a record takes beside its value


class Store(Protocol):
    """What :func:`recover` brings up to date: a :class:`Table` or a :class:`Window`."""

    path: Path

    @property
    def offset(self) -> int:
        """The changelog offset to go on from."""
        ...

    def reopen(self, filling: bool) -> None:
        """Opens the table again, for many writes (``filling``) or for reads and writes."""
        ...


@contextmanager
def filling(store: Store) -> Iterator[None]:
    """Opens ``store`` for many writes and few reads, and normally again at the end."""
    store.reopen(filling=True)
    yield
    store.reopen(filling=False)


def recover(
    table: Store,
    consumer: Consumer,
    changelog: TopicPartition,
    *,
    puts_of: Callable[[bytes | None, bytes], Puts],
    write: Callable[[Puts, int, float], None],
) -> int:
    """Brings ``table`` up to the end of its changelog; returns how many records it read.

    ``puts_of(key, value)`` are the puts of one record. ``write(puts, offset, at_s)`` writes them to the
    table with the offset to go on from, as of a time (seconds, epoch). Raises ``StateMismatch`` if the
    table is ahead of the changelog.
    """
    topic, partition = changelog.topic, changelog.partition
    low, high = watermarks(consumer, changelog)
    start = table.offset
    if start > high:
        raise StateMismatch(
            f"the state in {table.path} is ahead of its changelog {topic}[{partition}] "
            f"({start} > {high}): the changelog was lost or recreated. Move that directory away to "
            "build the state anew from what the changelog still holds."
        )
    if start >= high:
        return 0
    count = 0
    consumer.assign([TopicPartition(topic, partition, max(start, low))])
    with filling(table):
        for records, end in _to_the_end(consumer):
            count += len(records)
            puts: dict[bytes, bytes] = {}
            for record in records:
                puts |= puts_of(record.key, record.value)
            write(puts, end, records[-1].at_s)
    consumer.unassign()
    return count


class _Record(NamedTuple):
    key: bytes | None
    value: bytes
    at_s: float


def _to_the_end(consumer: Consumer) -> Iterator[tuple[list[_Record], int]]:
    """Batches of records with the offset after them, until the partition's end."""
    done = False
    while not done:
        batch: list[_Record] = []
        size = 0
        end = None
        while size < _RECOVERED_BYTES and not done:
            message = consumer.poll(1.0)
            if message is None:
                break
            error = message.error()
            if error is None:
                value = message.value()
                assert value is not None
                batch.append(_Record(message.key(), value, message.timestamp()[1] / 1000))
                size += len(value) + _RECORD_BYTES
                end = (message.offset() or 0) + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                end = message.offset()
                done = True
            else:
                raise KafkaException(error)
        if batch and end is not None:
            yield batch, end
