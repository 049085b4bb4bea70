"""The edge's schemas through HTTP, as clients of a schema registry ask for them."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from connectors.edge.app import create_app
from connectors.edge.schemas import LOOKUP_BYTES_MAX, MEDIA_TYPE
from streams.records.topics import CONTRACTS
from streams.settings import Settings
from streams.wire.contracts import SCHEMA_IDS, schema, versions
from tests.metrics import edge_metrics
from tests.standins import MemoryWriter

ROUNDS = "roundhouse.rounds-value"
Ask = Callable[..., httpx.Response]


def asking(settings: Settings) -> Ask:
    app = create_app(settings, MemoryWriter(), edge_metrics())

    def ask(path: str, method: str = "GET", **request: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
                return await client.request(method, path, **request)

        answer = asyncio.run(run())
        assert answer.headers["content-type"] == MEDIA_TYPE
        return answer

    return ask


@pytest.fixture
def ask(tmp_path: Any) -> Ask:
    return asking(Settings(data_dir=tmp_path))


def refused(answer: httpx.Response) -> tuple[int, int]:
    body = answer.json()
    assert body.keys() == {"error_code", "message"}
    return answer.status_code, body["error_code"]


@pytest.mark.parametrize("contract", SCHEMA_IDS)
def test_every_published_version_is_found_by_its_id(contract: str, ask: Ask) -> None:
    [topic] = [topic for topic, held in CONTRACTS.items() if held == contract]
    subject = f"roundhouse.{topic}-value"
    for version in versions(contract):
        at = f"/schemas/ids/{version.schema_id}"
        assert json.loads(ask(at).json()["schema"]) == version.schema
        assert ask(f"{at}/schema").json() == version.schema
        assert ask(f"{at}/subjects").json() == [subject]
        assert ask(f"{at}/versions").json() == [{"subject": subject, "version": version.number}]


def test_a_subject_has_the_versions_of_its_topics_contract(ask: Ask) -> None:
    assert ask("/subjects").json() == [f"roundhouse.{topic}-value" for topic in CONTRACTS]
    assert ask("/subjects?subjectPrefix=roundhouse.ro").json() == [ROUNDS]
    numbers = [version.number for version in versions("round")]
    assert ask(f"/subjects/{ROUNDS}/versions").json() == numbers
    newest = versions("round")[-1]
    for name in ("latest", "-1", newest.number):
        found = ask(f"/subjects/{ROUNDS}/versions/{name}").json()
        assert json.loads(found.pop("schema")) == newest.schema
        assert found == {"subject": ROUNDS, "version": newest.number, "id": newest.schema_id}
    assert ask(f"/subjects/{ROUNDS}/versions/latest/schema").json() == newest.schema


def test_lists_come_in_pages(ask: Ask) -> None:
    every = ask("/subjects?offset=0&limit=-1").json()
    assert ask("/subjects?offset=2&limit=3").json() == every[2:5]
    assert ask(f"/subjects?offset={len(every)}").json() == []


def test_a_schema_is_found_by_its_text(ask: Ask) -> None:
    newest = versions("round")[-1]
    body = {"schema": json.dumps(newest.schema, indent=2), "schemaType": "AVRO"}
    found = ask(f"/subjects/{ROUNDS}?normalize=false", "POST", json=body)
    assert (found.status_code, found.json()["id"]) == (200, newest.schema_id)
    other = {"schema": json.dumps(schema("game"))}
    assert refused(ask(f"/subjects/{ROUNDS}", "POST", json=other)) == (404, 40403)
    assert refused(ask("/subjects/other-value", "POST", json=other)) == (404, 40401)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[1]", b'{"schema": 1}', b'{"schema": "{"}', b"[" * 100_000, b"\xff"]
)
def test_a_lookup_that_holds_no_schema_is_refused(body: bytes, ask: Ask) -> None:
    assert refused(ask(f"/subjects/{ROUNDS}", "POST", content=body)) == (422, 42201)


def test_a_lookup_is_bounded(ask: Ask) -> None:
    body = b" " * (LOOKUP_BYTES_MAX + 1)
    assert refused(ask(f"/subjects/{ROUNDS}", "POST", content=body)) == (413, 413)


@pytest.mark.parametrize(
    ("path", "due"),
    [
        ("/schemas/ids/99999", (404, 40403)),
        ("/schemas/ids/x", (404, 40403)),
        (f"/schemas/ids/{'9' * 5000}", (404, 40403)),
        ("/subjects/other-value/versions", (404, 40401)),
        ("/subjects/other-value/versions/latest", (404, 40401)),
        (f"/subjects/{ROUNDS}/versions/99", (404, 40402)),
        (f"/subjects/{ROUNDS}/versions/newest", (422, 42202)),
        (f"/subjects/{ROUNDS}/versions/0", (422, 42202)),
        ("/config/other-value", (404, 40401)),
        ("/mode/other-value", (404, 40401)),
        (f"/subjects/{ROUNDS}", (404, 404)),
        ("/schemas/guids/x", (404, 404)),
    ],
)
def test_what_is_not_there_has_the_registrys_error_code(
    path: str, due: tuple[int, int], ask: Ask
) -> None:
    assert refused(ask(path)) == due


def test_a_client_is_told_what_new_versions_are_held_to(ask: Ask) -> None:
    assert ask("/schemas/types").json() == ["AVRO"]
    for subject in ("", f"/{ROUNDS}"):
        assert ask(f"/config{subject}").json() == {"compatibilityLevel": "BACKWARD_TRANSITIVE"}
        assert ask(f"/mode{subject}").json() == {"mode": "READONLY"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/subjects/{ROUNDS}/versions"),
        ("DELETE", f"/subjects/{ROUNDS}"),
        ("PUT", "/config"),
        ("PUT", f"/mode/{ROUNDS}"),
    ],
)
def test_nothing_is_registered_or_changed_here(method: str, path: str, ask: Ask) -> None:
    assert refused(ask(path, method, json={"schema": "{}"})) == (422, 42205)


def test_with_a_registry_of_its_own_the_line_has_that_registrys_ids_only(tmp_path: Any) -> None:
    settings = Settings(data_dir=tmp_path, schema_registry_url="http://127.0.0.1:1")
    answer = asking(settings)("/schemas/ids/1")
    assert refused(answer) == (404, 404)
    assert "a schema registry is configured" in answer.json()["message"]
