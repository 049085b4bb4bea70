"""``/operator``: the page for operators, behind a tenant's own key with the scope read.

The key is in the header of each request and in the browser's session storage, nowhere else. The page
loads nothing from elsewhere.
"""

import base64
import hashlib
import json
import time
import uuid
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from connectors.clickhouse.query import Reader
from connectors.edge.dry_run import dry_run
from connectors.edge.lookups import LOOKUPS, Answer, Lookups, Question
from connectors.edge.problems import Problem
from connectors.edge.tenants import Registry
from connectors.status.canonical import Rows
from connectors.status.mending import MENDING
from connectors.status.recent import errors_by_code, newest_batches
from streams.core.event import Batch
from streams.errors import EnvelopeError
from streams.formats import KINDS, READERS
from streams.settings import Settings

PAGE = Path(__file__).parent / "operator.html"
PATH = "/operator"


def operator_routes(settings: Settings) -> list[Route]:
    """The page, and the questions that it asks."""
    reader = Reader(settings, settings.lookup_timeout_s)
    lookups = Lookups(
        settings,
        Registry(settings.tenants_path),
        reader.rows,
        now=_now,
        observe=lambda path, status, took_s: None,
    )

    def tried(rows: Rows, question: Question) -> Answer:
        return _tried(question, settings.items_max)

    async def page(request: Request) -> Response:
        text, policy = _page()
        return HTMLResponse(
            text,
            headers={
                "content-security-policy": policy,
                "referrer-policy": "no-referrer",
                "cache-control": "no-store",
            },
        )

    return [
        Route(PATH, page),
        lookups.route(f"{PATH}/batches", _batches),
        lookups.route(f"{PATH}/errors", _errors),
        lookups.route(f"{PATH}/dry-run/{{source}}", tried, "POST"),
        *(lookups.route(PATH + path, work) for path, work in LOOKUPS.items()),
    ]


@cache
def _page() -> tuple[str, str]:
    """The page, and the policy that admits its script and its style alone."""
    facts = json.dumps(
        {"kinds": {source: list(kinds) for source, kinds in KINDS.items()}, "mending": MENDING}
    )
    text = PAGE.read_text(encoding="utf-8").replace("FACTS", facts, 1)
    hashes = {name: _hash(text, name) for name in ("script", "style")}
    rules = [
        "default-src 'none'",
        "connect-src 'self'",
        "img-src data:",
        f"script-src '{hashes['script']}'",
        f"style-src '{hashes['style']}'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return text, "; ".join(rules)


def _hash(text: str, element: str) -> str:
    inner = text.split(f"<{element}>")[1].split(f"</{element}>")[0]
    return "sha256-" + base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()


def _now() -> int:
    return time.time_ns() // 1000


def _batches(rows: Rows, question: Question) -> Answer:
    tenant = question.caller.name
    return {"tenant": tenant, "batches": newest_batches(rows, tenant)}


def _errors(rows: Rows, question: Question) -> Answer:
    return {"errors": errors_by_code(rows, question.caller.name)}


def _tried(question: Question, items_max: int) -> Answer:
    """A dry run of a pasted body. Nothing is written."""
    source = question.request.path_params["source"]
    if source not in READERS:
        raise Problem(404, "unknown_kind", f"There is no format {source}.")
    tenant = question.caller.tenant
    batch = Batch(
        tenant=question.caller.name,
        source=source,
        batch_id=str(uuid.uuid4()),
        received_at=_now(),
        counts=tenant.campaigns_enabled,
        merges_channels=tenant.channel_merging,
        idempotency_key=None,
    )
    try:
        READERS[source](question.body, batch, items_max)
    except EnvelopeError as error:
        raise Problem(400, error.code, error.message, pointer=error.pointer) from None
    return dry_run(batch, question.body)
