"""Tables: copies in RocksDB of changelog partitions, which hold the authoritative state.

A table is written after the transaction with the changelog record has committed, together with the
changelog offset at which recovery continues. After a crash, missing entries are read from the changelog
from that offset on.

:class:`Window` expires entries by dropping whole databases.
"""

import itertools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from streams.errors import StateDamaged, StateMismatch
from streams.records import layout
from streams.state.rocksdb import Changes, Database, Memory, Puts
from streams.telemetry.worker_metrics import TableSize

_OFFSET = b"\x00offset"
_CLUSTER = b"\x00cluster"
_EARLIER = b"\x00earlier"
_LAYOUT = b"\x00layout"
_DAMAGED = "DAMAGED"

ERASED = b"\x00erased"
"""Not a key of the table: in puts to :class:`Window` it stands for the keys that are erased, which are
concatenated and have :data:`ERASED_KEY_BYTES` each.
"""

ERASED_KEY_BYTES = 17


class Table:
    """A table of bytes by bytes whose entries do not expire.

    Raises ``StateMismatch`` if it belongs to another cluster, and ``StateDamaged`` if RocksDB finds
    its files damaged. A table that a read found damaged is refused at every later opening.
    """

    def __init__(self, path: Path, cluster: str, memory: Memory, filling: bool = False) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        if (path / _DAMAGED).exists():
            raise StateDamaged(f"the state in {path} was found damaged when it was last read")
        self.database = Database(path, memory, filling)
        try:
            self._check(cluster)
        except BaseException:
            self.close()
            raise
        marks = {_LAYOUT: layout.STATE_LAYOUT.mark} if layout.STATE_LAYOUT.written > 1 else {}
        self.database.write({_CLUSTER: cluster.encode(), **marks})

    def _check(self, cluster: str) -> None:
        known, mark = self.database.get_many([_CLUSTER, _LAYOUT])
        if mark is not None:
            layout.STATE_LAYOUT.check_mark(f"the state in {self.path}", mark)
        if known is not None and known != cluster.encode():
            raise StateMismatch(
                f"the state in {self.path} belongs to another Kafka cluster. Move that directory away, "
                "or point ROUNDHOUSE_KAFKA_BOOTSTRAP or ROUNDHOUSE_DATA_DIR back."
            )

    def reopen(self, filling: bool) -> None:
        """Opens the table again, either for bulk writes (``filling``) or for reads and writes."""
        self.database.reopen(filling)

    @property
    def offset(self) -> int:
        """The changelog offset at which recovery continues."""
        [stored] = self.database.get_many([_OFFSET])
        return int.from_bytes(stored, "big") if stored else 0

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of ``keys``."""
        try:
            return self.database.get_many(keys)
        except StateDamaged:
            (self.path / _DAMAGED).touch()
            raise

    def write(self, puts: Puts, offset: int) -> None:
        """Writes puts together with the changelog offset at which recovery continues."""
        self.database.write({**puts, _OFFSET: offset.to_bytes(8, "big")})

    def change(self, changes: Changes, offset: int) -> None:
        """Writes as :meth:`write` does; keys with None are erased, from the files too."""
        if None not in changes.values():
            self.database.write({**changes, _OFFSET: offset.to_bytes(8, "big")})  # type: ignore[dict-item]
            return
        marks = {_OFFSET: offset.to_bytes(8, "big"), _LAYOUT: layout.STATE_LAYOUT.newest_mark}
        self.database.erase({**changes, **marks})

    def entries(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The entries whose keys begin with ``prefix``."""
        return self.database.entries(prefix)

    def size(self) -> TableSize:
        """The size of the table."""
        return self.database.size()

    def flush(self) -> None:
        """Writes all entries to disk."""
        self.database.flush()

    def close(self) -> None:
        """Flushes and closes."""
        self.database.close()


