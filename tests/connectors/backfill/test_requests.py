"""The items of files, and the requests that are made of them."""

import gzip
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from connectors.backfill.files import BODY_BYTES_MAX, Source, entries, holds_of
from connectors.backfill.requests import UNIT_ITEMS, Job, Unit, units
from connectors.edge.openapi import SAMPLES
from streams.core.event import Batch, encode
from streams.core.identity import erased_mark, key_of
from streams.errors import ConfigurationError
from streams.formats import READERS
from streams.formats.validation import Invalid
from tests.line import bet


def made(batch_id: str) -> Batch:
    return Batch("acme", "native", batch_id, 1_773_500_000_000_000, True, True, None)


def job(source: str = "native", kind: str | None = None) -> Job:
    return Job("acme", source, kind, "digest", "", lambda name: made(name)._replace(source=source))


NATIVE = job()


def units_of(path: Path, of: Job = NATIVE, longest: int = 10_000, begin: int = 0) -> list[Unit]:
    rest = islice(entries(Source(path, holds_of(path), of.source, longest)), begin, None)
    return list(units(of, rest, begin))


def contents(unit_list: list[Unit]) -> Iterator[bytes]:
    """The content of each event of the requests, without what depends on the request."""
    for unit in unit_list:
        for batch, body, _ in unit.requests:
            for item in READERS[batch.source](body, batch, 1 << 62):
                assert not isinstance(item, Invalid)
                anonymous = batch._replace(batch_id="", idempotency_key=batch.idempotency_key or "k")
                yield from encode(anonymous, 0, item.translate(anonymous))


@pytest.mark.parametrize("source", ["native", "fasttrack"])
@pytest.mark.parametrize("suffix", [".json", ".ndjson", ".json.gz", ".ndjson.gz"])
def test_every_sample_makes_the_events_of_its_post(tmp_path: Path, source: str, suffix: str) -> None:
    for sample in sorted((SAMPLES / source).glob("*.json")):
        body = sample.read_bytes()
        posted = READERS[source](body, made("")._replace(source=source), 1 << 62)
        data = body
        if "ndjson" in suffix:
            outer = json.loads(body)
            items = outer["items"] if isinstance(outer, dict) else outer
            data = b"\n".join(json.dumps(item).encode() for item in items)
        path = tmp_path / f"{sample.stem}{suffix}"
        path.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
        batch = made("")._replace(source=source, idempotency_key="k")
        expected = [
            datum
            for item in posted
            if not isinstance(item, Invalid)
            for datum in encode(batch, 0, item.translate(batch))
        ]
        assert expected
        assert list(contents(units_of(path, job(source)))) == expected


def test_lines_that_are_no_item_are_refused_with_their_number_and_the_others_are_written(
    tmp_path: Path,
) -> None:
    good = [json.dumps(bet(f"b-{number}")).encode() for number in range(4)]
    bad = json.dumps(bet("b-9", currency="euro")).encode()
    lines = [
        b"\xef\xbb\xbf" + good[0],
        good[1] + b"," + good[1],
        b"",
        b"[" * 5000,
        b'{"event": "\xff"}',
        b"x" * 2000,
        bad,
        b"[" * 900 + b"]" * 900,
        good[2] + b"\r",
        b'{"event": "gameround", "da',
    ]
    path = tmp_path / "bets.ndjson"
    path.write_bytes(b"\n".join(lines))
    [unit] = units_of(path, longest=1900)
    found = {(r.number, r.problem.code, r.problem.pointer, r.written) for r in unit.refusals}
    assert found == {
        (2, "not_json", "", False),
        (4, "body_too_large", "", False),
        (5, "not_json", "", False),
        (6, "body_too_large", "", False),
        (7, "malformed", "/data/currency", True),
        (8, "wrong_type", "", True),
        (10, "not_json", "", False),
    }
    assert (unit.first, unit.end, unit.numbers) == (0, 9, (1, 10))
    [request] = unit.requests
    assert unit.counts == [4]
    assert request.invalid == 2


