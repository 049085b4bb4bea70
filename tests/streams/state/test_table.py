"""The entries that a table keeps, and the time at which a window forgets its ids."""

import shutil
from pathlib import Path

import pytest

from streams.errors import NewerVersion, StateDamaged, StateMismatch
from streams.records import layout
from streams.state.recovery import filling
from streams.state.rocksdb import Memory
from streams.state.table import ERASED, Table, Window

WEEK = 7 * 86_400
MEMORY = Memory()


def test_a_table_that_is_opened_again_and_compacted_keeps_everything(tmp_path: Path) -> None:
    for n in range(12):  # every fourth flush is compacted
        table = Table(tmp_path, "cluster", MEMORY)
        assert table.offset == n
        table.write({b"key-%d" % n: b"value-%d" % n, b"shared": b"%d" % n}, n + 1)
        table.close()
    table = Table(tmp_path, "cluster", MEMORY)
    table.database.compact()
    assert table.get_many([b"key-%d" % n for n in range(12)]) == [b"value-%d" % n for n in range(12)]
    assert table.get_many([b"shared", b"unknown"]) == [b"11", None]
    table.close()
    with pytest.raises(StateMismatch):
        Table(tmp_path, "another", MEMORY)


def test_the_tables_of_64_partitions_share_the_write_buffers_without_a_file_for_each_write(
    tmp_path: Path,
) -> None:
    memory = Memory()
    tables = [Table(tmp_path / str(n), "cluster", memory) for n in range(2 * 64)]
    for offset in range(3):
        for table in tables:
            table.write({b"%d-%d" % (offset, n): bytes(100) for n in range(600)}, offset)
    assert sum(table.size().keys for table in tables) > 100_000  # RocksDB has most of them
    assert sum(table.size().file_bytes for table in tables) == 0
    for table in tables:
        table.close()


def test_writes_are_read_at_once_and_a_crash_keeps_all_up_to_one_of_them(tmp_path: Path) -> None:
    table = Table(tmp_path / "table", "cluster", Memory())
    newest: dict[bytes, bytes] = {}
    for offset in range(1, 101):
        puts = {b"%d" % (offset * 400 + n): b"%d" % offset for n in range(1_000)}
        newest |= puts
        table.write(puts, offset)
        keys = [b"%d" % (offset * 400 + n * 50 - 3_000) for n in range(100)]
        assert table.get_many(keys) == [newest.get(key) for key in keys]
    assert table.offset == 100
    table.database._db.flush(True)  # what a memtable does when it is full
    found = Table(crash_image(tmp_path / "table", tmp_path / "crashed"), "cluster", MEMORY)
    assert 50 < found.offset < 100
    for offset in range(1, 101):
        key = b"%d" % (offset * 400)  # of this write and the two before it
        newest_kept = b"%d" % min(offset, found.offset) if offset <= found.offset + 2 else None
        assert found.get_many([key]) == [newest_kept]
    found.close()
    table.close()


def test_no_writes_wait_in_memory_without_bound(tmp_path: Path) -> None:
    memory = Memory()
    tables = [Table(tmp_path / str(n), "cluster", memory) for n in range(12)]
    for offset in range(8):
        for table in tables:
            table.write({b"%d-%d" % (offset, n): b"" for n in range(2_000)}, offset)
            assert sum(len(table.database._gathered) for table in tables) < 70_000
    for table in tables:
        table.close()
    assert not memory.open


