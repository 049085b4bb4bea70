"""The edge's schemas through HTTP, as clients of a schema registry ask for them."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import KafkaException
from starlette.applications import Starlette

from connectors.edge.app import create_app
from connectors.edge.schemas import LOOKUP_BYTES_MAX, MEDIA_TYPE, Learn, Schemas
from streams.errors import BrokerUnavailable
from streams.records.topics import CONTRACTS
from streams.settings import Settings
from streams.wire.contracts import SCHEMA_IDS, published, schema, versions
from tests.metrics import edge_metrics
from tests.standins import MemoryWriter

ROUNDS = "roundhouse.rounds-value"
Ask = Callable[..., httpx.Response]


def asking(app: Starlette) -> Ask:
    def ask(path: str, method: str = "GET", **request: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
                return await client.request(method, path, **request)

        answer = asyncio.run(run())
        assert answer.headers["content-type"] == MEDIA_TYPE
        return answer

    return ask


def served(learn: Learn) -> Ask:
    schemas = Schemas("roundhouse.", published(), learn, timeout_s=60)
    return asking(Starlette(routes=schemas.routes()))


@pytest.fixture
def ask() -> Ask:
    return served(dict)


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
        assert ask(f"/config{subject}").json() == {"compatibilityLevel": "FULL_TRANSITIVE"}
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


def newer(contract: str) -> str:
    present = schema(contract)
    added = {"name": "added", "type": "int", "default": 0}
    return json.dumps(present | {"fields": [*present["fields"], added]})


def test_a_schema_of_a_newer_worker_is_found_on_the_topic() -> None:
    reads = []

    def learn() -> dict[int, str]:
        reads.append(1)
        unknown = json.dumps({"type": "record", "name": "Unknown", "fields": []})
        return {8: json.dumps(schema("round")), 900: newer("round"), 901: newer("game"), 902: unknown}

    ask = served(learn)
    before = ask(f"/subjects/{ROUNDS}/versions").json()
    assert ask("/schemas/ids/1").status_code == 200
    assert not reads  # what this version ships is known without asking
    assert json.loads(ask("/schemas/ids/900").json()["schema"]) == json.loads(newer("round"))
    assert ask(f"/subjects/{ROUNDS}/versions").json() == [*before, before[-1] + 1]
    assert ask(f"/subjects/{ROUNDS}/versions/latest").json()["id"] == 900
    assert ask("/schemas/ids/901/subjects").json() == ["roundhouse.canonical.games-value"]
    for unknown in 902, 903, 904:
        assert refused(ask(f"/schemas/ids/{unknown}")) == (404, 40403)
    assert len(reads) == 1  # whatever is asked for, the topic is read once in a while


@pytest.mark.parametrize("problem", [BrokerUnavailable("no"), KafkaException("no")])
def test_without_kafka_a_schema_is_not_said_to_be_missing(problem: Exception) -> None:
    def learn() -> dict[int, str]:
        raise problem

    ask = served(learn)
    for _ in range(2):
        assert refused(ask("/schemas/ids/900")) == (500, 50001)
    assert ask("/schemas/ids/1").status_code == 200


def edge(settings: Settings) -> Ask:
    return asking(create_app(settings, MemoryWriter(), edge_metrics()))


def test_the_edge_serves_the_schemas_of_its_lines_topics(tmp_path: Path) -> None:
    ask = edge(Settings(data_dir=tmp_path, topic_prefix="other."))
    assert ask("/schemas/ids/1").status_code == 200
    assert ask("/subjects").json() == [f"other.{topic}-value" for topic in CONTRACTS]


def test_with_a_registry_of_its_own_the_line_has_that_registrys_ids_only(tmp_path: Path) -> None:
    answer = edge(Settings(data_dir=tmp_path, schema_registry_url="http://127.0.0.1:1"))(
        "/schemas/ids/1"
    )
    assert refused(answer) == (404, 404)
    assert "a schema registry is configured" in answer.json()["message"]
