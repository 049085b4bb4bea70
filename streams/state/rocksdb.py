"""The adapter to RocksDB through rocksdict: a database of bytes by bytes with bounded memory.

rocksdict 0.3.29 has three properties that this module works around, each held by a test:

- Errors are plain exceptions; damage is told from a full disk or a held lock by their text.
- A database that exists is opened with the options in its files for every column family that is not
  named, also ``default``: filters, cache and write buffers would be lost.
- A database that is opened ``with_ttl`` a second time loses *all* its entries at the next compaction,
  so RocksDB's time to live is not used.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

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

from streams.errors import StateDamaged
from streams.telemetry.worker_metrics import MemoryUsage, TableSize

Puts = Mapping[bytes, bytes]

Changes = Mapping[bytes, bytes | None]
"""Puts, and the keys to delete with None."""

_SIZES = (
    "rocksdb.estimate-num-keys",
    "rocksdb.total-sst-files-size",
    "rocksdb.estimate-table-readers-mem",
)
"""RocksDB's properties, in the order of the fields of ``TableSize``."""

_CACHE_BYTES = 128 << 20
_WRITE_BUFFERS_BYTES = 64 << 20
_WRITE_BUFFER_BYTES = 16 << 20
_ARENA_BLOCK_BYTES = 64 << 10
_FILTER_BITS = 14
"""Bits of a file's filter for each key. A lookup asks the filters of six files and more, and most keys
are new. Each wrong answer reads a block, mostly one that has left the operating system's cache: one
answer in five hundred is wrong, and with 10 bits one in a hundred.
"""
_MEMTABLE_FILTER_SHARE = 0.01
"""The filter of an empty memtable, as a share of a write buffer. It has to be small, like the block in
which a memtable allocates: 64 partitions have 128 memtables or more, whose filters and blocks count
towards the limit of all write buffers. When they reach it, each write is flushed to a file of its own.
"""
_FILLING_BUFFER_BYTES = 4 << 20
_BACKGROUND_JOBS = 8
"""Threads that all databases share; a quarter of them may flush. A merge takes minutes, and with one
thread those of the other partitions would wait for it.
"""
_MERGED_BYTES_PER_S = 64 << 20
"""Most that merges and flushes write. RocksDB begins with half of it and adapts the limit to the
demand, down to a twentieth. Without a limit the largest files, of all partitions at about the same
time, are merged as fast as the processors permit.
"""
MERGED_FILES = 8
"""RocksDB merges when it has so many sorted files. With its default of 4 there are more merges, each of
fewer files, and a lookup asks the filters of fewer files.
"""
_SLOW_FILES, _STOP_FILES = 64, 128
"""Numbers of files at which RocksDB slows writes down, and stops them. With its defaults, 20 and 36,
writes stopped for up to 14 s while a large merge went on; each file costs a lookup one filter.
"""
_REFILL_US, _FAIRNESS = 100_000, 10
"""RocksDB's defaults for the limit."""
_GATHERED_MAX, _ALL_GATHERED_MAX = 16_384, 65_536
"""Entries of a database, and of all databases of a process, at which a database hands what it has
gathered to RocksDB. A memtable is a list in the order of keys. Few entries visit distant parts of it,
each from its beginning; many, sorted, visit it in its order.
"""

_CACHE = re.compile(r"^rocksdb\.block\.cache\.(hit|miss) COUNT : (\d+)$", re.MULTILINE)
"""Pattern of a counter in the text of RocksDB's statistics."""


class Memory:
    """The block cache and the write buffers that all databases of a process share.

    Write buffers count towards the cache, so one limit holds for both. The statistics are shared
    too; they belong to the options, so each kind of options is made once.
    """

    def __init__(self) -> None:
        self.cache = Cache(_CACHE_BYTES)
        self.write_buffers = WriteBufferManager.new_write_buffer_manager_with_cache(
            _WRITE_BUFFERS_BYTES, False, self.cache
        )
        self.options = {filling: _options(self, filling) for filling in (False, True)}
        self.unlimited = _options(self, filling=False, limited=False)
        self.options[False].enable_statistics()
        self.open: list[Database] = []
        """The databases that are open."""

    def usage(self) -> MemoryUsage:
        """Bytes in use, and the counts of cache hits and misses so far."""
        found = _CACHE.findall(self.options[False].get_statistics() or "")
        counts = {name: int(count) for name, count in found}
        return MemoryUsage(self.cache.get_usage(), counts.get("hit", 0), counts.get("miss", 0))


