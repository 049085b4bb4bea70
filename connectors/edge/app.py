"""The edge's HTTP interface; docs/operators.md describes it for operators.

The steps of a request, and the state after a crash at the end of each:

1. Authenticate, read, validate. Nothing is written; the client gets no answer and posts again.
2. Write the raw batch and wait for Kafka. The batch is written but not answered: the client posts
   again, and the events are recognised as duplicates.
3. Answer.
"""

import asyncio
import contextlib
import logging
import re
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
from starlette import routing
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from connectors.clickhouse.query import Reader
from connectors.edge.body import RETRY_AFTER_S, Room, Share, read_body
from connectors.edge.documents import document_routes
from connectors.edge.dry_run import dry_run
from connectors.edge.fair_use import FairUse, Quota
from connectors.edge.keys import allow, caller_of
from connectors.edge.lookups import LOOKUPS, Lookups
from connectors.edge.metrics import NOBODY, EdgeMetrics
from connectors.edge.problems import Problem
from connectors.edge.routes import ROUTES, Route
from connectors.edge.schemas import schema_routes
from connectors.edge.tenants import Registry, Tenant
from connectors.edge.writer import Writer
from streams.core.event import Batch
from streams.errors import DeliveryFailed, EnvelopeError, TooManyItems
from streams.formats import READERS, stored_body
from streams.formats.erased import without_erased
from streams.formats.gameball import IDEMPOTENCY_KEY
from streams.formats.validation import Invalid, Item
from streams.records.raw_batch import TRACEPARENT
from streams.settings import Settings
from streams.telemetry.health import Health, judged
from streams.telemetry.status_server import health_routes
from streams.telemetry.traces import Traces, trace_id, traceparent_of

log = logging.getLogger(__name__)

_LARGE_BODY = 16_384  # bytes: some 80 items, 0.4 ms
_IDEMPOTENCY_KEY = re.compile(IDEMPOTENCY_KEY)
_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)


