"""Questions to the edge: who may ask what, how many at once, and what an outage of ClickHouse does."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.clickhouse.client import connect
from connectors.edge.lookups import AT_ONCE
from connectors.edge.tenants import Grant
from streams.settings import Settings
from tests import clickhouse_server
from tests.connectors.edge.test_edge import NOW, Edge
from tests.line import NATIVE, bet
from tests.stored_line import StoredLine

PATH = "/api/v1/batches/known"


class Server:
    """A ClickHouse server that knows the batch ``known`` of acme."""

    def __init__(self, dsn: str, control: Path) -> None:
        self.dsn = dsn
        self._control = control
        stored = StoredLine(connect(Settings(clickhouse_dsn=dsn)), "roundhouse")
        stored.line.run([bet("a/b")], NATIVE._replace(batch_id="known"))
        stored.store()

    def obey(self, **orders: Any) -> None:
        """Orders of :mod:`tests.clickhouse_server`, in place of earlier ones."""
        new = self._control.with_suffix(".new")
        new.write_text(json.dumps(orders))
        new.rename(self._control)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("server")
    with clickhouse_server.running(home / "data", home / "control") as dsn:
        yield Server(dsn, home / "control")


@pytest.fixture
def server(started: Server) -> Iterator[Server]:
    yield started
    started.obey()


@pytest.fixture
def edge(tmp_path: Path, server: Server) -> Edge:
    return Edge(tmp_path, clickhouse_dsn=server.dsn, lookup_timeout_s=2.0)


def ask(edge: Edge, path: str = PATH, key: str | None = None) -> httpx.Response:
    return edge.send("GET", path, headers={"x-api-key": key or edge.key})


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def test_another_tenants_batch_is_answered_as_one_that_does_not_exist(edge: Edge) -> None:
    assert ask(edge).json()["accepted"] == 1
    other = edge.registry.add("other", channel_merging=False, campaigns_enabled=True)
    theirs, nobodys = ask(edge, key=other), ask(edge, "/api/v1/batches/nobodys")
    assert problem(theirs) == (404, "unknown_batch")
    assert (theirs.content, theirs.headers) == (nobodys.content, nobodys.headers)
    assert theirs.headers["retry-after"] == "2"


def test_a_question_needs_a_key_that_may_read(edge: Edge) -> None:
    assert problem(edge.send("GET", PATH)) == (401, "no_key")
    assert problem(ask(edge, key="rh_0_0")) == (403, "unknown_key")
    assert problem(ask(edge, key=edge.registry.rotate("acme", Grant(("post",))))) == (
        403,
        "wrong_scope",
    )
    assert ask(edge, key=edge.registry.rotate("acme", Grant(("read",)))).status_code == 200


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("limit=0", (400, "bad_page")),
        ("limit=1001", (400, "bad_page")),
        ("offset=-1", (400, "bad_page")),
        ("offset=1e3", (400, "bad_page")),
        ("outcome=lost", (400, "bad_outcome")),
    ],
)
def test_wrong_parameters_are_refused(edge: Edge, query: str, expected: tuple[int, str]) -> None:
    assert problem(ask(edge, f"{PATH}?{query}")) == expected


@pytest.mark.parametrize("kind", ["native/spin", "fasttrack/gameround", "custom/event"])
def test_an_unknown_kind_is_refused_with_those_that_are_known(edge: Edge, kind: str) -> None:
    answer = ask(edge, f"/api/v1/events/{kind}/a")
    assert problem(answer) == (400, "unknown_kind")
    assert "realtime-casino" in answer.json()["detail"]


def test_an_event_is_found_by_an_id_with_slashes_and_only_by_its_tenant(
    edge: Edge, server: Server
) -> None:
    path = "/api/v1/events/native/gameround/a%2Fb"
    assert ask(edge, path).json()["accepted"][0]["batch_id"] == "known"
    assert ask(edge, f"{path}?subject=p-1").status_code == 200
    assert problem(ask(edge, f"{path}?subject=p-2")) == (404, "unknown_event_id")
    other = edge.registry.add("other", channel_merging=False, campaigns_enabled=True)
    assert problem(ask(edge, path, key=other)) == (404, "unknown_event_id")


def test_questions_have_a_bucket_of_their_own(edge: Edge) -> None:
    edge.registry.limit("acme", {"requests_per_s": 0.1})
    assert ask(edge).status_code == 200
    answer = ask(edge)
    assert problem(answer) == (429, "rate_limited")
    assert answer.headers["retry-after"] == "10"
    assert edge.post([bet("a")]).status_code == 204
    edge.now = NOW + 10_000_000
    assert ask(edge).status_code == 200


@pytest.mark.parametrize("orders", [{"fail": True}, {"hang": True}])
def test_without_clickhouse_questions_get_503_and_posts_204(
    edge: Edge, server: Server, orders: dict[str, bool]
) -> None:
    """More questions than may run at once, each of a tenant of its own; the post overtakes them all."""
    keys = [edge.registry.add(f"t-{number}", False, True) for number in range(AT_ONCE + 2)]
    server.obey(**orders)
    ended: list[str] = []

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(edge.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:

            async def question(key: str) -> httpx.Response:
                answer = await client.get(PATH, headers={"x-api-key": key})
                ended.append("question")
                return answer

            asking = [asyncio.create_task(question(key)) for key in keys]
            await asyncio.sleep(0)
            headers = {"x-api-key": edge.key, "content-type": "application/json"}
            posted = await client.post("/api/v1/events", json=[bet("p")], headers=headers)
            ended.append("post")
            return [posted, *await asyncio.gather(*asking)]

    posted, *answers = asyncio.run(run())
    server.obey()
    assert posted.status_code == 204
    if "hang" in orders:
        assert ended[0] == "post"
    for answer in answers:
        assert problem(answer) == (503, "lookup_unavailable")
        assert answer.headers["retry-after"] == "2"


def test_questions_are_answered_again_after_an_outage(edge: Edge, server: Server) -> None:
    server.obey(fail=True)
    assert problem(ask(edge)) == (503, "lookup_unavailable")
    server.obey()
    assert ask(edge).status_code == 200


def test_an_edge_never_opens_chdb_itself(tmp_path: Path) -> None:
    """The sink could not open it then."""
    edge = Edge(tmp_path)
    assert problem(ask(edge)) == (503, "lookup_unavailable")
    assert not (tmp_path / "clickhouse").exists()
