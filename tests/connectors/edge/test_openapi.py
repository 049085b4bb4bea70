"""The OpenAPI document is valid, current and complete, and the edge answers as it says."""

import ast
import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import Case, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi import checks
from starlette.routing import Route

from connectors.clickhouse.client import connect
from connectors.edge.openapi import ANSWERS, SAMPLES, as_json, document
from connectors.edge.openapi_lookups import LOOKUP_ANSWERS
from connectors.edge.routes import ROUTES
from streams.settings import Settings
from tests import clickhouse_server
from tests.connectors.edge.test_edge import Edge
from tests.line import NATIVE, bet
from tests.stored_line import StoredLine

ROOT = Path(__file__).parents[3]
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
generated = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
OPERATIONS = [(method, path) for path, item in document(Settings())["paths"].items() for method in item]
POSTS = [route.path for route in ROUTES]


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The DSN of a server that knows one batch of acme, ``known``."""
    with clickhouse_server.running(tmp_path_factory.mktemp("server") / "data") as dsn:
        stored = StoredLine(connect(Settings(clickhouse_dsn=dsn)), "roundhouse")
        known = NATIVE._replace(batch_id="known")
        stored.line.run([bet("a"), bet("a"), bet("a", 2), bet("b", currency="euro")], known)
        stored.store()
        yield dsn


@pytest.fixture
def edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clickhouse: str) -> Edge:
    monkeypatch.setattr("connectors.edge.schemas.learned", lambda settings, within_s: {})
    return Edge(tmp_path, body_bytes_max=1_000_000, clickhouse_dsn=clickhouse)


def test_the_document_is_valid_openapi() -> None:
    for found in (document(Settings()), document(Settings(schema_registry_url="http://registry"))):
        OpenAPIV31SpecValidator(found).validate()


def test_the_document_in_docs_is_current() -> None:
    committed = (ROOT / "docs" / "openapi.json").read_text()
    assert committed == as_json(Settings()), "run `make openapi`"


def test_every_route_of_the_edge_is_described(edge: Edge) -> None:
    paths = {
        route.path.replace("_id:path}", "_id}") for route in edge.app.routes if isinstance(route, Route)
    }
    for_the_rest = {path for path in paths if path.endswith("{rest:path}")}
    roots = {path.removesuffix("/{rest:path}") for path in for_the_rest}
    described = set(edge.send("GET", "/openapi.json").json()["paths"])
    assert described <= paths
    assert paths - for_the_rest - described <= roots  # these answer only with an error of the registry


def problems(*modules: str) -> set[tuple[Any, Any]]:
    """Status and code of the problems that modules of the edge raise."""
    raised = set()
    for name in modules:
        for node in ast.walk(ast.parse((ROOT / f"connectors/edge/{name}.py").read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Problem":
                status, code = node.args[:2]
                if isinstance(status, ast.Constant) and isinstance(code, ast.Constant):
                    raised.add((status.value, code.value))
    return raised


def test_every_error_of_a_post_is_described_with_its_status() -> None:
    raised = problems("app", "body", "fair_use", "keys")
    described = {(status, code) for status, (_, codes) in ANSWERS.items() for code in codes}
    of_the_body = {"not_json", "wrong_envelope", "duplicate_key", "required"}
    assert described - raised == {*((400, code) for code in of_the_body), (413, "too_many_items")}
    assert raised <= described


def test_every_error_of_a_lookup_is_described_with_its_status() -> None:
    described = {(status, code) for status, (_, codes) in LOOKUP_ANSWERS.items() for code in codes}
    assert described == problems("lookups", "keys") | {(429, "rate_limited"), (500, "bug")}


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*/*.json")), ids=lambda path: path.stem)
def test_every_sample_stands_in_the_document_and_is_accepted(edge: Edge, path: Path) -> None:
    [route] = [route for route in ROUTES if route.source == path.parent.name]
    content = edge.send("GET", "/openapi.json").json()["paths"][route.path]["post"]["requestBody"]
    sample = content["content"]["application/json"]["examples"][path.stem]["value"]
    assert sample == json.loads(path.read_bytes())
    assert edge.post(sample, route.path, APIKey=edge.key).status_code == 204


def test_the_page_shows_the_whole_document_and_loads_nothing(edge: Edge) -> None:
    answer = edge.send("GET", "/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    text = unescape(answer.text)
    for method, path in OPERATIONS:
        assert f"{method.upper()} {path}<" in text
    for code in (code for _, codes in ANSWERS.values() for code in codes):
        assert code in text
    for path in SAMPLES.glob("*/*.json"):
        assert json.dumps(json.loads(path.read_bytes()), indent=2, ensure_ascii=False) in text
    assert "<script" not in text
    assert set(re.findall(r'(?:href|src)="([^#"][^"]*)"', text)) == {"data:,", "/openapi.json"}
    links = set(re.findall(r'href="#([^"]+)"', text))
    assert links <= set(re.findall(r'id="([^"]+)"', text))


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_requests_as_described_are_answered_as_described(edge: Edge, method: str, path: str) -> None:
    _run(edge, method, path, GenerationMode.POSITIVE)


@pytest.mark.parametrize("path", POSTS)
def test_requests_other_than_described_are_refused_as_described(edge: Edge, path: str) -> None:
    _run(edge, "post", path, GenerationMode.NEGATIVE)


def looked_up(edge: Edge, path: str, **parameters: str) -> Any:
    found = schemathesis.openapi.from_asgi("/openapi.json", edge.app)
    case = found[path]["get"].Case(path_parameters=parameters)
    answer = case.call(headers={"x-api-key": edge.key})
    case.validate_response(answer, checks=CHECKS)
    return answer.json()


def test_a_known_batch_is_answered_as_described(edge: Edge) -> None:
    items = looked_up(edge, "/api/v1/batches/{batch_id}", batch_id="known")["items"]
    assert [item["outcome"] for item in items] == ["accepted", "duplicate", "conflict", "rejected"]
    assert items[2]["differences"]


def test_a_known_event_is_answered_as_described(edge: Edge) -> None:
    path = "/api/v1/events/{source}/{kind}/{event_id}"
    found = looked_up(edge, path, source="native", kind="gameround", event_id="a")
    assert [item["batch_id"] for item in found["accepted"]] == ["known"]
    assert [item["outcome"] for item in found["refused"]] == ["conflict"]


def _is_refused(case: Case[Any], answer: Response) -> bool:
    """Whether a request must be refused: the body is wrong, and it is no dry run, which says what is
    wrong. Unknown query parameters are ignored.
    """
    assert case.meta is not None
    body = case.meta.components.get(ParameterLocation.BODY)
    return body is not None and body.mode is GenerationMode.NEGATIVE and answer.status_code != 200


def _run(edge: Edge, method: str, path: str, mode: GenerationMode) -> None:
    found = schemathesis.openapi.from_asgi("/openapi.json", edge.app)
    answered = []

    @generated
    @given(case=found[path][method].as_strategy(generation_mode=mode))
    def run(case: Case[Any]) -> None:
        keys = {route.key_header: edge.key for route in ROUTES}
        answer = case.call(headers=keys)
        due = [*CHECKS, checks.negative_data_rejection] if _is_refused(case, answer) else CHECKS
        case.validate_response(answer, checks=due)
        answered.append(answer.status_code)

    run()
    assert answered
    if path in POSTS:
        assert mode is GenerationMode.NEGATIVE or 204 in answered
