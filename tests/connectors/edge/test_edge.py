"""The edge through HTTP, with a writer that keeps requests in memory."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from connectors.edge.app import create_app
from connectors.edge.metrics import EdgeMetrics
from connectors.edge.tenants import Registry
from connectors.edge.writer import KafkaWriter
from streams.core.event import Batch
from streams.core.identity import erased_mark, key_of
from streams.errors import DeliveryFailed
from streams.records.raw_batch import RawRecord, batch_of
from streams.records.staged_chunk import unpack
from streams.settings import Settings
from streams.stages.translate import translate
from tests.line import CONTENTS, bet
from tests.metrics import edge_metrics
from tests.standins import MemoryWriter

NOW = 1_773_500_000_000_000


class Edge:
    """An edge in-process and a client that posts to it."""

    def __init__(self, home: Path, **more: Any) -> None:
        few = Settings(data_dir=home, body_bytes_max=20_000, items_max=20)
        self.settings = few.model_copy(update=more)
        self.now = NOW
        self.registry = Registry(self.settings.tenants_path)
        self.key = self.registry.add("acme", channel_merging=False, campaigns_enabled=True)
        self.writer = MemoryWriter()
        self.raises = True
        self.app = create_app(self.settings, self.writer, edge_metrics(), lambda: self.now)

    def post(self, body: Any, path: str = "/api/v1/events", **headers: str | None) -> httpx.Response:
        sent: dict[str, str | None] = {"x-api-key": self.key, "content-type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        content = (
            body if isinstance(body, bytes | str) or hasattr(body, "__aiter__") else json.dumps(body)
        )
        return self.send("POST", path, content=content, headers={k: v for k, v in sent.items() if v})

    def send(self, method: str, path: str, **request: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=self.raises)
            async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
                return await client.request(method, path, **request)

        return asyncio.run(run())


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    return Edge(tmp_path)


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-batch-id"]
    body = answer.json()
    assert (body["status"], body["detail"] != "") == (answer.status_code, True)
    return answer.status_code, body["code"]


def test_failures_are_counted_from_zero_before_the_first_one() -> None:
    """All counters are served from the start, since Prometheus sees no increase in a first value."""
    registry = CollectorRegistry()
    metrics = EdgeMetrics(registry)
    metrics.answered(("/api/v1/events", "acme", 204, ""), 0.01)
    found = {
        (sample.labels["http_response_status_code"], sample.labels["error_type"]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "roundhouse_edge_requests_total"
    }
    assert found == {
        ("204", ""): 1,
        ("503", "not_acknowledged"): 0,
        ("503", "busy"): 0,
        ("500", "bug"): 0,
    }


def test_a_valid_batch_is_written_byte_for_byte_and_answered_with_204(edge: Edge) -> None:
    body = json.dumps({"items": [bet("b")]}, indent=3)
    answer = edge.post(body)
    assert (answer.status_code, answer.content) == (204, b"")
    [written] = edge.writer.written
    assert written.body == body.encode()
    assert batch_of(written.headers) == Batch(
        "acme", "native", answer.headers["x-batch-id"], NOW, True, False, None
    )


def test_some_invalid_items_are_listed_and_the_batch_is_stored(edge: Edge) -> None:
    answer = edge.post([bet("b"), bet("c", amount="1"), {"event": "x"}])
    assert problem(answer) == (422, "invalid_items")
    body = answer.json()
    assert (body["received"], body["stored"], body["invalid"]) == (3, 1, 2)
    assert [(e["index"], e["code"], e["pointer"]) for e in body["errors"]] == [
        (1, "wrong_type", "/1/data/amount"),
        (2, "unknown_event", "/2/event"),
    ]
    assert body["batch_id"] == answer.headers["x-batch-id"]
    [written] = edge.writer.written
    assert written.headers["invalid"] == b"2"


def test_edge_and_translate_refuse_the_same_gender_with_the_same_error(edge: Edge) -> None:
    player = {"unique_id": "u", "timestamp": "2026-03-14T12:00:00Z", "player_id": "p", "gender": "X"}
    answer = edge.post([{"event": "player", "data": player}])
    assert problem(answer) == (422, "invalid_items")
    [error] = answer.json()["errors"]
    [written] = edge.writer.written
    translation = translate(RawRecord(0, 0, list(written.headers.items()), written.body), 1)
    assert translation.unexpected == 0
    [reject] = translation.rejects
    assert [{"index": 0, **each} for each in reject.errors] == [error]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x_api_key": None}, (401, "no_key")),
        ({"x_api_key": "rh_00000000_wrong"}, (403, "unknown_key")),
        ({"x_api_key": "caf\u00e9"}, (403, "unknown_key")),
        ({"content_type": None}, (415, "unsupported_media_type")),
        ({"content_type": "text/plain"}, (415, "unsupported_media_type")),
        ({"content_encoding": "br"}, (415, "unsupported_encoding")),
        ({"content_encoding": "gzip"}, (400, "bad_gzip")),
    ],
)
def test_wrong_headers(edge: Edge, headers: dict[str, str | None], expected: tuple[int, str]) -> None:
    encoded = {k: v.encode() if v and not v.isascii() else v for k, v in headers.items()}
    assert problem(edge.post([bet("b")], **encoded)) == expected  # type: ignore[arg-type]
    assert edge.writer.written == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{", (400, "not_json")),
        ("{}", (400, "wrong_envelope")),
        ([0] * 21, (413, "too_many_items")),
        (" " * 20_001, (413, "body_too_large")),
    ],
)
def test_wrong_bodies(edge: Edge, body: Any, expected: tuple[int, str]) -> None:
    assert problem(edge.post(body)) == expected
    assert edge.writer.written == []


def test_a_body_without_a_length_is_bounded_too(edge: Edge) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b" " * 1000

    assert problem(edge.post(chunks())) == (413, "body_too_large")


def test_gzip_is_written_inflated(edge: Edge) -> None:
    body = json.dumps([bet("b")]).encode()
    two_members = gzip.compress(body[:10]) + gzip.compress(body[10:])
    for packed in (gzip.compress(body), two_members):
        assert edge.post(packed, content_encoding="gzip").status_code == 204
    assert [written.body for written in edge.writer.written] == [body, body]


def test_a_gzip_bomb_and_a_cut_gzip_are_refused(edge: Edge) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert problem(edge.post(bomb[:15_000], content_encoding="gzip")) == (413, "body_too_large")
    cut = gzip.compress(json.dumps([bet("b")]).encode())[:-9]
    assert problem(edge.post(cut, content_encoding="gzip")) == (400, "bad_gzip")


def test_503_with_retry_after_when_kafka_does_not_acknowledge(edge: Edge) -> None:
    edge.writer.fails = True
    answer = edge.post([bet("b")])
    assert problem(answer) == (503, "not_acknowledged")
    assert int(answer.headers["retry-after"]) > 0


def test_health_says_live_always_and_ready_when_kafka_answers(edge: Edge) -> None:
    assert edge.send("GET", "/livez").status_code == 200
    assert edge.send("GET", "/readyz").status_code == 200
    edge.writer.fails = True
    assert edge.send("GET", "/livez").status_code == 200
    away = edge.send("GET", "/readyz")
    assert away.status_code == 503
    assert away.json()["reasons"] == ["Kafka has not answered for 12 s: posts get 503"]
    assert away.json()["kafka_away_s"] == 12.0


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/v1/events"), ("POST", "/nowhere")])
def test_other_paths_and_methods_are_problems_too(edge: Edge, method: str, path: str) -> None:
    answer = edge.send(method, path)
    assert answer.status_code in (404, 405)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-batch-id"]


GAMEBALL = {"playerUniqueId": "p", "events": {"visit": {}}}


def test_gameball_takes_its_own_key_header_and_an_idempotency_key(edge: Edge) -> None:
    edge.registry.switch("acme", channel_merging=True, campaigns_enabled=False)
    answer = edge.post(
        GAMEBALL, "/integrations/event", x_api_key=None, APIKey=edge.key, idempotency_key="order-7"
    )
    assert answer.status_code == 204
    [written] = edge.writer.written
    batch = batch_of(written.headers)
    assert (batch.source, batch.idempotency_key) == ("gameball", "order-7")
    assert (batch.merges_channels, batch.counts) == (True, False)


@pytest.mark.parametrize("merges", [False, True])
def test_a_contact_is_written_only_for_a_tenant_that_merges_channels(edge: Edge, merges: bool) -> None:
    edge.registry.switch("acme", channel_merging=merges)
    body = GAMEBALL | {"email": "asa@example.com", "events": {"visit": {}, "order": {"total": True}}}
    answer = edge.post(body, "/integrations/event", x_api_key=None, APIKey=edge.key)
    assert answer.status_code == 422
    assert b"asa@example.com" not in answer.content
    [written] = edge.writer.written
    assert (b"asa@example.com" in written.body) is merges
    record = RawRecord(0, 0, list(written.headers.items()), written.body)
    assert translate(record, 4).unexpected == 0


def test_gameball_refuses_a_strange_idempotency_key(edge: Edge) -> None:
    answer = edge.post(
        GAMEBALL, "/integrations/event", x_api_key=None, APIKey=edge.key, idempotency_key="a b"
    )
    assert problem(answer) == (400, "bad_idempotency_key")


def test_fasttrack_is_posted_to_its_own_path(edge: Edge) -> None:
    login = {"user_id": "p", "timestamp": "2026-03-14T12:00:00Z", "unique_id": "u"}
    body = [{"event": "realtime-login", "data": login}]
    assert edge.post(body, "/api/v1/integrations/fasttrack/bulk").status_code == 204
    assert edge.writer.written[0].headers["source"] == b"fasttrack"


def test_no_key_of_any_kind_stands_in_an_answer(edge: Edge) -> None:
    for key in (edge.key, "rh_00000000_wrong"):
        answer = edge.post("{", x_api_key=key)
        assert key not in answer.text
        assert key not in str(answer.headers)


def test_a_bug_is_answered_as_a_problem_and_is_not_hidden(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(batch: Batch, body: bytes, invalid: int) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(edge.writer, "write", broken)
    with pytest.raises(ZeroDivisionError):  # what the server logs after it has answered
        edge.post([bet("b")])
    edge.raises = False
    answer = edge.post([bet("b")])
    assert problem(answer) == (500, "bug")
    assert answer.json()["batch_id"] == answer.headers["x-batch-id"]
    assert caplog.records[-1].batch_id == answer.headers["x-batch-id"]  # type: ignore[attr-defined]


def test_without_a_broker_a_write_fails_in_time(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, kafka_bootstrap="127.0.0.1:1", ack_timeout_s=0.2)
    writer = KafkaWriter(settings, edge_metrics())
    batch = Batch("acme", "native", "b", NOW, True, False, None)
    with pytest.raises(DeliveryFailed):
        asyncio.run(writer.write(batch, b"[]", 0))
    writer.close()


def test_a_bug_while_requests_are_sent_together_is_raised_in_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(requests: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("connectors.edge.writer.join_requests", broken)
    writer = KafkaWriter(Settings(data_dir=tmp_path, kafka_bootstrap="127.0.0.1:1"), edge_metrics())
    batch = Batch("acme", "native", "b", NOW, True, False, None)

    async def write() -> list[object]:
        writes = [writer.write(batch, b"[]", 0) for _ in range(3)]
        return list(await asyncio.gather(*writes, return_exceptions=True))

    assert [type(found) for found in asyncio.run(write())] == [ZeroDivisionError] * 3
    writer.close()


def test_nothing_is_redirected(edge: Edge) -> None:
    answer = edge.post([bet("b")], "/api/v1/events/")
    assert problem(answer) == (404, "no_such_route")
    assert edge.writer.written == []


def erased(*players: str) -> list[str]:
    return [erased_mark(key_of("acme", player)).hex() for player in players]


@pytest.mark.parametrize("wrapped", [False, True])
def test_items_of_an_erased_player_are_refused_and_not_written(edge: Edge, wrapped: bool) -> None:
    [mark] = erased("gone-1")
    edge.registry.erase("acme", mark)
    items = [
        bet("1", player_id="gone-1"),
        bet("2", player_id="p-2"),
        bet("3", player_id="gone-1", amount=-1),
        {"event": "player", "data": {"player_id": 7, "unique_id": "4", "timestamp": "x"}},
        bet("5", 12345678901234567.25),
    ]
    answer = edge.post({"items": items} if wrapped else items)
    assert problem(answer) == (422, "invalid_items")
    body = answer.json()
    lead = "/items" if wrapped else ""
    refused = [error for error in body["errors"] if error["code"] == "erased_player"]
    assert [(error["index"], error["pointer"]) for error in refused] == [
        (0, f"{lead}/0"),
        (2, f"{lead}/2"),
    ]
    [written] = edge.writer.written
    assert b"gone-1" not in written.body
    translation = translate(RawRecord(0, 0, list(written.headers.items()), written.body), 1)
    assert translation.unexpected == 0
    assert [(r.position, r.code) for r in translation.rejects if r.position in (0, 2)] == [
        (0, "erased_player"),
        (2, "erased_player"),
    ]
    [group] = translation.groups[0]
    assert [i.position for i in unpack(group, CONTENTS).items] == [1, 4]


@pytest.mark.parametrize("events", [{"visit": {}}, {"visit": 1}])
def test_a_gameball_request_of_an_erased_player_is_refused_as_a_whole(edge: Edge, events: Any) -> None:
    for mark in erased("gone-1"):
        edge.registry.erase("acme", mark)
    body = {"playerUniqueId": "gone-1", "events": events}
    answer = edge.post(body, "/integrations/event", APIKey=edge.key)
    assert problem(answer) == (400, "erased_player")
    assert edge.writer.written == []
    body["playerUniqueId"] = "p-1"
    edge.post(body, "/integrations/event", APIKey=edge.key)
    assert len(edge.writer.written) == 1
