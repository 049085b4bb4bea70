"""Tables: RocksDB beside a changelog partition, which is the truth.

RocksDB is written after the transaction that holds the changelog record has committed, in one write
batch together with the changelog offset to go on from. Its own write-ahead log is off: whatever a
crash loses is read again from the changelog, from that offset.

RocksDB's time to live is not used: through rocksdict 0.3.29, a database that is opened ``with_ttl`` a
second time loses *all* its entries at the next compaction, whatever the time. :class:`Window` forgets
by dropping whole databases instead.
"""

import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from rocksdict import (
    BlockBasedOptions,
    Cache,
    DbClosedError,
    DBCompactionStyle,
    DBCompressionType,
    MemtableFactory,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from streams.errors import StateDamaged, StateMismatch
from streams.kafka.clients import watermarks

_OFFSET = b"\x00offset"
_CLUSTER = b"\x00cluster"
_EARLIER = b"\x00earlier"
_DAMAGED = "DAMAGED"
_CACHE_BYTES = 128 << 20
_WRITE_BUFFERS_BYTES = 64 << 20
_WRITE_BUFFER_BYTES = 16 << 20
_FILLING_BUFFER_BYTES = 4 << 20
_RECOVERED_BYTES = 4 << 20
_RECORD_BYTES = 500  # what a record takes beside its value

Puts = Mapping[bytes, bytes]

# One for all tables of the process, so that memory is bounded; what waits to be flushed counts in it.
_cache = Cache(_CACHE_BYTES)
_write_buffers = WriteBufferManager.new_write_buffer_manager_with_cache(
    _WRITE_BUFFERS_BYTES, False, _cache
)


class Table:
    """Bytes to bytes, for ever.

    Raises ``StateMismatch`` if it belongs to another cluster, and ``StateDamaged`` if RocksDB finds
    its files damaged; one that was found so while it was read is so at every later opening.
    """

    def __init__(self, path: Path, cluster: str, filling: bool = False) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        if (path / _DAMAGED).exists():
            raise StateDamaged(f"the state in {path} was found damaged when it was last read")
        self._db = self._opened(filling)
        self._unlogged = WriteOptions()
        self._unlogged.disable_wal = True  # type: ignore[method-assign,assignment]  # a property
        known = self._db.get(_CLUSTER)
        if known is not None and known != cluster.encode():
            self.close()
            raise StateMismatch(
                f"the state in {path} belongs to another Kafka cluster. Move that directory away, "
                "or point ROUNDHOUSE_KAFKA_BOOTSTRAP or ROUNDHOUSE_DATA_DIR back."
            )
        self._put({_CLUSTER: cluster.encode()})

    def _opened(self, filling: bool) -> Rdict:
        options = _options(filling)
        self._filling = filling
        try:
            # of a database that exists, rocksdict reads the options of families that are not named, and
            # filters and cache are not among what it can read
            return Rdict(str(self.path), options, {"default": options})
        except Exception as error:  # rocksdict raises nothing narrower
            if _tells_of_damage(error):
                raise StateDamaged(f"the state in {self.path} is damaged: {error}") from None
            raise

    def reopen(self, filling: bool) -> None:
        """Flushes, closes and opens: ``filling`` for many writes that hardly a read comes between."""
        self.flush()  # raises what closing might keep to itself
        self._db.close()
        self._db = self._opened(filling)

    @property
    def offset(self) -> int:
        """The changelog offset to go on from."""
        stored = self._db.get(_OFFSET)
        return int.from_bytes(stored, "big") if stored else 0

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of ``keys``."""
        try:
            return list(self._db.get(list(keys)) or ())
        except Exception as error:
            if _tells_of_damage(error):
                (self.path / _DAMAGED).touch()
                raise StateDamaged(f"the state in {self.path} is damaged: {error}") from None
            raise

    def write(self, puts: Puts, offset: int) -> None:
        """Puts and the changelog offset to go on from, together."""
        self._put({**puts, _OFFSET: offset.to_bytes(8, "big")})

    def _put(self, puts: Puts) -> None:
        batch = WriteBatch(raw_mode=True)
        # in order, the memtable finds their places sooner; the one for filling orders all in one go
        for key, value in puts.items() if self._filling else sorted(puts.items()):
            batch.put(key, value)
        self._db.write(batch, self._unlogged)

    def flush(self) -> None:
        """Brings to the disk what has been written."""
        self._db.flush(True)

    def close(self) -> None:
        """Flushes and closes."""
        with suppress(DbClosedError):
            self._db.close()


def _options(filling: bool) -> Options:
    blocks = BlockBasedOptions()
    blocks.set_bloom_filter(10, False)
    blocks.set_block_cache(_cache)
    # Filters stay with their files, 10 bits a key. In the cache, one larger than a shard (2 MB)
    # finds no place and is read from the file again for every few keys: 10 us a key, not 1.
    blocks.set_cache_index_and_filter_blocks(False)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_manager(_write_buffers)
    options.set_compaction_style(DBCompactionStyle.universal())
    options.set_keep_log_file_num(2)
    if filling:
        # writes only append, and RocksDB's threads put them in order; a read would do so every time
        options.set_memtable_factory(MemtableFactory.vector())
        options.set_allow_concurrent_memtable_write(False)
        options.set_write_buffer_size(_FILLING_BUFFER_BYTES)
        options.set_max_write_buffer_number(_WRITE_BUFFERS_BYTES // _FILLING_BUFFER_BYTES)
        options.set_max_background_jobs(8)  # a quarter of them may flush
        options.set_compression_type(DBCompressionType.none())  # merging compresses, later
        options.set_level_zero_file_num_compaction_trigger(16)
    else:
        options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
        options.set_memtable_whole_key_filtering(True)
        options.set_memtable_prefix_bloom_ratio(0.1)  # most keys asked for are new
    return options


def _tells_of_damage(error: Exception) -> bool:
    """Files that are broken or missing, not a disk that is full or a lock that is held."""
    text = str(error)
    return "Corruption" in text or "No such file" in text


class Window:
    """Bytes to bytes, forgotten between ``window_s`` and twice that after their last write.

    Time is cut into generations, each a database named after the second in which it begins; one
    lasts until the first write ``window_s`` later. What is written goes into the newest, what is asked
    for is looked up in all, and one that ended ``window_s`` ago is dropped. Another ``window_s`` may
    be given at any opening.

    The newest generation's offset speaks for all: an earlier one is on the disk before a newer one
    begins, and the newer one knows which there are. Raises ``StateDamaged`` if one of them is gone.
    """

    def __init__(self, path: Path, cluster: str, window_s: int) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._cluster = cluster
        self._window_s = window_s
        self._filling = False
        kept = [int(entry.name) for entry in path.iterdir() if entry.name.isdecimal()]
        self._generations: dict[int, Table] = {}
        try:
            for begin in kept:
                self._generations[begin] = Table(path / str(begin), cluster)
            self._check_whole()
        except BaseException:
            self.close()
            raise

    @property
    def offset(self) -> int:
        """The changelog offset to go on from."""
        return max((table.offset for table in self._generations.values()), default=0)

    def get(self, key: bytes) -> bytes | None:
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of ``keys``, the newest of each."""
        found: list[bytes | None] = [None] * len(keys)
        missing = list(range(len(keys)))
        for begin in sorted(self._generations, reverse=True):
            if not missing:
                break
            values = self._generations[begin].get_many([keys[i] for i in missing])
            for i, value in zip(missing, values, strict=True):
                found[i] = value
            missing = [i for i in missing if found[i] is None]
        return found

    def write(self, puts: Puts, offset: int, at_s: float) -> None:
        """Puts and the changelog offset to go on from, together, as of ``at_s`` (seconds, epoch)."""
        now = int(at_s)
        newest = max(self._generations, default=None)
        if newest is None or now >= newest + self._window_s:
            if newest is not None:
                self._generations[newest].flush()
            newest = now
            self._generations[now] = Table(self.path / str(now), self._cluster, self._filling)
            puts = {**puts, _EARLIER: self._earlier_than(newest)}
        self._generations[newest].write(puts, offset)
        begins = sorted(self._generations)
        over = [begin for begin, end in itertools.pairwise(begins) if end <= now - self._window_s]
        if over:
            self._drop(over)

    def reopen(self, filling: bool) -> None:
        self._filling = filling
        for table in self._generations.values():
            table.reopen(filling)

    def _drop(self, over: list[int]) -> None:
        dropped = [self._generations.pop(begin) for begin in over]
        newest = max(self._generations)
        table = self._generations[newest]
        table.write({_EARLIER: self._earlier_than(newest)}, table.offset)
        table.flush()  # a crash must not find the list naming what is gone
        for each in dropped:
            each.close()
            shutil.rmtree(each.path)

    def _earlier_than(self, newest: int) -> bytes:
        return b",".join(b"%d" % begin for begin in sorted(self._generations) if begin < newest)

    def _check_whole(self) -> None:
        if not self._generations:
            return
        (listed,) = self._generations[max(self._generations)].get_many([_EARLIER])
        for begin in filter(None, (listed or b"").split(b",")):
            if int(begin) not in self._generations:
                raise StateDamaged(f"the state in {self.path} is not whole: {begin.decode()} is gone")

    def close(self) -> None:
        """Flushes and closes."""
        for table in self._generations.values():
            table.close()


class Store(Protocol):
    """What :func:`recover` brings up to date: a :class:`Table` or a :class:`Window`."""

    path: Path

    @property
    def offset(self) -> int:
        """The changelog offset to go on from."""
        ...

    def reopen(self, filling: bool) -> None:
        """Opens the table again: for many writes (``filling``), or for reads and writes."""
        ...


@contextmanager
def filling(store: Store) -> Iterator[None]:
    """Has ``store`` opened for many writes that hardly a read comes between, and as ever at the end."""
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