def test_a_window_remembers_for_at_least_its_length_and_forgets_after_twice_that(
    tmp_path: Path,
) -> None:
    #   generation:  |100                |100 + week         |100 + 2 weeks
    #   written:      a             b    c                    d
    window = Window(tmp_path, "cluster", WEEK, MEMORY)
    window.write({b"a": b"1", b"both": b"1"}, 1, 100)
    window.write({b"b": b"1"}, 2, 99 + WEEK)
    window.write({b"c": b"1", b"both": b"2"}, 3, 100 + WEEK)
    assert window.get_many([b"a", b"b", b"c", b"both", b"d"]) == [b"1", b"1", b"1", b"2", None]
    window.close()

    window = Window(tmp_path, "cluster", WEEK, MEMORY)
    assert (window.get(b"a"), window.offset) == (b"1", 3)
    window.write({b"e": b"1"}, 4, 98 + 2 * WEEK)
    assert window.get(b"b") == b"1"  # a second younger than the window
    window.write({b"d": b"1"}, 5, 100 + 2 * WEEK)
    assert window.get_many([b"a", b"b", b"c", b"both", b"d"]) == [None, None, b"1", b"2", b"1"]
    assert {entry.name for entry in tmp_path.iterdir()} == {str(100 + WEEK), str(100 + 2 * WEEK)}
    window.close()


def test_a_longer_or_shorter_window_forgets_nothing_too_early(tmp_path: Path) -> None:
    for days, at_days, known in [(7, 10, []), (35, 20, [b"10"]), (14, 30, [b"20"])]:
        window = Window(tmp_path, "cluster", days * 86_400, MEMORY)
        window.write({b"%d" % at_days: b"x"}, 1, at_days * 86_400)
        assert [window.get(key) for key in known] == [b"x"] * len(known)
        window.close()


def test_what_is_filled_in_is_there_afterwards_the_newest_of_each_key(tmp_path: Path) -> None:
    window = Window(tmp_path / "window", "cluster", WEEK, MEMORY)
    window.write({b"before": b"1", b"both": b"1"}, 1, 100)
    keys = [b"%d" % (n * 7919 % 200_000) for n in range(200_000)]  # not in sorted order
    with filling(window):
        for n, start in enumerate(range(0, len(keys), 10_000), 2):
            window.write({key: key * 20 for key in keys[start : start + 10_000]}, n, 200 + WEEK)
        window.write({b"both": b"2", b"17": b"new"}, 99, 200 + WEEK)
    for _ in range(2):
        asked = [b"before", b"both", b"17", *keys[:100], keys[-1], b"unknown"]
        found = [b"1", b"2", b"new", *[key * 20 for key in keys[:100]], keys[-1] * 20, None]
        assert (window.get_many(asked), window.offset) == (found, 99)
        window.write({b"after": b"1"}, 99, 300 + WEEK)
        window.close()
        window = Window(tmp_path / "window", "cluster", WEEK, MEMORY)
    assert window.get(b"after") == b"1"
    window.close()


def test_a_clock_that_goes_back_hides_nothing(tmp_path: Path) -> None:
    window = Window(tmp_path, "cluster", WEEK, MEMORY)
    window.write({b"a": b"new"}, 1, 5 * WEEK)
    window.write({b"a": b"newer"}, 2, 1 * WEEK)
    assert (window.get(b"a"), window.offset) == (b"newer", 2)
    window.close()


def crash_image(path: Path, to: Path) -> Path:
    """A copy of the files that a process killed now would leave on the disk."""
    shutil.copytree(path, to)
    return to


def test_a_crash_after_a_new_generation_reached_the_disk_loses_nothing_of_the_one_before(
    tmp_path: Path,
) -> None:
    window = Window(tmp_path / "window", "cluster", WEEK, MEMORY)
    window.write({b"a": b"1"}, 1, 100)
    window.write({b"b": b"1"}, 2, 100 + WEEK)
    window._generations[100 + WEEK].flush()
    found = Window(crash_image(tmp_path / "window", tmp_path / "crashed"), "cluster", WEEK, MEMORY)
    assert (found.offset, found.get_many([b"a", b"b"])) == (2, [b"1", b"1"])
    found.close()
    window.close()


