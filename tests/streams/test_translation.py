"""From a raw record to staged groups: parts, headers, records that no edge wrote."""

import json

import pytest

from streams.idempotency import partition_of
from streams.staged import unpack
from streams.translation import PART_ITEMS, RawRecord, batch_of, headers_of, translate
from tests.line import NATIVE, bet


def record(body: bytes, **headers: bytes | None) -> RawRecord:
    merged = {
        **headers_of(NATIVE, 0),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    kept = {name: value for name, value in merged.items() if value is not None}
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
    assert batch_of(headers_of(batch, 0)) == batch
    assert batch_of(headers_of(NATIVE, 0)) == NATIVE


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
    assert (reject["code"], reject["payload"], reject["position"]) == ("wrong_header", b"[]", -1)
    assert header.replace("_", "-") in reject["errors"][0]["message"]
    assert (translation.outcome["received"], translation.outcome["rejected"]) == (1, 1)


def test_a_body_that_is_not_json_is_refused_as_a_record() -> None:
    [reject] = translate(record(b"\xff{"), 4).rejects
    assert (reject["code"], reject["payload_format"], reject["tenant"]) == (
        "not_json",
        "record",
        "acme",
    )


def test_a_large_record_is_cut_into_the_same_parts_every_time() -> None:
    body = json.dumps([bet(f"b-{n}") for n in range(2 * PART_ITEMS + 1)]).encode()
    groups = translate(record(body), 4).groups[partition_of("acme|p-1", 4)]
    assert [len(unpack(group).items) for group in groups] == [PART_ITEMS, PART_ITEMS, 1]
    assert [group["part"] for group in groups] == [0, 1, 2]
    assert translate(record(body), 4).groups[partition_of("acme|p-1", 4)] == groups


def test_a_game_goes_to_every_partition_and_counts_on_one() -> None:
    data = {"unique_id": "u", "timestamp": "2026-03-14T12:00:00Z", "game_id": "g"}
    groups = translate(record(json.dumps([{"event": "game", "data": data}]).encode()), 4).groups
    copies = {partition: unpack(found[0]).items[0].lookup_only for partition, found in groups.items()}
    assert sorted(copies) == [0, 1, 2, 3]
    assert [place for place, is_copy in copies.items() if not is_copy] == [partition_of("acme|g", 4)]
