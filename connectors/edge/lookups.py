"""Questions about what was posted: answered from ClickHouse, to the tenant of the key alone.

A question never takes part in a post: it runs in threads of its own, few at once for the process and
fewer for one tenant, takes from a bucket of its own, and ends in time.
"""

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.edge.body import Room, Share, read_body
from connectors.edge.fair_use import FairUse, Quota
from connectors.edge.keys import allow, caller_of
from connectors.edge.problems import Problem
from connectors.edge.tenants import Caller, Registry
from connectors.status.batches import ITEMS_MAX, OUTCOMES, Page, status
from connectors.status.canonical import Rows
from connectors.status.events import history
from streams.errors import ClickHouseUnavailable
from streams.formats import KINDS
from streams.settings import Settings

log = logging.getLogger(__name__)

KEY_HEADER = "x-api-key"
AT_ONCE, OF_A_TENANT = 4, 2
"""Questions that an edge process asks ClickHouse at the same time, of all tenants and of one."""

RETRY_AFTER_S = 2
"""When to ask again: after an outage, and about a batch that was stored a moment ago."""

Answer = dict[str, Any]


class Question(NamedTuple):
    """A request of a tenant; ``body`` is that of a POST."""

    caller: Caller
    request: Request
    body: bytes = b""


Work = Callable[[Rows, Question], Answer]
"""Answers a question. Raises :class:`Problem`."""


class Lookups:
    """Answers questions. ``now`` returns microseconds since the epoch; ``observe`` is called with the
    path, the status and the seconds of each answer.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        rows: Rows,
        *,
        now: Callable[[], int],
        observe: Callable[[str, int, float], None],
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._rows = rows
        self._now = now
        self._observe = observe
        self._fair_use = FairUse(settings, ("requests",))
        self._room = Room(settings.held_bytes_max)
        self._threads = ThreadPoolExecutor(AT_ONCE, "lookup")
        self._free = asyncio.Semaphore(AT_ONCE)
        self._free_of = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(OF_A_TENANT))

    def route(self, path: str, work: Work, method: str = "GET") -> Route:
        """The route of a question."""
        # the id of an event may contain slashes
        matched = path.replace("{event_id}", "{event_id:path}")
        return Route(matched, self._endpoint(path, work), methods=[method])

    def close(self) -> None:
        """Waits for no question."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _endpoint(self, path: str, work: Work) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            began = time.monotonic()
            quota: Quota | None = None
            try:
                caller = caller_of(self._registry, request.headers.get(KEY_HEADER), KEY_HEADER)
                allow(caller, "read", self._now())
                quota = self._fair_use.quota(caller.name, caller.tenant, self._now())
                if quota is not None:
                    quota.admit(self._now())
                with self._room.share() as share:
                    question = Question(caller, request, await self._body(request, share))
                    found = await self._answered(caller.name, partial(work, self._rows, question))
                response = Response(msgspec.json.encode(found), media_type="application/json")
            except Problem as problem:
                response = problem.response()
                await asyncio.sleep(problem.delay_s)
            if quota is not None:
                response.headers.update(quota.headers(self._now()))
            self._observe(path, response.status_code, time.monotonic() - began)
            return response

        return answer

    async def _body(self, request: Request, share: Share) -> bytes:
        if request.method != "POST":
            return b""
        settings = self._settings
        return await read_body(request, settings.body_bytes_max, share, settings.request_timeout_s)

    async def _answered(self, tenant: str, work: Callable[[], Answer]) -> Answer:
        try:
            async with asyncio.timeout(self._settings.lookup_timeout_s):
                return await self._in_a_thread(tenant, work)
        except (TimeoutError, ClickHouseUnavailable) as error:
            log.warning("a lookup of %s was not answered: %s", tenant, error or "time-out")
            raise Problem(
                503,
                "lookup_unavailable",
                "ClickHouse does not answer, or too many questions wait. Posting is not affected. Ask "
                "again.",
                {"Retry-After": str(RETRY_AFTER_S)},
            ) from None

    async def _in_a_thread(self, tenant: str, work: Callable[[], Answer]) -> Answer:
        """Runs ``work`` once a thread is free; the thread counts as taken until the work ends."""
        with contextlib.ExitStack() as held:
            for free in (self._free_of[tenant], self._free):
                await free.acquire()
                held.callback(free.release)
            running = asyncio.get_running_loop().run_in_executor(self._threads, work)
            until_the_end = held.pop_all()

        def ended(work: asyncio.Future[Answer]) -> None:
            until_the_end.close()
            if not work.cancelled():
                work.exception()  # nobody may be waiting for it any more

        running.add_done_callback(ended)
        return await asyncio.shield(running)


def _batch(rows: Rows, question: Question) -> Answer:
    request = question.request
    found = status(rows, question.caller.name, request.path_params["batch_id"], _page(request))
    if found is None:
        raise Problem(
            404,
            "unknown_batch",
            "No batch of yours with this id is known. One that was stored a moment ago becomes known "
            "after some seconds: ask again.",
            {"Retry-After": str(RETRY_AFTER_S)},
        )
    return found


def _event(rows: Rows, question: Question) -> Answer:
    request = question.request
    source, kind, event_id = (request.path_params[name] for name in ("source", "kind", "event_id"))
    if kind not in KINDS.get(source, ()):
        known = "; ".join(f"{name}: {', '.join(kinds)}" for name, kinds in KINDS.items())
        raise Problem(400, "unknown_kind", f"No format {source} has a kind {kind}. Known are {known}.")
    subject = request.query_params.get("subject")
    found = history(rows, question.caller.name, source, kind, event_id, subject=subject)
    if not found["accepted"] and not found["refused"]:
        raise Problem(
            404,
            "unknown_event_id",
            "No event of yours with this id is known. One that was stored a moment ago becomes known "
            "after some seconds: ask again.",
            {"Retry-After": str(RETRY_AFTER_S)},
        )
    return found


LOOKUPS: dict[str, Work] = {
    "/api/v1/batches/{batch_id}": _batch,
    "/api/v1/events/{source}/{kind}/{event_id}": _event,
}
"""The questions, by path."""


def _page(request: Request) -> Page:
    given = request.query_params
    offset, limit = given.get("offset", "0"), given.get("limit", str(ITEMS_MAX))
    outcome = given.get("outcome")
    if not _is_number(offset) or not _is_number(limit) or not 1 <= int(limit) <= ITEMS_MAX:
        raise Problem(
            400, "bad_page", f"offset must be 0 or more, and limit 1 to {ITEMS_MAX}, as plain digits."
        )
    if outcome is not None and outcome not in OUTCOMES:
        raise Problem(400, "bad_outcome", f"outcome must be one of {', '.join(OUTCOMES)}.")
    return Page(int(offset), int(limit), outcome)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