def test_a_window_that_lost_a_generation_is_damaged_and_one_that_dropped_it_is_not(
    tmp_path: Path,
) -> None:
    window = Window(tmp_path / "window", "cluster", WEEK, MEMORY)
    for n in range(3):
        window.write({b"%d" % n: b"1"}, n, 100 + n * WEEK)
    crashed = crash_image(tmp_path / "window", tmp_path / "crashed")
    window.close()
    found = Window(crashed, "cluster", WEEK, MEMORY)
    assert found.get_many([b"0", b"1", b"2"]) in ([None, b"1", b"1"], [None, b"1", None])
    found.close()

    shutil.rmtree(tmp_path / "window" / str(100 + WEEK))
    with pytest.raises(StateDamaged, match="is gone"):
        Window(tmp_path / "window", "cluster", WEEK, MEMORY)


@pytest.mark.parametrize("harm", ["truncated", "flipped", "deleted"])
def test_damaged_files_are_noticed_when_opened_or_read_and_from_then_on(
    harm: str, tmp_path: Path
) -> None:
    keys = [b"key-%05d" % n for n in range(20_000)]
    table = Table(tmp_path, "cluster", MEMORY)
    table.write({key: key * 10 for key in keys}, 1)
    table.close()
    (file,) = tmp_path.glob("*.sst")
    content = bytearray(file.read_bytes())
    file.unlink()
    if harm != "deleted":
        content[len(content) // 3] ^= 0xFF
        file.write_bytes(content if harm == "flipped" else content[: len(content) // 2])

    def read() -> None:
        table = Table(tmp_path, "cluster", MEMORY)
        try:
            table.get_many(keys)
        finally:
            table.close()

    with pytest.raises(StateDamaged):
        read()
    with pytest.raises(StateDamaged):
        Table(tmp_path, "cluster", MEMORY)


def test_a_table_that_is_opened_again_has_its_filters_and_the_shared_cache(tmp_path: Path) -> None:
    for number in range(3):
        table = Table(tmp_path, "cluster", MEMORY)
        table.write({b"%d" % number: b"value"}, number)
        table.flush()
        options = max(tmp_path.glob("OPTIONS-*")).read_text()
        assert "filter_policy=bloomfilter" in options
        assert "memtable_whole_key_filtering=true" in options
        assert table.database._db.property_int_value("rocksdb.block-cache-capacity") == 128 << 20
        table.close()


def test_what_is_erased_from_a_window_is_in_no_file_of_any_generation(tmp_path: Path) -> None:
    kept, gone = b"k" * 17, [b"a" * 17, b"b" * 17, b"c" * 17]
    window = Window(tmp_path, "cluster", WEEK, MEMORY)
    window.write({gone[0]: b"of a player", kept: b"of another"}, 1, 100)
    window.write({gone[0]: b"of a player", gone[1]: b"of a player"}, 2, 100 + WEEK)
    window.close()
    assert b"of a player" in files(tmp_path / "100")
    assert b"of a player" in files(tmp_path / str(100 + WEEK))

    window = Window(tmp_path, "cluster", WEEK, MEMORY)
    window.write({gone[2]: b"of a player", ERASED: b"".join(gone), b"new": b"1"}, 3, 101 + WEEK)
    assert window.get_many([*gone, kept, b"new"]) == [None, None, None, b"of another", b"1"]
    assert window.offset == 3
    window.close()
    assert b"of a player" not in files(tmp_path)
    assert b"of another" in files(tmp_path)


def test_a_table_with_an_erased_key_is_marked_so_that_an_older_release_stops(tmp_path: Path) -> None:
    table = Table(tmp_path, "cluster", MEMORY)
    table.write({b"player": b"name"}, 1)
    table.change({b"player": None, b"mark": b""}, 2)
    assert (table.get_many([b"player", b"mark"]), table.offset) == ([None, b""], 2)
    [mark] = table.get_many([b"\x00layout"])
    assert mark is not None
    with pytest.raises(NewerVersion):
        layout.STATE_LAYOUT._replace(newest=1).check_mark("the state", mark)
    table.close()


def files(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())
