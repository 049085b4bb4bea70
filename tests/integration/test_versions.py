"""One version of Roundhouse reads the records of another, or its error names the version to deploy."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from io import BytesIO
from typing import Any

import pytest
from fastavro import schemaless_reader
from msgspec.structs import replace

from streams.core.event import Kind
from streams.core.round import Round
from streams.errors import NewerVersion
from streams.kafka.clients import idempotent_producer
from streams.kafka.schemas import learned, publish
from streams.records import layout
from streams.records.staged_chunk import (
    CONTENTS,
    PARTITIONS,
    Group,
    PackedItem,
    StagedItem,
    StagedRecord,
    content_header,
    encode_chunk,
    groups_of,
    pack,
    pack_item,
)
from streams.records.topics import SCHEMAS
from streams.settings import Settings
from streams.wire.avro import frame, unframe
from streams.wire.contracts import Schema, published, schema
from tests import line as memory
from tests.integration.test_line import P1, Line, decoded, read
from tests.line import FRAMES, bet

in_memory = pytest.mark.parametrize("settings", ["memory"], indirect=True)

NEWER = {kind.contract: 1000 + kind for kind in (Kind.GAME_TRANSACTION, Kind.PLAYER)}
"""The schema ids of contracts in a newer version, which has one more field at the end."""


def newer_schema(contract: str) -> Schema:
    grown = deepcopy(schema(contract))
    grown["fields"].append(
        {"name": "channel", "type": ["null", "string"], "default": None, "doc": "New."}
    )
    return grown


def publish_newer(settings: Settings) -> None:
    producer = idempotent_producer(settings)
    for contract, number in NEWER.items():
        text = json.dumps(newer_schema(contract))
        producer.produce(settings.topic_prefix + SCHEMAS, text, b"%d" % number, partition=0)
    producer.flush()


def by_newer(record: StagedRecord, channel: bytes) -> StagedRecord:
    """The staged record as a newer version's translate stage would have written it."""
    groups = [
        pack((group.raw_partition, group.raw_offset, group.part), group.batch, _grown(group, channel))
        for group in groups_of(unframe(record.value), memory.CONTENTS)
    ]
    frames = FRAMES | {contract: frame(number) for contract, number in NEWER.items()}
    value = FRAMES["staged-chunk"] + encode_chunk(groups)
    return record._replace(value=value, headers=[content_header(frames)])


def _grown(group: Group, channel: bytes) -> list[PackedItem]:
    items = [
        StagedItem(*(getattr(item, field) for field in StagedItem.__struct_fields__))
        for item in group.items
    ]
    return [
        pack_item(replace(item, contents=[content + channel for content in item.contents]))
        if item.kind.contract in NEWER
        else pack_item(item)
        for item in items
    ]


PLAYER = {
    "unique_id": "u",
    "timestamp": "2026-03-14T12:00:00Z",
    "player_id": "p-1",
    "country": "FI",
}
ABSENT, MOBILE = b"\x00", b"\x02\x0cmobile"


@in_memory
def test_what_a_newer_translate_staged_is_sent_on_as_it_was_written(settings: Settings) -> None:
    line = Line(settings)
    publish_newer(settings)
    line.post([{"event": "player", "data": PLAYER}, bet("b", 2), bet("b", 3)])
    line.translate(line.raw())
    with line.owned() as owned:
        owned.apply([by_newer(record, MOBILE) for record in line.staged()])

    [sent] = read(settings, Kind.GAME_TRANSACTION.topic, P1)
    value = sent.value() or b""
    assert value[:5] == frame(NEWER["game-transaction"])
    whole = _reading_all(newer_schema("game-transaction"))(unframe(value))
    assert (whole["event_id"], whole["channel"]) == ("b", "mobile")
    [round_] = decoded(settings, "rounds", "round")
    assert round_["player_country"] == "FI", "the profile in a newer contract was not read"
    [reject] = decoded(settings, "rejects", "reject")
    assert json.loads(reject["payload"])["amount"] == "3." + 18 * "0"


def _reading_all(writer: Schema) -> Any:
    """A reader of all fields of a schema, also of those that today's schema does not have."""
    return lambda datum: schemaless_reader(BytesIO(datum), writer, None)


@in_memory
def test_contents_of_a_version_that_nobody_knows_stop_the_stage_and_change_nothing(
    settings: Settings,
) -> None:
    line = Line(settings)
    line.post([bet("b")])
    line.translate(line.raw())
    with line.owned() as owned, pytest.raises(NewerVersion, match=r"schema id 1000.*Deploy"):
        owned.apply([by_newer(record, ABSENT) for record in line.staged()])
    assert _kinds(settings) == []
    publish_newer(settings)
    with line.owned() as owned:
        owned.apply([by_newer(record, ABSENT) for record in line.staged()])
    assert _kinds(settings) == [frame(NEWER["game-transaction"])]


def _kinds(settings: Settings) -> Sequence[bytes]:
    found = read(settings, Kind.GAME_TRANSACTION.topic, P1)
    return [(message.value() or b"")[:5] for message in found]


@in_memory
def test_what_0_1_0_staged_names_no_contracts_and_is_read(settings: Settings) -> None:
    line = Line(settings)
    line.post([bet("b")])
    line.translate(line.raw())
    staged = line.staged()
    assert all(dict(record.headers).keys() == {CONTENTS, PARTITIONS} for record in staged)
    with line.owned() as owned:
        owned.apply([record._replace(headers=()) for record in staged])
    assert _kinds(settings) == [FRAMES["game-transaction"]]


