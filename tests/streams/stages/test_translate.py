"""Translation of a raw record to staged groups: parts, headers, records that no edge wrote."""

import json
from collections.abc import Iterable

import pytest

from streams.core.accounting import Outcome, Reject
from streams.core.identity import partition_of
from streams.records.raw_batch import RawRecord, batch_of, headers_of, join_requests
from streams.records.staged_chunk import unpack
from streams.stages.translate import PART_ITEMS, Translation, translate
from tests.line import CONTENTS, NATIVE, bet


def record(body: bytes, **headers: bytes | None) -> RawRecord:
    merged = {
        **dict(headers_of(NATIVE, 0)),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    kept = [(name, value) for name, value in merged.items() if value is not None]
    return RawRecord(3, 17, kept, body)


def test_rejects_are_unexpected_where_the_edge_has_not_seen_them() -> None:
    body = json.dumps([bet("a"), bet("b", -1), bet("c", "x")]).encode()
    assert translate(record(body), 4).unexpected == 2
    assert translate(record(body, invalid=b"2"), 4).unexpected == 0
    assert translate(record(body, invalid=b"3"), 4).unexpected == 0
    assert translate(record(body, invalid=None), 4).unexpected == 2
    assert translate(record(body, invalid=b"-1"), 4).unexpected == 2
    assert translate(record(body, tenant=None), 4).unexpected == 1


def test_headers_carry_the_batch_there_and_back() -> None:
    batch = NATIVE._replace(counts=False, merges_channels=True, idempotency_key="k-1")
    assert batch_of(dict(headers_of(batch, 0))) == batch
    assert batch_of(dict(headers_of(NATIVE, 0))) == NATIVE


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("tenant", None),
        ("tenant", b""),
        ("source", b"other"),
        ("batch_id", None),
        ("received_at", b"yesterday"),
        ("received_at", b"9" * 30),
        ("counts", b"yes"),
    ],
)
def test_a_record_that_no_edge_wrote_is_refused_with_the_reason(
    header: str, value: bytes | None
) -> None:
    translation = translate(record(b"[]", **{header: value}), 4)
    [reject] = translation.rejects
    assert (reject.code, reject.payload, reject.position) == ("wrong_header", b"[]", -1)
    assert header.replace("_", "-") in reject.errors[0]["message"]
    [outcome] = translation.outcomes
    assert (outcome.received, outcome.rejected) == (1, 1)


def test_a_body_that_is_not_json_is_refused_as_a_record() -> None:
    [reject] = translate(record(b"\xff{"), 4).rejects
    assert (reject.code, reject.payload_format, reject.tenant) == (
        "not_json",
        "record",
        "acme",
    )


def test_requests_that_share_a_record_come_to_the_same_as_alone() -> None:
    requests = [
        (headers_of(NATIVE._replace(tenant=tenant, batch_id=name), invalid), json.dumps(items).encode())
        for tenant, name, invalid, items in (
            ("acme", "one", 0, [bet("a"), bet("b")]),
            ("zinc", "two", 2, [bet("a", -1), bet("c"), bet("d", "x")]),
            ("acme", "three", 1, [bet("e", -1), bet("f")]),
        )
    ]
    together = translate(RawRecord(3, 17, *join_requests(requests)), 4)
    alone = [translate(RawRecord(3, 17, *join_requests([request])), 4) for request in requests]

    def told(translations: Iterable[Translation]) -> tuple[list[Outcome], list[Reject]]:
        every = list(translations)
        return (
            [outcome._replace(outcome_id="") for one in every for outcome in one.outcomes],
            [reject._replace(reject_id="") for one in every for reject in one.rejects],
        )

    assert told([together]) == told(alone)
    assert together.unexpected == 0
    for ids in (
        [one.outcome_id for one in together.outcomes],
        [one.reject_id for one in together.rejects],
    ):
        assert len(set(ids)) == len(ids) == 3
    for partition, groups in together.groups.items():
        assert [group.part for group in groups] == list(range(len(groups)))
        kept = [(group.tenant, group.batch_id, group.items) for group in groups]
        assert kept == [
            (group.tenant, group.batch_id, group.items)
            for one in alone
            for group in one.groups.get(partition, [])
        ]


def test_a_wrong_request_is_refused_and_those_beside_it_are_not() -> None:
    good = headers_of(NATIVE, 0), json.dumps([bet("a")]).encode()
    nobody = [(name, value) for name, value in good[0] if name != "tenant"]
    translation = translate(RawRecord(3, 17, *join_requests([good, (nobody, b"[]"), good])), 4)
    [reject] = translation.rejects
    assert (reject.code, reject.payload, reject.position) == ("wrong_header", b"[]", -1)
    assert [one.received for one in translation.outcomes] == [1, 1, 1]
    assert [one.rejected for one in translation.outcomes] == [0, 1, 0]


@pytest.mark.parametrize("lengths", [[b"2", b"3"], [b"2", b"1"], [b"-2"], [b"x"], [b"2"], [b"9" * 12]])
def test_a_record_whose_lengths_do_not_fit_is_refused_as_a_whole(lengths: list[bytes]) -> None:
    headers = [header for length in lengths for header in [*headers_of(NATIVE, 0), ("bytes", length)]]
    translation = translate(RawRecord(3, 17, headers, b"[][]"), 4)
    [reject] = translation.rejects
    assert (reject.code, reject.payload) == ("wrong_header", b"[][]")
    assert "bytes" in reject.errors[0]["message"]
    assert translation.unexpected == 1


def test_a_large_record_is_cut_into_the_same_parts_every_time() -> None:
    body = json.dumps([bet(f"b-{n}") for n in range(2 * PART_ITEMS + 1)]).encode()
    groups = translate(record(body), 4).groups[partition_of("acme|p-1", 4)]
    assert [len(unpack(group, CONTENTS).items) for group in groups] == [PART_ITEMS, PART_ITEMS, 1]
    assert [group.part for group in groups] == [0, 1, 2]
    assert translate(record(body), 4).groups[partition_of("acme|p-1", 4)] == groups


def test_a_game_goes_to_every_partition_and_counts_on_one() -> None:
    data = {"unique_id": "u", "timestamp": "2026-03-14T12:00:00Z", "game_id": "g"}
    groups = translate(record(json.dumps([{"event": "game", "data": data}]).encode()), 4).groups
    first = {partition: unpack(found[0], CONTENTS).items[0] for partition, found in groups.items()}
    copies = {partition: item.lookup_only for partition, item in first.items()}
    assert sorted(copies) == [0, 1, 2, 3]
    assert [place for place, is_copy in copies.items() if not is_copy] == [partition_of("acme|g", 4)]
