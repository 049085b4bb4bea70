"""The part of the OpenAPI document about questions: :mod:`connectors.edge.lookups`."""

from typing import Any

from pydantic import BaseModel, Field

from connectors.edge.lookups import KEY_HEADER, RETRY_AFTER_S
from connectors.status.batches import ITEMS_MAX, OUTCOMES, ItemOutcome
from connectors.status.events import SHOWN_MAX
from streams.formats import KINDS

Node = dict[str, Any]

LOOKUP_ANSWERS: dict[int, tuple[str, tuple[str, ...]]] = {
    400: ("A parameter is wrong.", ("bad_page", "bad_outcome", "unknown_kind")),
    401: ("The header with the API key is missing.", ("no_key",)),
    403: (
        "No tenant has this key, or it was revoked, has expired, or may not read.",
        ("unknown_key", "expired_key", "wrong_scope"),
    ),
    404: (
        "Your tenant has no such batch or event, or it is not known yet: ask again after Retry-After "
        "seconds.",
        ("unknown_batch", "unknown_event_id"),
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


class _Place(BaseModel):
    """Where an item was posted."""

    received_at: str = Field(description="When the edge received the request, ISO 8601, UTC.")
    batch_id: str
    index: int = Field(description="Index of the item in the body.")


class _Difference(BaseModel):
    """A field in which two items with the same id differ."""

    field: str = Field(description="Path of names in the canonical event, with slashes.")
    accepted: Any = Field(description="Its value in the accepted item; null if it has none.")
    refused: Any = Field(description="Its value in the refused item; null if it has none.")


class _Refused(BaseModel):
    """The reject of an item. One with the code `id_conflict` has the accepted item and what differs."""

    reject_id: str = Field(default="", description="Id of the reject.")
    errors: list[_ItemError] = []
    accepted: _Place | None = Field(default=None, description="The accepted item with the same id.")
    differences: list[_Difference] = []


class _Item(_Refused):
    """What became of one item. A conflict and a rejected item have a reject and its errors."""

    index: int = Field(
        ge=-1, description="Index of the item in the body; -1 stands for a body refused as a whole."
    )
    outcome: ItemOutcome


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


class _AcceptedItem(_Place):
    """An item that was accepted."""

    contract: str = Field(description="Contract of the events.")
    events: list[dict[str, Any]] = Field(description="Canonical; money as decimal text.")


class _RefusedItem(_Refused, _Place):
    """An item that was refused."""

    outcome: ItemOutcome


class _EventHistory(BaseModel):
    """The newest items with an id, accepted and refused."""

    source: str = Field(description="The format.")
    kind: str = Field(description="The format's name of the kind.")
    id: str
    accepted: list[_AcceptedItem] = Field(max_length=SHOWN_MAX)
    refused: list[_RefusedItem] = Field(max_length=SHOWN_MAX)


def lookup_models() -> tuple[type[BaseModel], ...]:
    """The models of answers. Their names in the document have no leading underscore."""
    return LookupProblem, _BatchStatus, _EventHistory


def lookup_paths() -> Node:
    """The questions, by path."""
    text = {"type": "string"}
    offset = {"type": "integer", "minimum": 0, "maximum": 999_999_999, "default": 0}
    limit = {"type": "integer", "minimum": 1, "maximum": ITEMS_MAX, "default": ITEMS_MAX}
    kinds = sorted(name for kinds in KINDS.values() for name in kinds)
    batch = [
        _parameter("batch_id", "path", "The `x-batch-id` of the answer to the post.", text),
        _parameter("offset", "query", "The number of items to skip.", offset),
        _parameter("limit", "query", "The most items of the answer.", limit),
        _parameter("outcome", "query", "Only items with this outcome.", {"enum": list(OUTCOMES)}),
    ]
    event = [
        _parameter("source", "path", "The format.", {"enum": list(KINDS)}),
        _parameter("kind", "path", "The format's name of the kind.", {"enum": kinds}),
        _parameter("event_id", "path", "The id, as a dry run shows it in `idempotency_key`.", text),
        _parameter(
            "subject",
            "query",
            "The player, or the game of a game: finds the event faster.",
            text,
        ),
    ]
    return {
        "/api/v1/batches/{batch_id}": {
            "get": _operation(
                "batch_status", "What became of a batch, item by item.", "BatchStatus", batch
            )
        },
        "/api/v1/events/{source}/{kind}/{event_id}": {
            "get": _operation(
                "event_history",
                "When an event was accepted, from which batch, and the refusals of its id.",
                "EventHistory",
                event,
            )
        },
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