class Database:
    """A RocksDB database without a write-ahead log: a crash loses what was not flushed.

    It gathers writes and hands many of them to RocksDB at once. A crash keeps all writes up to one of
    them or, if the files are older, up to an earlier one.

    Opening and reading raise ``StateDamaged`` if RocksDB finds the files damaged or missing.
    """

    def __init__(self, path: Path, memory: Memory, filling: bool) -> None:
        """``filling`` selects options for bulk writes with few reads."""
        self._path = path
        self._memory = memory
        self._filling = filling
        self._db = self._opened(memory.options[filling])
        self._gathered: dict[bytes, bytes] = {}
        memory.open.append(self)
        self._unlogged = WriteOptions()
        self._unlogged.disable_wal = True  # type: ignore[method-assign,assignment]  # a property

    def _opened(self, options: Options) -> Rdict:
        try:
            return Rdict(str(self._path), options, {"default": options})
        except Exception as error:  # rocksdict raises no narrower class
            raise self._named(error) from None

    def reopen(self, filling: bool) -> None:
        """Flushes, closes and opens again, for ``filling`` or for reads and writes."""
        self._filling = filling
        self._open_again(self._memory.options[filling])

    def _open_again(self, options: Options) -> None:
        self.flush()  # an error of the flush is raised here; closing might hide it
        self._db.close()
        self._db = self._opened(options)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of ``keys``."""
        found = list(map(self._gathered.get, keys))
        missing = [key for key, value in zip(keys, found, strict=True) if value is None]
        if not missing:
            return found
        try:
            stored = iter(self._db.get(missing) or ())  # type: ignore[arg-type]  # lists are invariant
        except Exception as error:
            raise self._named(error) from None
        return [next(stored) if value is None else value for value in found]

    def write(self, puts: Puts) -> None:
        """Writes all puts or none of them."""
        self._gathered.update(puts)
        if (
            self._filling
            or len(self._gathered) >= _GATHERED_MAX
            or sum(len(each._gathered) for each in self._memory.open) >= _ALL_GATHERED_MAX
        ):
            self._hand_over()

    def _hand_over(self) -> None:
        if not self._gathered:
            return
        batch = WriteBatch(raw_mode=True)
        # the memtable for filling sorts by itself
        for key in self._gathered if self._filling else sorted(self._gathered):
            batch.put(key, self._gathered[key])
        self._db.write(batch, self._unlogged)
        self._gathered.clear()

    def erase(self, changes: Changes) -> None:
        """Writes puts and deletes keys, all or none of them, and removes the deleted entries, and older
        values, from the files.

        Opening the database again begins a new manifest: the old one names keys too.
        """
        self._hand_over()
        batch = WriteBatch(raw_mode=True)
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        self._db.write(batch, self._unlogged)
        self._open_again(self._memory.unlimited)  # the partition waits for the merge
        self.compact()
        self.reopen(self._filling)

    def entries(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The entries whose keys begin with ``prefix``, in the order of their keys."""
        self._hand_over()
        for key, value in self._db.items(from_key=prefix):
            assert isinstance(key, bytes)
            if not key.startswith(prefix):
                return
            yield key, value

    def size(self) -> TableSize:
        """The size of the database."""
        return TableSize(*(self._db.property_int_value(name) or 0 for name in _SIZES))

    def flush(self) -> None:
        """Writes all entries to files."""
        self._hand_over()
        self._db.flush(True)

    def compact(self) -> None:
        """Merges all files into one, without deleted entries."""
        self.flush()
        self._db.compact_range(None, None)

    def close(self) -> None:
        """Flushes and closes; a second call has no effect."""
        with suppress(DbClosedError):
            try:
                self._hand_over()
            finally:
                self._db.close()
                self._memory.open.remove(self)

    def _named(self, error: Exception) -> Exception:
        text = str(error)
        if "Corruption" in text or "No such file" in text:
            return StateDamaged(f"the state in {self._path} is damaged: {error}")
        return error


def _options(memory: Memory, filling: bool, limited: bool = True) -> Options:
    blocks = BlockBasedOptions()
    blocks.set_bloom_filter(_FILTER_BITS, False)
    blocks.set_block_cache(memory.cache)
    # Filters are kept with their files. In the cache, one larger than a shard (2 MB) does not fit and
    # is read from the file again for every few keys: 10 us a key, not 1.
    blocks.set_cache_index_and_filter_blocks(False)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_manager(memory.write_buffers)
    options.set_compaction_style(DBCompactionStyle.universal())
    options.set_keep_log_file_num(2)
    options.set_max_background_jobs(_BACKGROUND_JOBS)
    if filling:
        # writes only append; RocksDB's threads sort at the flush, whereas each read would sort
        options.set_memtable_factory(MemtableFactory.vector())
        options.set_allow_concurrent_memtable_write(False)
        options.set_write_buffer_size(_FILLING_BUFFER_BYTES)
        options.set_max_write_buffer_number(_WRITE_BUFFERS_BYTES // _FILLING_BUFFER_BYTES)
        options.set_compression_type(DBCompressionType.none())  # merging compresses, later
        options.set_level_zero_file_num_compaction_trigger(16)
    else:
        options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
        options.set_memtable_whole_key_filtering(True)
        # most keys asked for are new
        options.set_memtable_prefix_bloom_ratio(_MEMTABLE_FILTER_SHARE)
        options.set_arena_block_size(_ARENA_BLOCK_BYTES)
        options.set_level_zero_file_num_compaction_trigger(MERGED_FILES)
        options.set_level_zero_slowdown_writes_trigger(_SLOW_FILES)
        options.set_level_zero_stop_writes_trigger(_STOP_FILES)
        if limited:
            options.set_auto_tuned_ratelimiter(_MERGED_BYTES_PER_S, _REFILL_US, _FAIRNESS)
    return options