@in_memory
def test_a_broken_record_of_another_version_is_never_refused(settings: Settings) -> None:
    line = Line(settings)
    publish_newer(settings)
    line.post([bet("b")])
    line.translate(line.raw())
    [record] = line.staged()
    strange = by_newer(record, ABSENT)._replace(value=FRAMES["staged-chunk"] + b"\x02strange")
    with line.owned() as owned, pytest.raises(NewerVersion, match="another version"):
        owned.apply([strange])
    assert read(settings, "rejects", P1) == []


# Layouts -------------------------------------------------------------------------------------


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> "NewerRelease":
    return NewerRelease(monkeypatch)


class NewerRelease:
    """Within the block, the code is that of a newer release, which writes newer layouts."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    @contextmanager
    def deployed(self) -> Iterator[None]:
        with self._patch.context() as patch:
            for name in ("RAW_LAYOUT", "STAGED_LAYOUT", "STATE_LAYOUT"):
                known = getattr(layout, name)
                newer = known._replace(written=known.newest + 1, newest=known.newest + 1)
                patch.setattr(layout, name, newer)
            yield


REFUSED = r"has layout [23] of .*written by Roundhouse .*reads layouts up to [12].*Deploy Roundhouse"


@in_memory
def test_a_raw_record_of_a_newer_layout_stops_it(settings: Settings, newer: NewerRelease) -> None:
    line = Line(settings)
    with newer.deployed():
        line.post([bet("b")])
    with pytest.raises(NewerVersion, match=r"raw\.batches\[.\] at offset 0 " + REFUSED):
        line.translate(line.raw())
    assert [line.staged(partition) for partition in range(4)] == [[]] * 4
    assert read(settings, "rejects", *range(4)) == []
    with newer.deployed():
        Line(settings).translate(line.raw())
    assert len(line.staged()) == 1


@in_memory
def test_a_staged_record_of_a_newer_layout_stops_it(settings: Settings, newer: NewerRelease) -> None:
    line = Line(settings)
    line.post([bet("b")])
    with newer.deployed():
        Line(settings).translate(line.raw())
    with (
        line.owned() as owned,
        pytest.raises(NewerVersion, match=r"staged.* at offset 0 " + REFUSED),
    ):
        owned.apply(line.staged())
    assert _kinds(settings) == []
    assert read(settings, "rejects", P1) == []


@in_memory
def test_state_of_a_newer_layout_is_refused_and_left_as_it_is(
    settings: Settings, newer: NewerRelease
) -> None:
    #   layout 1 applies b1 ---- layout 2 goes on with b2 ---- layout 1 refuses ---- layout 2 goes on
    line = Line(settings)
    for number in (1, 2, 3):
        line.post([bet(f"b{number}")])
        Line(settings).translate([record for record in line.raw() if record.offset >= number - 1][:1])
    staged = line.staged()
    assert len(staged) == 3
    with line.owned() as owned:
        owned.apply(staged[:1])
    with newer.deployed(), line.owned() as owned:
        owned.apply(staged[:2])
    with pytest.raises(NewerVersion, match="the state in .*" + REFUSED):
        line.opened()
    with pytest.raises(NewerVersion, match=r"state\.window\[.\] at offset . " + REFUSED):
        line.opened(worker="without-state")
    with newer.deployed(), line.owned() as owned:
        owned.apply(staged)
    with newer.deployed(), line.owned(worker="without-state") as owned:
        assert owned.expected == 3
    assert [round_["bet_count"] for round_ in decoded(settings, "rounds", "round")] == [1, 2, 3]


@in_memory
def test_state_in_newer_contracts_is_read_from_table_and_changelog(
    settings: Settings,
) -> None:
    numbers = {"profile": 1013, "window-changes": 1012}
    producer = idempotent_producer(settings)
    for contract, number in numbers.items():
        text = json.dumps(schema(contract))
        producer.produce(settings.topic_prefix + SCHEMAS, text, b"%d" % number, partition=0)
    producer.flush()
    older = Line(settings)
    newer = Line(settings, FRAMES | {name: frame(number) for name, number in numbers.items()})
    older.post([{"event": "player", "data": PLAYER}, bet("b1")])
    older.translate(older.raw())
    with newer.owned() as owned:
        owned.apply(older.staged())
        position = owned.position
    for worker in ("w", "without-state"):
        with older.owned(worker=worker) as owned:
            assert owned.position == position
            assert [profile is not None for profile in owned.reader.profiles(["player|acme|p-1"])] == [
                True
            ]


def test_what_stands_in_state_and_staged_items_is_that_of_their_layouts() -> None:
    """Other fields need another layout: an older worker would drop them when it rewrites a round.

    The 28th field of a round is the exception: without it the time of the first bet is unknown."""
    fields = {1: (28, 8)}
    found = len(Round.__struct_fields__), len(StagedItem.__struct_fields__)
    assert found == fields[layout.STATE_LAYOUT.written]


READ_BY = {"0.1.0": 1}
"""The newest layouts that each release reads."""


def test_what_is_written_can_be_read_by_the_release_before() -> None:
    *_, last = READ_BY.values()
    assert (
        max(layout.RAW_LAYOUT.written, layout.STAGED_LAYOUT.written, layout.STATE_LAYOUT.written)
        <= last
    )


@in_memory
def test_schemas_are_published_once_and_can_be_learned(settings: Settings) -> None:
    publish(settings)
    publish(settings)
    assert len(read(settings, SCHEMAS, 0)) == len(published())
    for version in published():
        text = learned(settings)[version.schema_id]
        assert json.loads(text) == version.schema
