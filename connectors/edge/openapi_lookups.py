"""The part of the OpenAPI document about questions: :mod:`connectors.edge.lookups`."""

from typing import Any

from pydantic import BaseModel, Field

from connectors.edge.lookups import KEY_HEADER, RETRY_AFTER_S
from connectors.status.batches import ITEMS_MAX, OUTCOMES, ItemOutcome

Node = dict[str, Any]

LOOKUP_ANSWERS: dict[int, tuple[str, tuple[str, ...]]] = {
    400: ("A parameter is wrong.", ("bad_page", "bad_outcome")),
    401: ("The header with the API key is missing.", ("no_key",)),
    403: (
        "No tenant has this key, or it was revoked, has expired, or may not read.",
        ("unknown_key", "expired_key", "wrong_scope"),
    ),
    404: (
        "Your tenant has no such batch, or it is not known yet: ask again after Retry-After seconds.",
        ("unknown_batch",),
    ),
    429: ("The tenant asks more than its limit of requests.", ("rate_limited",)),
    500: ("A defect of Roundhouse.", ("bug",)),
    503: (
        "ClickHouse does not answer, or too many questions wait. Ask again after Retry-After seconds.",
        ("lookup_unavailable",),
    ),
}
"""The error answers to a question, by status: what they mean, and the codes that they carry."""

_WITH_RETRY_AFTER = (404, 429, 503)


class LookupProblem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str = Field(description="Stable name of the error.")
    detail: str = Field(description="What is wrong, and how to correct it.")


class _ItemError(BaseModel):
    """One error of an item."""

    code: str
    pointer: str = Field(description="JSON pointer into the body.")
    message: str


class _Item(BaseModel):
    """What became of one item. A conflict and a rejected item have a reject and its errors."""

    index: int = Field(
        ge=-1, description="Index of the item in the body; -1 stands for a body refused as a whole."
    )
    outcome: ItemOutcome
    reject_id: str = Field(default="", description="Id of the reject.")
    errors: list[_ItemError] = []


class _BatchStatus(BaseModel):
    """What became of a batch. Its items are a page of those that were asked for."""

    batch_id: str
    received_at: str = Field(description="When the edge received the request, ISO 8601, UTC.")
    source: str = Field(description="The format.")
    settled: bool = Field(description="Whether every item is counted.")
    received: int
    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    on_the_way: int = Field(description="Items that are not counted yet.")
    items: list[_Item] = Field(max_length=ITEMS_MAX)
    next_offset: int | None = Field(description="`offset` of the next page; null at the end.")


def lookup_models() -> tuple[type[BaseModel], ...]:
    """The models of answers. Their names in the document have no leading underscore."""
    return LookupProblem, _BatchStatus


def lookup_paths() -> Node:
    """The questions, by path."""
    return {
        "/api/v1/batches/{batch_id}": {
            "get": _operation(
                "batch_status",
                "What became of a batch, item by item.",
                "BatchStatus",
                [
                    _parameter(
                        "batch_id",
                        "path",
                        "The `x-batch-id` of the answer to the post.",
                        {"type": "string"},
                    ),
                    _parameter(
                        "offset",
                        "query",
                        "The number of items to skip.",
                        {"type": "integer", "minimum": 0, "maximum": 999_999_999, "default": 0},
                    ),
                    _parameter(
                        "limit",
                        "query",
                        "The most items of the answer.",
                        {"type": "integer", "minimum": 1, "maximum": ITEMS_MAX, "default": ITEMS_MAX},
                    ),
                    _parameter(
                        "outcome", "query", "Only items with this outcome.", {"enum": list(OUTCOMES)}
                    ),
                ],
            )
        }
    }


def lookup_answers() -> Node:
    """The error answers as components."""
    return {_name(status): _answer(status) for status in LOOKUP_ANSWERS}


def _name(status: int) -> str:
    return f"lookup-{status}"


def _parameter(name: str, place: str, about: str, schema: Node) -> Node:
    return {
        "name": name,
        "in": place,
        "description": about,
        "required": place == "path",
        "schema": schema,
    }


def _operation(name: str, about: str, model: str, parameters: list[Node]) -> Node:
    found = {
        "description": "Found.",
        "headers": _limit_headers(),
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{model}"}}},
    }
    errors = {
        str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in LOOKUP_ANSWERS
    }
    return {
        "tags": ["lookups"],
        "operationId": name,
        "summary": about,
        "security": [{KEY_HEADER: []}],
        "parameters": parameters,
        "responses": {"200": found, **errors},
    }


def _answer(status: int) -> Node:
    about, codes = LOOKUP_ANSWERS[status]
    headers = _limit_headers()
    if status in _WITH_RETRY_AFTER:
        headers["Retry-After"] = {
            "description": "Seconds to wait before the question is asked again.",
            "required": True,
            "schema": {"type": "integer", "minimum": 0},
            "example": RETRY_AFTER_S,
        }
    narrowed = {"properties": {"status": {"const": status}, "code": {"enum": list(codes)}}}
    schema = {"allOf": [{"$ref": "#/components/schemas/LookupProblem"}, narrowed]}
    return {
        "description": about,
        "headers": headers,
        "content": {"application/problem+json": {"schema": schema}},
    }


def _limit_headers() -> Node:
    names = ("RateLimit-Policy", "RateLimit")
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