class Window:
    """A table of bytes by bytes whose entries expire between ``window_s`` and twice that after their
    last write.

    Time is divided into generations. Each is a database named after the second in which it begins,
    and ends with the first write ``window_s`` later. Writes go to the newest generation, reads look
    in all of them, and a generation that ended ``window_s`` ago is dropped. ``window_s`` may differ
    from opening to opening.

    The newest generation's offset is valid for all: an earlier generation is flushed before a newer
    one begins, and the newer one lists the existing ones. Raises ``StateDamaged`` if one of them is
    missing.
    """

    def __init__(self, path: Path, cluster: str, window_s: int, memory: Memory) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._cluster = cluster
        self._window_s = window_s
        self._memory = memory
        self._filling = False
        kept = [int(entry.name) for entry in path.iterdir() if entry.name.isdecimal()]
        self._generations: dict[int, Table] = {}
        try:
            for begin in kept:
                self._generations[begin] = Table(path / str(begin), cluster, memory)
            self._check_whole()
        except BaseException:
            self.close()
            raise

    @property
    def offset(self) -> int:
        """The changelog offset at which recovery continues."""
        return max((table.offset for table in self._generations.values()), default=0)

    def get(self, key: bytes) -> bytes | None:
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of ``keys``, the newest of each."""
        found: list[bytes | None] | None = None
        for begin in sorted(self._generations, reverse=True):
            table = self._generations[begin]
            if found is None:
                found = table.get_many(keys)
                continue
            missing = [i for i, value in enumerate(found) if value is None]
            values = table.get_many([keys[i] for i in missing])
            for i, value in zip(missing, values, strict=True):
                found[i] = value
        return [None] * len(keys) if found is None else found

    def write(self, puts: Puts, offset: int, at_s: float) -> None:
        """Writes puts together with the changelog offset at which recovery continues, as of ``at_s``
        (seconds, epoch).
        """
        if ERASED in puts:
            gone = self._erase(puts[ERASED])
            puts = {key: value for key, value in puts.items() if key != ERASED and key not in gone}
        now = int(at_s)
        newest = max(self._generations, default=None)
        if newest is None or now >= newest + self._window_s:
            if newest is not None:
                self._generations[newest].flush()
            newest = now
            self._generations[now] = Table(
                self.path / str(now), self._cluster, self._memory, self._filling
            )
            puts = {**puts, _EARLIER: self._earlier_than(newest)}
        self._generations[newest].write(puts, offset)
        begins = sorted(self._generations)
        over = [begin for begin, end in itertools.pairwise(begins) if end <= now - self._window_s]
        if over:
            self._drop(over)

    def _erase(self, concatenated: bytes) -> dict[bytes, None]:
        """Erases keys from all generations, and returns them. After a crash before the changelog's
        offset is written, it is repeated.
        """
        starts = range(0, len(concatenated), ERASED_KEY_BYTES)
        gone = {concatenated[at : at + ERASED_KEY_BYTES]: None for at in starts}
        for table in self._generations.values():
            if any(value is not None for value in table.get_many(list(gone))):
                table.change(gone, table.offset)
        return gone

    def entries(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The entries of all generations whose keys begin with ``prefix``, also those that later
        generations replace.
        """
        for table in self._generations.values():
            yield from table.entries(prefix)

    def size(self) -> TableSize:
        """The size of all generations together."""
        sizes = [table.size() for table in self._generations.values()]
        return TableSize(*map(sum, zip(*sizes, strict=True))) if sizes else TableSize(0, 0, 0)

    def reopen(self, filling: bool) -> None:
        """Opens all generations again, for bulk writes (``filling``) or for reads and writes."""
        self._filling = filling
        for table in self._generations.values():
            table.reopen(filling)

    def _drop(self, over: list[int]) -> None:
        dropped = [self._generations.pop(begin) for begin in over]
        newest = max(self._generations)
        table = self._generations[newest]
        table.write({_EARLIER: self._earlier_than(newest)}, table.offset)
        table.flush()  # after a crash the list must not name a generation that was removed
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

    def compact(self) -> None:
        """Merges the files of each generation. For benchmarks and tests."""
        for table in self._generations.values():
            table.database.compact()