def test_an_item_that_is_too_deep_only_within_a_list_does_not_take_others_with_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "deep.ndjson"
    good = json.dumps(bet("b-1")).encode()
    for depth in range(960, 1020):
        path.write_bytes(good + b"\n" + b"[" * depth + b"]" * depth)
        [unit] = units_of(path)
        assert [refusal.number for refusal in unit.refusals] == [2]
        assert good in unit.requests[0].body


def test_with_a_kind_a_line_is_the_data_and_errors_point_into_it(tmp_path: Path) -> None:
    path = tmp_path / "bets.jsonl"
    data = [bet("b-1")["data"], bet("b-2", currency="euro")["data"]]
    path.write_text("\n".join(map(json.dumps, data)))
    [unit] = units_of(path, job(kind="gameround"))
    [refusal] = unit.refusals
    assert (refusal.number, refusal.problem.pointer) == (2, "/currency")
    assert unit.counts == [2]


def test_a_line_of_gameball_is_a_request_and_its_key_is_that_of_the_header(tmp_path: Path) -> None:
    body = {
        "playerUniqueId": "p-1",
        "email": "ann@example.com",
        "events": {"spin": {"value": 1}, "visit": {"value": True}},
    }
    lines = [body, body | {"idempotencyKey": "k-1"}, body | {"idempotencyKey": "ä"}, {"events": {}}]
    path = tmp_path / "day.ndjson"
    path.write_text("\n".join(map(json.dumps, lines)))
    [unit] = units_of(path, job("gameball"))
    first, second = unit.requests
    assert unit.counts == [2, 2]
    assert b"ann@" in first.body
    alone = job("gameball")._replace(batch=lambda name: first.batch._replace(merges_channels=False))
    assert b"ann@" not in units_of(path, alone)[0].requests[0].body
    assert first.batch.batch_id != second.batch.batch_id
    assert (first.batch.idempotency_key, second.batch.idempotency_key) == (None, "k-1")
    assert [(r.number, r.problem.code, r.written) for r in unit.refusals] == [
        (1, "wrong_type", True),
        (2, "wrong_type", True),
        (3, "bad_idempotency_key", False),
        (4, "required", False),
    ]


def test_a_run_that_continues_writes_the_same_requests_under_the_same_ids(tmp_path: Path) -> None:
    path = tmp_path / "bets.ndjson"
    path.write_text("\n".join(json.dumps(bet(f"b-{n}")) for n in range(3 * UNIT_ITEMS + 7)))
    whole = units_of(path)
    assert [unit.items for unit in whole] == [UNIT_ITEMS] * 3 + [7]
    assert units_of(path, begin=whole[1].first) == whole[1:]
    ids = [request.batch.batch_id for unit in whole for request in unit.requests]
    assert len(set(ids)) == 4
    assert {name[:8] for name in ids} == {job().lead}
    assert job(kind="gameround").lead != job().lead


def test_a_file_whose_content_is_unknown_or_that_is_damaged_is_refused_as_a_whole(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigurationError, match="--holds"):
        holds_of(tmp_path / "bets.txt")
    path = tmp_path / "bets.json"
    path.write_text('{"events": []}')
    with pytest.raises(ConfigurationError, match="wrong_envelope at /items"):
        units_of(path)
    cut = tmp_path / "bets.ndjson.gz"
    cut.write_bytes(gzip.compress(json.dumps(bet("b-1")).encode() * 100)[:-20])
    with pytest.raises(ConfigurationError, match="not whole gzip"):
        units_of(cut)
    with open(path, "wb") as file:
        file.truncate(BODY_BYTES_MAX + 1)
    with pytest.raises(ConfigurationError, match="one on a line"):
        units_of(path)


def test_items_of_erased_players_are_refused_and_not_written(tmp_path: Path) -> None:
    path = tmp_path / "bets.ndjson"
    path.write_text("\n".join(json.dumps(bet(f"b-{n}", player_id=f"p-{n}")) for n in range(3)))
    marks = frozenset({erased_mark(key_of("acme", "p-1")).hex()})
    [unit] = units_of(path, job()._replace(erased=marks))
    assert [(r.number, r.problem.code) for r in unit.refusals] == [(2, "erased_player")]
    [request] = unit.requests
    assert b"p-0" in request.body
    assert b"p-1" not in request.body
    assert request.invalid == 1