class Edge:
    """Answers posts. ``now`` returns microseconds since the epoch."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        writer: Writer,
        metrics: EdgeMetrics,
        now: Callable[[], int],
        *,
        traces: Traces | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.registry = registry
        self.writer = writer
        self.now = now
        self.traces = traces
        self.fair_use = FairUse(settings)
        self.room = Room(settings.held_bytes_max)
        self._reading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        metrics.watch(self.room)

    async def post(self, route: Route, request: Request) -> Response:
        if self.traces is None:
            return await self._post(route, request, None)
        parent, attributes = request.headers.get(TRACEPARENT), {"http.route": route.path}
        with self.traces.request(f"POST {route.path}", parent, attributes) as span:
            response = await self._post(route, request, traceparent_of(span))
            span.set_attribute("http.response.status_code", response.status_code)
            span.set_attribute("roundhouse.batch_id", response.headers["x-batch-id"])
            return response

    async def _post(self, route: Route, request: Request, traceparent: str | None) -> Response:
        began = time.monotonic()
        batch_id = request.state.batch_id = str(uuid.uuid4())
        name, code = NOBODY, ""
        quota: Quota | None = None
        try:
            caller = caller_of(self.registry, request.headers.get(route.key_header), route.key_header)
            name, tenant = caller.name, caller.tenant
            allow(caller, "post", self.now())
            quota = self.fair_use.quota(name, tenant, self.now())
            if quota is not None:
                quota.admit(self.now())
            batch = self._batch(route, request, batch_id, name, tenant)
            if traceparent is not None:
                batch = batch._replace(traceparent=traceparent)
            with self.room.share() as share:
                response = await self._store(route, request, batch, share, quota)
        except Problem as problem:
            problem.body["batch_id"] = batch_id
            response = problem.response()
            code = problem.code
            if problem.delay_s:
                await asyncio.sleep(problem.delay_s)
        except Exception:
            known = {"batch_id": batch_id, "tenant": name}
            log.error("batch %s of %s met a bug; its traceback follows", batch_id, name, extra=known)
            self._answered(route, name, 500, "bug", began)
            raise
        response.headers["x-batch-id"] = batch_id
        if quota is not None:
            response.headers.update(quota.headers(self.now()))
        self._answered(route, name, response.status_code, code, began)
        return response

    def _answered(self, route: Route, tenant: str, status: int, code: str, began: float) -> None:
        self.metrics.answered((route.path, tenant, status, code), time.monotonic() - began)

    def _batch(self, route: Route, request: Request, batch_id: str, name: str, tenant: Tenant) -> Batch:
        if not _JSON.fullmatch(request.headers.get("content-type", "")):
            raise Problem(415, "unsupported_media_type", "Send Content-Type: application/json.")
        key = _idempotency_key(request) if route.source == "gameball" else None
        return tenant.batch(name, route.source, batch_id, self.now())._replace(idempotency_key=key)

    async def _store(
        self, route: Route, request: Request, batch: Batch, share: Share, quota: Quota | None
    ) -> Response:
        settings = self.settings
        is_dry_run = _is_dry_run(request)
        body = await read_body(request, settings.body_bytes_max, share, settings.request_timeout_s)
        if quota is not None:
            quota.take("bytes", len(body))
        try:
            items = await self._items(route, batch, body)
            if marks := self.registry.erased(batch.tenant):
                body, items = without_erased(batch, body, items, marks)
        except TooManyItems as error:
            raise Problem(413, error.code, error.message) from None
        except EnvelopeError as error:
            raise Problem(400, error.code, error.message, pointer=error.pointer) from None
        received = len(items)
        if quota is not None:
            quota.take("items", received)
        self.metrics.read(route.path, len(body), received)
        invalid = [(i, item) for i, item in enumerate(items) if isinstance(item, Invalid)]
        if is_dry_run:
            tried = await asyncio.to_thread(dry_run, batch, body)
            return Response(msgspec.json.encode(tried), media_type="application/json")
        del items  # many requests wait for Kafka at the same time; only their bodies are kept
        try:
            await self.writer.write(batch, stored_body(batch, body), len(invalid))
        except DeliveryFailed as error:
            known = {"batch_id": batch.batch_id, "tenant": batch.tenant}
            if batch.traceparent is not None:
                known["trace_id"] = trace_id(batch.traceparent)
            log.error("batch %s not acknowledged: %s", batch.batch_id, error, extra=known)
            raise Problem(
                503,
                "not_acknowledged",
                "Kafka did not acknowledge the batch. Post the same batch again: what was stored "
                "after all is recognised by its ids.",
                {"Retry-After": str(RETRY_AFTER_S)},
            ) from None
        if invalid:
            raise _some_invalid(received, invalid)
        return Response(status_code=204)

    async def _items(self, route: Route, batch: Batch, body: bytes) -> Sequence[Item | Invalid]:
        """The items of a body. Of the large bodies of a tenant, the event loop reads one at a time, and
        takes up other requests after each."""
        if len(body) < _LARGE_BODY:
            return READERS[route.source](body, batch, self.settings.items_max)
        async with self._reading[batch.tenant]:
            items = READERS[route.source](body, batch, self.settings.items_max)
            await asyncio.sleep(0)
            return items

    def health(self) -> Health:
        """The readiness of the edge. Blocking: it asks Kafka, at most once a second."""
        away_s = self.writer.kafka_away_s()
        facts = {
            "held_bytes": self.room.held,
            "held_bytes_max": self.room.bytes_max,
            "kafka_away_s": away_s,
        }
        if away_s is None:
            return judged(facts)
        return judged(facts, waiting=[f"Kafka has not answered for {away_s:.0f} s: posts get 503"])


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise Problem(
            400, "bad_idempotency_key", "Idempotency-Key must be 1 to 200 printable ASCII characters."
        )
    return key


def _is_dry_run(request: Request) -> bool:
    """Whether nothing may be written. An unclear value is refused: else a trial could be stored."""
    given = request.query_params.getlist("dry_run")
    if any(value not in ("true", "false") for value in given) or len(given) > 1:
        raise Problem(
            400, "bad_dry_run", "Send dry_run=true or dry_run=false, once. Nothing is stored."
        )
    return given == ["true"]


def _some_invalid(received: int, invalid: list[tuple[int, Invalid]]) -> Problem:
    stored = received - len(invalid)
    return Problem(
        422,
        "invalid_items",
        f"{len(invalid)} of {received} items are invalid; the other {stored} are stored. "
        "Mend the invalid ones and post them alone or with the whole batch.",
        received=received,
        stored=stored,
        invalid=len(invalid),
        errors=[
            {"index": index, "code": error.code, "pointer": error.pointer, "message": error.message}
            for index, item in invalid
            for error in item.errors
        ],
    )


def create_app(
    settings: Settings,
    writer: Writer,
    metrics: EdgeMetrics,
    now: Callable[[], int] = lambda: time.time_ns() // 1000,
    traces: Traces | None = None,
) -> Starlette:
    """The ASGI app; ``writer`` is closed with it. ``app.state.edge`` is its :class:`Edge`."""
    registry = Registry(settings.tenants_path)
    edge = Edge(settings, registry, writer, metrics, now, traces=traces)
    reader = Reader(settings, settings.lookup_timeout_s)
    lookups = Lookups(settings, registry, reader.rows, now=now, observe=metrics.looked_up)

    def endpoint(route: Route) -> Callable[[Request], object]:
        async def post(request: Request) -> Response:
            return await edge.post(route, request)

        return post

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        problem = Problem(error.status_code, "no_such_route", error.detail, dict(error.headers or {}))
        problem.headers["x-batch-id"] = str(uuid.uuid4())
        return problem.response()

    async def bug(request: Request, error: Exception) -> Response:
        problem = Problem(500, "bug", "Roundhouse failed. Send the request again.")
        batch_id = getattr(request.state, "batch_id", None) or str(uuid.uuid4())
        problem.headers["x-batch-id"] = problem.body["batch_id"] = batch_id
        return problem.response()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        lookups.close()
        writer.close()

    app = Starlette(
        routes=[
            *(routing.Route(route.path, endpoint(route), methods=["POST"]) for route in ROUTES),
            *(lookups.route(path, work) for path, work in LOOKUPS.items()),
            *health_routes(edge.health),
            *schema_routes(settings),
            *document_routes(settings),
        ],
        exception_handlers={HTTPException: http_error, Exception: bug},
        lifespan=lifespan,
    )
    app.state.edge = edge
    app.router.redirect_slashes = False  # clients do not reliably repeat a redirected POST
    return app
