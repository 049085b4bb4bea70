"""The OpenAPI 3.1 document of the edge, built from the formats' models, the routes and the settings.

``roundhouse openapi`` prints it, the edge serves it at ``/openapi.json``.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from connectors.edge.body import RETRY_AFTER_S
from connectors.edge.lookups import KEY_HEADER
from connectors.edge.openapi_lookups import LookupProblem, lookup_answers, lookup_models, lookup_paths
from connectors.edge.routes import ROUTES, Route
from connectors.edge.schemas import MEDIA_TYPE, Schemas
from streams.formats import fasttrack, gameball, native
from streams.settings import Settings

Node = dict[str, Any]

SAMPLES = Path(__file__).parent / "samples"
"""A folder for each format with a request body for each of its kinds."""

_KINDS = {"native": native.KINDS, "fasttrack": fasttrack.KINDS}
_PROBLEM = "application/problem+json"
_DESCRIPTION = (
    "Operators post events here. Retrying is safe: items that are stored are recognised by their ids. "
    "Amounts are JSON numbers and are kept exactly; timestamps without an offset are UTC; unknown "
    "fields are ignored."
)

ANSWERS: dict[int, tuple[str, tuple[str, ...]]] = {
    400: (
        "The body as a whole cannot be read. Nothing is stored.",
        (
            "not_json", "wrong_envelope", "bad_gzip", "incomplete_body", "duplicate_key", "required",
            "bad_idempotency_key",
            "bad_dry_run",
        ),
    ),
    401: ("The header with the API key is missing.", ("no_key",)),
    403: (
        "No tenant has this key, or it was revoked, has expired, or may not post.",
        ("unknown_key", "expired_key", "wrong_scope"),
    ),
    408: ("The body did not arrive in time. Nothing is stored.", ("too_slow",)),
    413: ("The request is over a limit. Nothing is stored.", ("body_too_large", "too_many_items")),
    415: (
        "The body is not application/json, or neither plain nor gzip.",
        ("unsupported_media_type", "unsupported_encoding"),
    ),
    422: ("Some items are invalid; the valid ones are stored.", ("invalid_items",)),
    429: ("A limit of the tenant is used up. Nothing is stored.", ("rate_limited",)),
    500: ("A defect of Roundhouse. Post the same batch again.", ("bug",)),
    503: (
        "The batch may or may not be stored. Post the same batch again after Retry-After seconds.",
        ("not_acknowledged", "busy"),
    ),
}  # fmt: skip
"""The error answers to a post, by status: what they mean, and the codes that they carry."""

_WITH_RETRY_AFTER = (429, 503)


class _Problem(LookupProblem):
    """An error of a post (RFC 9457)."""

    batch_id: str = Field(description="Id of the request, as in `x-batch-id`.")


class _ItemError(BaseModel):
    """One error of an item."""

    index: int = Field(ge=0, description="Index of the item in the body.")
    code: str
    pointer: str = Field(description="JSON pointer into the body.")
    message: str


class _InvalidItems(_Problem):
    """Some items are invalid; the valid ones are stored."""

    received: int
    stored: int
    invalid: int
    errors: list[_ItemError]


class _IdempotencyKey(BaseModel):
    """What identifies an item: within the window it counts once."""

    tenant: str
    source: str = Field(description="The format.")
    kind: str = Field(description="The format's name of the kind.")
    id: str


class _PreviewedError(BaseModel):
    """One error of an item."""

    code: str
    pointer: str = Field(description="JSON pointer into the body.")
    message: str


class _Previewed(BaseModel):
    """A valid item has a key, a contract and events; an invalid one has errors."""

    index: int = Field(ge=0, description="Index of the item in the body.")
    idempotency_key: _IdempotencyKey | None = None
    contract: str = Field(default="", description="Contract of the events.")
    events: list[dict[str, Any]] = Field(default=[], description="Canonical; money as decimal text.")
    errors: list[_PreviewedError] = []


class _DryRun(BaseModel):
    """What the line would make of the batch, without what it knows of earlier batches."""

    batch_id: str
    received: int
    valid: int
    invalid: int
    items: list[_Previewed]


class _Health(BaseModel):
    """The state of this process; it also has figures, which may change with every version."""

    status: str
    live: bool
    ready: bool
    stuck: bool
    reasons: list[str] = Field(description="Why the process is not live or not ready.")


def as_json(settings: Settings) -> str:
    """The document as text."""
    return json.dumps(document(settings), indent=2, ensure_ascii=False) + "\n"


def document(settings: Settings) -> Node:
    """The document of an edge with these settings."""
    paths: Node = {route.path: {"post": _post(route)} for route in ROUTES}
    paths |= lookup_paths()
    for path in ("/livez", "/readyz", "/healthz"):
        paths[path] = {"get": _health(path)}
    paths["/openapi.json"] = {
        "get": _get("openapi", "This document.", "application/json", {"type": "object"})
    }
    paths["/docs"] = {"get": _get("docs", "This document as a page.", "text/html", {"type": "string"})}
    if settings.schema_registry_url is None:
        paths |= _registry_paths()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Roundhouse: the edge",
            "version": version("roundhouse"),
            "description": _DESCRIPTION,
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "events", "description": "Post events."},
            {"name": "lookups", "description": "Ask what became of what was posted."},
            {"name": "health", "description": "The state of this process."},
            {"name": "documents", "description": "This description."},
            {
                "name": "schemas",
                "description": "Schemas of the topics, as Confluent's registry serves them.",
            },
        ],
        "paths": paths,
        "components": {
            "schemas": _schemas(settings),
            "responses": {str(status): _answer(status) for status in ANSWERS} | lookup_answers(),
            "parameters": _parameters(),
            "headers": _headers(),
            "securitySchemes": {
                header: {"type": "apiKey", "in": "header", "name": header}
                for header in (KEY_HEADER, *(route.key_header for route in ROUTES))
            },
        },
    }


def _post(route: Route) -> Node:
    parameters = ["dry_run", "traceparent", "content-encoding"]
    if route.source == "gameball":
        parameters.append("idempotency-key")
    answers: Node = {
        "204": {
            "description": "Every item is valid, and the batch is stored on all replicas.",
            "headers": _every_header(),
        }
    }
    answers["200"] = {
        "description": "Of a dry run: every item as the line would take it. Nothing is stored.",
        "headers": _every_header(),
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/DryRun"}}},
    }
    answers |= {str(status): {"$ref": f"#/components/responses/{status}"} for status in ANSWERS}
    samples = sorted((SAMPLES / route.source).glob("*.json"))
    return {
        "tags": ["events"],
        "operationId": f"post_{route.source}",
        "summary": f"Post events in the {route.source} format.",
        "security": [{route.key_header: []}],
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in parameters],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": f"#/components/schemas/{route.source}"},
                    "examples": {
                        path.stem: {"value": json.loads(path.read_bytes())} for path in samples
                    },
                }
            },
        },
        "responses": answers,
    }


def _answer(status: int) -> Node:
    about, codes = ANSWERS[status]
    schema = "InvalidItems" if status == 422 else "Problem"
    headers = _every_header()
    if status in _WITH_RETRY_AFTER:
        headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    return {
        "description": about,
        "headers": headers,
        "content": {
            _PROBLEM: {
                "schema": {
                    "allOf": [
                        {"$ref": f"#/components/schemas/{schema}"},
                        {"properties": {"status": {"const": status}, "code": {"enum": list(codes)}}},
                    ]
                }
            }
        },
    }


def _every_header() -> Node:
    """The headers of every answer to a post."""
    names = ("x-batch-id", "RateLimit-Policy", "RateLimit")
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _headers() -> Node:
    return {
        "x-batch-id": {
            "description": "Id of the request; quote it when you ask about a batch.",
            "required": True,
            "schema": {"type": "string", "format": "uuid"},
        },
        "RateLimit-Policy": {
            "description": "Your limits, where you have any: `q` in `w` seconds, counted in `qu`.",
            "schema": {"type": "string"},
            "example": '"items";q=50000;qu="items";w=10',
        },
        "RateLimit": {
            "description": "What is left: `r`, and the seconds until there is more, `t`.",
            "schema": {"type": "string"},
            "example": '"items";r=49000;t=0',
        },
        "Retry-After": {
            "description": "Seconds to wait before the same batch is posted again.",
            "required": True,
            "schema": {"type": "integer", "minimum": 0},
            "example": RETRY_AFTER_S,
        },
    }


def _parameters() -> Node:
    def header(name: str, about: str, schema: Node) -> Node:
        return {"name": name, "in": "header", "description": about, "schema": schema}

    return {
        "dry_run": {
            "name": "dry_run",
            "in": "query",
            "description": "With `true`, the answer shows each item as the line would take it, and "
            "nothing is stored.",
            "schema": {"enum": ["true", "false"]},
        },
        "traceparent": header(
            "traceparent",
            "W3C Trace Context of your request's span; another value is ignored.",
            {"type": "string"},
        ),
        "content-encoding": header(
            "Content-Encoding", "Encoding of the body.", {"enum": ["gzip", "x-gzip", "identity", ""]}
        ),
        "idempotency-key": header(
            "Idempotency-Key",
            "Identifies the request: repeat it when you retry. Without it, a retry counts again.",
            {"type": "string", "pattern": "^[!-~]{1,200}$"},
        ),
    }


def _schemas(settings: Settings) -> Node:
    found: Node = {}
    models: list[type[BaseModel]] = [_Problem, _InvalidItems, _DryRun, _Health, *lookup_models()]
    for model in models:
        found |= _component(model.__name__.removeprefix("_"), model)
    for source, kinds in _KINDS.items():
        for event, data in kinds.items():
            found |= _component(f"{source}-{event}-data", data)
            found[f"{source}-{event}"] = {
                "type": "object",
                "required": ["event", "data"],
                "properties": {
                    "event": {"const": event},
                    "data": {"$ref": f"#/components/schemas/{source}-{event}-data"},
                },
            }
        items = {
            "type": "array",
            "maxItems": settings.items_max,
            "items": {"anyOf": [{"$ref": f"#/components/schemas/{source}-{event}"} for event in kinds]},
        }
        found[source] = {
            "anyOf": [{"type": "object", "required": ["items"], "properties": {"items": items}}, items]
        }
    found["gameball"] = _gameball(settings.items_max)
    return found


def _component(name: str, model: type[BaseModel]) -> Node:
    """The schema of a model, and those of the models within it, without generated titles."""
    schema = model.model_json_schema(ref_template=f"#/components/schemas/{name}-{{model}}")
    inner = schema.pop("$defs", {})
    named = {name: schema} | {f"{name}-{key}": each for key, each in inner.items()}
    for each in named.values():
        each.pop("title", None)
        each["description"] = each.get("description", "").replace("``", "`")
        for field in each.get("properties", {}).values():
            field.pop("title", None)
            if not isinstance(field.get("default"), bool):  # others are internal forms, or null
                field.pop("default", None)
    return named


def _gameball(items_max: int) -> Node:
    """Gameball's body: its reader has limits instead of a model."""

    def text(longest: int) -> Node:
        return {"type": "string", "maxLength": longest}

    entries = {"anyOf": [text(gameball.LIST_STRING_MAX), {"type": "number"}]}
    value = {
        "anyOf": [
            {"type": "number"},
            text(gameball.STRING_MAX),
            {"type": "array", "maxItems": gameball.LIST_MAX, "items": entries},
        ]
    }
    metadata = {
        "type": ["object", "null"],
        "maxProperties": gameball.KEYS_MAX,
        "propertyNames": {"maxLength": gameball.NAME_MAX},
        "additionalProperties": value,
    }
    name: Node = {"minLength": 1, "maxLength": gameball.NAME_MAX}
    contact: Node = {"type": ["string", "null"], "maxLength": gameball.NAME_MAX}
    merges = "Kept only where channel merging is on; players that share it are then one person."
    return {
        "type": "object",
        "required": ["playerUniqueId", "events"],
        "properties": {
            "playerUniqueId": {"type": "string", **name},
            "mobile": contact | {"description": merges},
            "email": contact | {"description": merges},
            "events": {
                "type": "object",
                "description": "Metadata by event name.",
                "maxProperties": items_max,
                "propertyNames": name,
                "additionalProperties": metadata,
            },
        },
    }


