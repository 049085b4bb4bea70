"""The edge as a process, under clients that are broken or hostile."""

import gzip
import json
import socket
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import httpx
import pytest

from connectors.edge.bounded_protocol import HEADERS_BYTES_MAX
from tests.faults.fuzz import BODY_BYTES_MAX, Target, check_answer, check_kafka, edge_alone, fuzz
from tests.line import bet
from tests.waiting import WITHIN_S

TIMEOUT_S = 2.0


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """An edge with small limits."""
    home = tmp_path_factory.mktemp("edge")
    with edge_alone(home, request_timeout_s=TIMEOUT_S, held_bytes_max=4_000_000) as running:
        yield running


def test_every_answer_to_fuzzed_requests_is_well_formed_and_kafka_agrees(target: Target) -> None:
    fuzz(target, requests=200, number=0)
    before = target.resident_bytes()
    fuzz(target, requests=1_000, number=1)
    assert {204, 400, 422} <= set(target.statuses), target.statuses
    assert target.resident_bytes() < before + 64_000_000


def connection(target: Target) -> socket.socket:
    return socket.create_connection(("127.0.0.1", target.settings.edge_port), timeout=WITHIN_S)


def head(target: Target, *more: str) -> bytes:
    lines = [
        "POST /api/v1/events HTTP/1.1",
        "host: edge",
        f"x-api-key: {target.keys['acme']}",
        "content-type: application/json",
        *more,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def everything(of: socket.socket) -> bytes:
    """All bytes until the edge closes the connection."""
    parts = []
    try:
        while part := of.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def answered(client: socket.socket) -> tuple[int, bytes]:
    """Status and body of the answer on a connection."""
    response = HTTPResponse(client)
    response.begin()
    return response.status, response.read()


def test_slow_clients_are_disconnected_and_delay_no_other_client(target: Target) -> None:
    with connection(target) as silent, connection(target) as dripping, connection(target) as half:
        dripping.sendall(b"POST /api/v1/events HTTP/1.1\r\nx-a: ")
        half.sendall(head(target, "content-length: 100") + b'{"items": [')
        answer = post(target, [bet("beside slow ones")])
        assert answer.status_code == 204
        assert everything(silent).startswith(b"HTTP/1.1 408")
        assert everything(dripping).startswith(b"HTTP/1.1 408")
        status, refused = answered(half)
    assert (status, json.loads(refused)["code"]) == (408, "too_slow")


def test_nothing_is_stored_for_a_client_that_disconnects_within_its_body(target: Target) -> None:
    with connection(target) as client:
        client.sendall(head(target, "content-length: 1000") + json.dumps([bet("half")]).encode())
    target.answered[post(target, [bet("after")]).headers["x-batch-id"]] = ("acme", 0)
    check_kafka(target)


def test_a_flood_of_headers_is_cut_off(target: Target) -> None:
    for flood in (b"x-%d: " % 0 + b"y" * 8_000_000, b"x-a: b\r\n" * 1_000_000):
        with connection(target) as client:
            try:
                client.sendall(b"POST /api/v1/events HTTP/1.1\r\n" + flood)
            except (BrokenPipeError, ConnectionResetError):
                continue
            assert everything(client)[:12] in (b"", b"HTTP/1.1 431", b"HTTP/1.1 400")
    assert post(target, [bet("after a flood")]).status_code == 204
    assert HEADERS_BYTES_MAX < 1_000_000


POST = b"POST /api/v1/events HTTP/1.1\r\n"
NOT_HTTP = {
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "nonsense": b"NONSENSE\r\n\r\n",
    "negative length": POST + b"content-length: -1\r\n\r\n",
    "two lengths": POST + b"content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
    "length and chunks": POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "no colon": POST + b"host: e\r\nbad header\r\n\r\n",
    "version": b"POST /api/v1/events HTTP/9.9\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", NOT_HTTP.values(), ids=NOT_HTTP)
def test_what_is_not_http_is_refused(request_bytes: bytes, target: Target) -> None:
    with connection(target) as client:
        client.sendall(request_bytes)
        assert everything(client).startswith(b"HTTP/1.1 400")


def test_a_websocket_is_not_spoken(target: Target) -> None:
    with connection(target) as client:
        upgrade = ("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13")
        client.sendall(head(target, *upgrade, "sec-websocket-key: eA==", "content-length: 2") + b"[]")
        assert b" 101 " not in client.recv(65_536)


def test_many_items_and_gzip_bombs_are_refused_whatever_their_size(target: Target) -> None:
    answer = post(target, [{}] * 100_000)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_items")
    bomb = gzip.compress(bytes(200_000_000))
    before = target.resident_bytes()
    answer = httpx.post(
        f"{target.url}/api/v1/events",
        content=bomb,
        headers={
            "x-api-key": target.keys["acme"],
            "content-type": "application/json",
            "content-encoding": "gzip",
        },
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert target.resident_bytes() < before + 64_000_000


def test_bodies_beyond_the_memory_limit_are_answered_with_busy(target: Target) -> None:
    size = BODY_BYTES_MAX - 10
    # 12 MB of bodies, of which the edge holds at most 4 MB
    clients = [connection(target) for _ in range(30)]
    for client in clients:
        client.sendall(head(target, f"content-length: {size}") + b" " * (size - 1))
    statuses = []
    for client in clients:
        status, body = answered(client)
        statuses.append((status, json.loads(body)["code"]))
        client.close()
    assert set(statuses) == {(503, "busy"), (408, "too_slow")}, statuses
    wait = time.monotonic() + WITHIN_S
    while post(target, [bet("there is room again")]).status_code != 204:
        assert time.monotonic() < wait


def test_no_key_stands_in_the_log_or_in_an_answer(target: Target) -> None:
    answers = [
        post(target, [{"event": key, "data": {key: key}}], key=key).text for key in target.keys.values()
    ]
    answers += [post(target, [], key=target.keys["acme"] + "x").text]
    log = target.log.read_text()
    for tenant, key in target.keys.items():
        assert key not in log, tenant
        assert key not in (target.settings.data_dir / "tenants.json").read_text()
    assert all(key not in answers[-1] for key in target.keys.values())


def post(target: Target, items: object, key: str | None = None) -> httpx.Response:
    answer = httpx.post(
        f"{target.url}/api/v1/events",
        json=items,
        headers={"x-api-key": key or target.keys["acme"]},
        timeout=WITHIN_S,
    )
    if answer.status_code != 503:
        check_answer(answer)
    if answer.status_code in (204, 422):
        invalid = answer.json()["invalid"] if answer.status_code == 422 else 0
        owner = next(name for name, own in target.keys.items() if own == (key or target.keys["acme"]))
        target.answered[answer.headers["x-batch-id"]] = (owner, invalid)
    return answer


def test_the_fuzzer_checks_answers(tmp_path: Path) -> None:
    request = httpx.Request("POST", "http://edge")
    good = {"x-batch-id": "7a2b8c60-0000-4000-8000-000000000000"}
    check_answer(httpx.Response(204, headers=good, request=request))
    for bad in (
        httpx.Response(500, headers=good, request=request),
        httpx.Response(204, headers={"x-batch-id": "none"}, request=request),
        httpx.Response(400, headers=good, text="no", request=request),
    ):
        with pytest.raises((AssertionError, ValueError)):
            check_answer(bad)
