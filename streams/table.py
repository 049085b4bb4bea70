"""A table: RocksDB beside a changelog partition, which is the truth.

RocksDB is written after the transaction that holds the changelog record has committed, in one write
batch together with the changelog offset to go on from. Its own write-ahead log is off: whatever a
crash loses is read again from the changelog, from that offset.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    Options,
    Rdict,
    WriteBatch,
    WriteOptions,
)

from streams.errors import StateMismatch

_OFFSET = b"\x00offset"
_CLUSTER = b"\x00cluster"
_BLOCK_CACHE_BYTES = 64 << 20
_WRITE_BUFFER_BYTES = 32 << 20

Puts = Mapping[bytes, bytes]

_cache = Cache(_BLOCK_CACHE_BYTES)  # one for all tables of the process, so that memory is bounded


class Table:
    """Bytes to bytes. ``ttl_s`` lets entries expire at compaction, counted from their last write."""

    def __init__(self, path: Path, cluster: str, ttl_s: int | None = None) -> None:
        path.mkdir(parents=True, exist_ok=True)
        blocks = BlockBasedOptions()
        blocks.set_bloom_filter(10, False)
        blocks.set_block_cache(_cache)
        blocks.set_cache_index_and_filter_blocks(True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(blocks)
        options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
        options.set_keep_log_file_num(2)
        access = AccessType.with_ttl(ttl_s) if ttl_s else AccessType.read_write()
        self.path = path
        self._db = Rdict(str(path), options, access_type=access)
        self._unlogged = WriteOptions()
        self._unlogged.disable_wal = True  # type: ignore[method-assign,assignment]  # a property
        known = self._db.get(_CLUSTER)
        if known is not None and known != cluster.encode():
            self.close()
            raise StateMismatch(
                f"the state in {path} belongs to another Kafka cluster. Move that directory away, "
                "or point ROUNDHOUSE_KAFKA_BOOTSTRAP or ROUNDHOUSE_DATA_DIR back."
            )
        self.write({_CLUSTER: cluster.encode()}, self.offset)

    @property
    def offset(self) -> int:
        """The changelog offset to go on from."""
        stored = self._db.get(_OFFSET)
        return int.from_bytes(stored, "big") if stored else 0

    def get(self, key: bytes) -> bytes | None:
        """One value."""
        value: bytes | None = self._db.get(key)
        return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of ``keys``."""
        return list(self._db.get(list(keys)) or ())

    def write(self, puts: Puts, offset: int) -> None:
        """Puts and the changelog offset to go on from, together."""
        batch = WriteBatch(raw_mode=True)
        for key, value in puts.items():
            batch.put(key, value)
        batch.put(_OFFSET, offset.to_bytes(8, "big"))
        self._db.write(batch, self._unlogged)

    def close(self) -> None:
        """Flushes and closes."""
        self._db.close()


def recover(
    table: Table,
    consumer: Consumer,
    topic: str,
    partition: int,
    puts_of: Callable[[bytes | None, bytes], Puts],
) -> int:
    """Brings ``table`` up to the end of its changelog; returns how many records it read.

    ``puts_of(key, value)`` are the puts of one record. Raises ``StateMismatch`` if the table is
    ahead of the changelog.
    """
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
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
    for batch, end in _to_the_end(consumer):
        puts: dict[bytes, bytes] = {}
        for key, value in batch:
            puts |= puts_of(key, value)
        count += len(batch)
        table.write(puts, end)
    consumer.unassign()
    return count


def _to_the_end(consumer: Consumer) -> Iterator[tuple[list[tuple[bytes | None, bytes]], int]]:
    """Batches of (key, value) with the offset after them, until the partition's end."""
    done = False
    while not done:
        batch: list[tuple[bytes | None, bytes]] = []
        end = None
        while len(batch) < 500 and not done:
            message = consumer.poll(1.0)
            if message is None:
                break
            error = message.error()
            if error is None:
                value = message.value()
                assert value is not None
                batch.append((message.key(), value))
                end = (message.offset() or 0) + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                end = message.offset()
                done = True
            else:
                raise KafkaException(error)
        if end is not None:
            yield batch, end