def _get(name: str, about: str, media_type: str, schema: Node) -> Node:
    return {
        "tags": ["documents"],
        "operationId": name,
        "summary": about,
        "security": [],
        "responses": {"200": {"description": about, "content": {media_type: {"schema": schema}}}},
    }


def _health(path: str) -> Node:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Health"}}}
    return {
        "tags": ["health"],
        "operationId": path.removeprefix("/"),
        "summary": {"/livez": "Live", "/readyz": "Ready", "/healthz": "Live and ready"}[path]
        + ", or not.",
        "security": [],
        "responses": {
            "200": {"description": "It is.", "content": content},
            "503": {"description": "It is not.", "content": content},
        },
    }


def _registry_paths() -> Node:
    """The routes of schemas; docs/data-platform.md describes them."""
    error = {
        "type": "object",
        "required": ["error_code", "message"],
        "properties": {"error_code": {"type": "integer"}, "message": {"type": "string"}},
    }
    refused = {"description": "An error of the registry.", "content": {MEDIA_TYPE: {"schema": error}}}

    def operation(method: str, path: str) -> Node:
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        paged = ["offset", "limit"] if path.endswith(("subjects", "/versions")) else []
        found: Node = {
            "tags": ["schemas"],
            "operationId": f"{method}{path.translate(str.maketrans('/', '_', '{}'))}",
            "security": [],
            "parameters": [
                *(
                    {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                    for name in names
                ),
                *({"name": name, "in": "query", "schema": {"type": "string"}} for name in paged),
            ],
            "responses": {
                "200": {"description": "Found.", "content": {MEDIA_TYPE: {"schema": {}}}},
                "4XX": refused,
                "500": refused,
            },
        }
        if method == "post":
            body = {
                "type": "object",
                "required": ["schema"],
                "properties": {"schema": {"type": "string"}},
            }
            found["requestBody"] = {"required": True, "content": {MEDIA_TYPE: {"schema": body}}}
        return found

    paths: Node = {
        path: {"get": operation("get", path)} for path in Schemas("", (), dict, timeout_s=1).reads
    }
    return paths | {"/subjects/{subject}": {"post": operation("post", "/subjects/{subject}")}}
