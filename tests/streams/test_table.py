"""What a table keeps, and when a window forgets."""

from pathlib import Path

import pytest

from streams.errors import StateMismatch
from streams.table import Table, Window

WEEK = 7 * 86_400


def test_a_table_that_is_opened_again_and_compacted_keeps_everything(tmp_path: Path) -> None:
    for n in range(12):  # every fourth flush is compacted
        table = Table(tmp_path, "cluster")
        assert table.offset == n
        table.write({b"key-%d" % n: b"value-%d" % n, b"shared": b"%d" % n}, n + 1, 0.0)
        table.close()
    table = Table(tmp_path, "cluster")
    table._db.compact_range(None, None)
    assert table.get_many([b"key-%d" % n for n in range(12)]) == [b"value-%d" % n for n in range(12)]
    assert table.get_many([b"shared", b"unknown"]) == [b"11", None]
    table.close()
    with pytest.raises(StateMismatch):
        Table(tmp_path, "another")


def test_a_window_remembers_for_at_least_its_length_and_forgets_after_twice_that(
    tmp_path: Path,
) -> None:
    #   generation:  |0          |1          |2
    #   written:            a          b       (c)
    window = Window(tmp_path, "cluster", WEEK)
    window.write({b"a": b"1", b"both": b"1"}, 1, WEEK - 1)
    window.write({b"b": b"1", b"both": b"2"}, 2, 2 * WEEK - 2)
    assert window.get_many([b"a", b"b", b"both", b"c"]) == [b"1", b"1", b"2", None]
    window.close()

    window = Window(tmp_path, "cluster", WEEK)
    assert window.get(b"a") == b"1"
    assert window.offset == 2
    window.write({b"c": b"1"}, 3, 2 * WEEK)
    assert window.get_many([b"a", b"b", b"both", b"c"]) == [None, b"1", b"2", b"1"]
    assert {entry.name for entry in tmp_path.iterdir()} == {"1", "2"}
    window.close()


def test_a_clock_that_goes_back_hides_nothing(tmp_path: Path) -> None:
    window = Window(tmp_path, "cluster", WEEK)
    window.write({b"a": b"new"}, 1, 5 * WEEK)
    window.write({b"a": b"newer"}, 2, 1 * WEEK)
    assert (window.get(b"a"), window.offset) == (b"newer", 2)
    window.close()
