"""Limits of tenants, and keys that expire or may not post."""

import asyncio
import gzip
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from connectors.edge.fair_use import DELAY_S, Quota
from connectors.edge.problems import Problem
from connectors.edge.tenants import Grant
from streams.records.raw_batch import batch_of
from tests.connectors.edge.test_edge import NOW, Edge, problem
from tests.line import bet

SECOND = 1_000_000


def test_without_limits_an_answer_has_no_headers_of_limits(tmp_path: Path) -> None:
    answer = Edge(tmp_path).post([bet("a")])
    assert not {"ratelimit", "ratelimit-policy"} & set(answer.headers)


def test_a_limit_of_requests_is_refilled_with_time(tmp_path: Path) -> None:
    edge = Edge(tmp_path, tenant_requests_per_s=0.5, tenant_burst_s=4)
    first, second = edge.post([bet("a")]), edge.post([bet("b")])
    assert first.headers["ratelimit-policy"] == '"requests";q=2;qu="requests";w=4'
    assert first.headers["ratelimit"] == '"requests";r=1;t=0'
    assert second.headers["ratelimit"] == '"requests";r=0;t=2'
    refused = edge.post([bet("c")])
    assert problem(refused) == (429, "rate_limited")
    assert refused.headers["retry-after"] == "2"
    assert refused.headers["ratelimit"] == '"requests";r=0;t=2'
    assert refused.json()["violated-policies"] == ["requests"]
    edge.now += 2 * SECOND
    assert edge.post([bet("c")]).status_code == 204
    edge.now += 100 * SECOND
    assert [edge.post([bet("d")]).status_code for _ in range(3)] == [204, 204, 429]
    assert len(edge.writer.written) == 5


def test_a_batch_larger_than_the_bucket_is_stored_and_the_next_one_waits(tmp_path: Path) -> None:
    edge = Edge(tmp_path, tenant_items_per_s=1, tenant_burst_s=10)
    assert edge.post([bet(str(n)) for n in range(15)]).status_code == 204
    refused = edge.post([bet("more")])
    assert (problem(refused), refused.headers["retry-after"]) == ((429, "rate_limited"), "6")
    edge.now += int(refused.headers["retry-after"]) * SECOND
    assert edge.post([bet("more")]).status_code == 204


def test_bytes_are_counted_after_gunzip_also_of_a_body_that_is_refused(tmp_path: Path) -> None:
    edge = Edge(tmp_path, tenant_bytes_per_s=1000, tenant_burst_s=1)
    packed = gzip.compress(b" " * 3000)
    assert problem(edge.post(packed, content_encoding="gzip")) == (400, "not_json")
    assert edge.post([bet("a")]).json()["violated-policies"] == ["bytes"]


def test_a_tenant_is_not_refused_for_another_and_has_limits_of_its_own(tmp_path: Path) -> None:
    edge = Edge(tmp_path, tenant_requests_per_s=1, tenant_burst_s=1)
    quiet = edge.registry.add("quiet", channel_merging=False, campaigns_enabled=True)
    edge.registry.limit("acme", {"requests_per_s": 3.0})
    assert [edge.post([bet("a")]).status_code for _ in range(4)] == [204, 204, 204, 429]
    assert edge.post([bet("a")], x_api_key=quiet).status_code == 204
    edge.registry.limit("acme", {"requests_per_s": None})
    assert [edge.post([bet("a")]).status_code for _ in range(2)] == [204, 429]


def test_only_a_client_that_does_not_wait_is_answered_later(tmp_path: Path) -> None:
    quota = Quota({"requests": 1.0}, burst_s=1, now=0)

    def delay_s(now: int) -> float:
        with pytest.raises(Problem) as refused:
            quota.admit(now)
        return refused.value.delay_s

    quota.admit(0)
    assert [delay_s(SECOND // 4), delay_s(SECOND // 2)] == [0, DELAY_S]
    quota.admit(2 * SECOND)
    assert delay_s(2 * SECOND) == 0

    edge = Edge(tmp_path, tenant_requests_per_s=1, tenant_burst_s=1)
    assert [edge.post([bet("a")]).status_code for _ in range(2)] == [204, 429]
    began = time.monotonic()
    assert problem(edge.post([bet("a")])) == (429, "rate_limited")
    assert time.monotonic() - began >= DELAY_S


def test_a_tenant_with_many_large_bodies_lets_another_tenants_request_in_between(
    tmp_path: Path,
) -> None:
    edge = Edge(tmp_path, body_bytes_max=100_000)
    quiet = edge.registry.add("quiet", channel_merging=False, campaigns_enabled=True)
    large = json.dumps([bet("a")]) + " " * 50_000

    async def post(body: str, key: str) -> None:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(edge.app), base_url="http://edge"
        ) as client:
            headers = {"x-api-key": key, "content-type": "application/json"}
            answer = await client.post("/api/v1/events", content=body, headers=headers)
            assert answer.status_code == 204

    async def run() -> None:
        small = json.dumps([bet("a")])
        await asyncio.gather(*(post(large, edge.key) for _ in range(20)), post(small, quiet))

    asyncio.run(run())
    tenants = [batch_of(written.headers).tenant for written in edge.writer.written]
    assert len(tenants) == 21
    assert tenants.index("quiet") < 5


def test_a_clock_that_is_set_back_neither_fills_nor_stops_a_bucket(tmp_path: Path) -> None:
    edge = Edge(tmp_path, tenant_requests_per_s=1, tenant_burst_s=1)
    assert edge.post([bet("a")]).status_code == 204
    edge.now -= 1000 * SECOND
    assert edge.post([bet("b")]).status_code == 429
    edge.now += SECOND
    assert edge.post([bet("b")]).status_code == 204


def test_a_key_ends_when_it_expires(tmp_path: Path) -> None:
    edge = Edge(tmp_path)
    until = datetime.fromtimestamp(NOW / 1e6, UTC)
    key = edge.registry.rotate("acme", Grant(expires_at=until))
    edge.now = NOW - 1
    assert edge.post([bet("a")], x_api_key=key).status_code == 204
    edge.now = NOW
    assert problem(edge.post([bet("b")], x_api_key=key)) == (403, "expired_key")
    assert len(edge.writer.written) == 1


@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/events?dry_run=true"])
def test_a_key_without_the_scope_may_not_post(tmp_path: Path, path: str) -> None:
    edge = Edge(tmp_path)
    key = edge.registry.rotate("acme", Grant(scopes=("read",)))
    assert problem(edge.post([bet("a")], path, x_api_key=key)) == (403, "wrong_scope")
    assert edge.writer.written == []
