"""The records that a partition writes to its changelog."""

import os

from streams.kafka.schemas import Schemas
from streams.settings import Settings
from streams.state.changelog import Position, StateCodec, changelog_records
from streams.wire.avro import codec
from tests.line import FRAMES


def test_puts_of_a_large_chunk_go_into_several_records_with_the_position_in_the_last() -> None:
    puts = {os.urandom(17): os.urandom(150) for _ in range(20_000)}
    position = Position(41, {2: (7, 1)})
    records = changelog_records(puts, position)
    assert 4 < len(records) < 10
    assert max(map(len, records)) < 800_000
    assert [codec("window-changes").decode(record)["position"] for record in records] == [
        *[None] * (len(records) - 1),
        position.record(),
    ]
    frame, state = FRAMES["window-changes"], StateCodec(Schemas(Settings(), FRAMES))
    recovered: dict[bytes, bytes] = {}
    for record in records:
        recovered |= state.window_puts(None, frame + record)
    assert {key: value for key, value in recovered.items() if key != b"\x00position"} == puts


def test_a_record_without_puts_carries_the_position() -> None:
    [record] = changelog_records({}, Position(3, {}))
    assert codec("window-changes").decode(record)["position"]["staged_offset"] == 3


def test_segments_of_a_child_go_on_where_those_of_its_parent_end() -> None:
    parent = Position(41, {2: (7, 1)})
    child = parent.of_child()
    assert (parent.first_segment, child.staged_offset, child.first_segment) == (0, -1, 42)
    assert child.raw[2] == (7, 1)  # the child has its parent's positions in raw partitions
    grandchild = Position(9, child.raw).of_child()
    assert grandchild.first_segment == 52
    assert Position.of(grandchild.record()) == grandchild
