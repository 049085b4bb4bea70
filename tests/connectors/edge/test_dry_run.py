"""A dry run says what the line then does with the same request, and writes nothing."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from connectors.edge.openapi import SAMPLES
from connectors.edge.routes import ROUTES
from streams.core.event import Kind
from streams.records.raw_batch import batch_of
from tests.connectors.edge.test_edge import Edge, problem
from tests.line import Line, bet

NATIVE, _, GAMEBALL = (route.path for route in ROUTES)
MIXED = [
    bet("a", 1.25),
    bet("b", 2.5, currency="euro", game_id=""),
    {"event": "nothing"},
    bet("c", 12345678901234567890),
    7,
]
MIXED_GAMEBALL = {"playerUniqueId": "p", "events": {"visit": {}, "order": {"total": True}}}
BODIES = [(NATIVE, MIXED), (GAMEBALL, MIXED_GAMEBALL)] + [
    (route.path, json.loads(path.read_bytes()))
    for route in ROUTES
    for path in sorted((SAMPLES / route.source).glob("*.json"))
]


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    return Edge(tmp_path)


def try_out(edge: Edge, body: Any, path: str = NATIVE) -> Any:
    answer = edge.post(body, f"{path}?dry_run=true", APIKey=edge.key, idempotency_key="k")
    assert answer.status_code == 200
    assert answer.headers["x-batch-id"] == answer.json()["batch_id"]
    assert edge.writer.written == []
    return answer.json()


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_a_dry_run_says_what_the_line_then_does(edge: Edge, path: str, body: Any) -> None:
    tried = try_out(edge, body, path)
    edge.post(body, path, APIKey=edge.key, idempotency_key="k")
    [written] = edge.writer.written
    line = Line()
    line.run(written.body, batch_of(written.headers))

    events: dict[int, list[Any]] = defaultdict(list)
    created = (
        {Kind.PLAYER} if path == GAMEBALL else set()
    )  # made by process, of players it does not know
    for kind in set(Kind) - created:
        for event in line.sent[kind.topic]:
            events[event["position"]].append((kind.contract, event | {"batch_id": tried["batch_id"]}))
    rejects = {reject["position"]: reject["errors"] for reject in line.sent["rejects"]}
    assert {
        item["index"]: [(item["contract"], event) for event in item["events"]]
        for item in tried["items"]
        if "events" in item
    } == events
    assert {item["index"]: item["errors"] for item in tried["items"] if "errors" in item} == rejects
    assert [item["index"] for item in tried["items"]] == list(range(len(tried["items"])))
    counts = line.tally()
    assert (tried["received"], tried["valid"], tried["invalid"]) == (
        counts["received"], counts["accepted"], counts["rejected"],
    )  # fmt: skip


def test_items_have_their_key_their_money_as_text_and_all_their_errors(edge: Edge) -> None:
    first, second, *_ = try_out(edge, MIXED)["items"]
    assert first["idempotency_key"] == {
        "tenant": "acme", "source": "native", "kind": "gameround", "id": "a",
    }  # fmt: skip
    assert first["events"][0]["amount"] == "1.250000000000000000"
    pointers = [error["pointer"] for error in second["errors"]]
    assert pointers == ["/1/data/game_id", "/1/data/currency"]


def test_a_dry_run_refuses_a_request_as_a_post_does(edge: Edge) -> None:
    for body, expected in (("{", (400, "not_json")), ([0] * 21, (413, "too_many_items"))):
        assert problem(edge.post(body, f"{NATIVE}?dry_run=true")) == expected
    assert problem(edge.post([], f"{NATIVE}?dry_run=true", x_api_key=None)) == (401, "no_key")


@pytest.mark.parametrize(
    "query", ["dry_run=1", "dry_run", "dry_run=True", "dry_run=true&dry_run=false"]
)
def test_an_unclear_dry_run_is_refused_and_not_stored(edge: Edge, query: str) -> None:
    assert problem(edge.post([bet("a")], f"{NATIVE}?{query}")) == (400, "bad_dry_run")
    assert edge.writer.written == []


def test_without_a_dry_run_the_batch_is_stored(edge: Edge) -> None:
    assert edge.post([bet("a")], f"{NATIVE}?dry_run=false").status_code == 204
    assert len(edge.writer.written) == 1
