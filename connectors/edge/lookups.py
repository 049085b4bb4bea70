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
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connectors.edge.fair_use import FairUse, Quota
from connectors.edge.keys import allow, caller_of
from connectors.edge.metrics import EdgeMetrics
from connectors.edge.problems import Problem
from connectors.edge.tenants import Registry
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
Work = Callable[[Rows, str, Request], Answer]
"""Answers a question of a tenant. Raises :class:`Problem`."""


class Lookups:
    """Answers questions. ``now`` returns microseconds since the epoch."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        rows: Rows,
        metrics: EdgeMetrics,
        *,
        now: Callable[[], int],
    ) -> None:
        self._registry = registry
        self._rows = rows
        self._metrics = metrics
        self._now = now
        self._timeout_s = settings.lookup_timeout_s
        self._fair_use = FairUse(settings, ("requests",))
        self._threads = ThreadPoolExecutor(AT_ONCE, "lookup")
        self._free = asyncio.Semaphore(AT_ONCE)
        self._free_of = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(OF_A_TENANT))

    def routes(self) -> list[Route]:
        """The routes of all questions."""
        return [
            Route(path.replace("{event_id}", "{event_id:path}"), self._endpoint(path, work))
            for path, work in LOOKUPS.items()
        ]

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
                found = await self._answered(
                    caller.name, partial(work, self._rows, caller.name, request)
                )
                response = Response(msgspec.json.encode(found), media_type="application/json")
            except Problem as problem:
                response = problem.response()
                await asyncio.sleep(problem.delay_s)
            if quota is not None:
                response.headers.update(quota.headers(self._now()))
            self._metrics.looked_up(path, response.status_code, time.monotonic() - began)
            return response

        return answer

    async def _answered(self, tenant: str, work: Callable[[], Answer]) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_s):
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


def _batch(rows: Rows, tenant: str, request: Request) -> Answer:
    batch_id = request.path_params["batch_id"]
    found = status(rows, tenant, batch_id, _page(request))
    if found is None:
        raise Problem(
            404,
            "unknown_batch",
            "No batch of yours with this id is known. One that was stored a moment ago becomes known "
            "after some seconds: ask again.",
            {"Retry-After": str(RETRY_AFTER_S)},
        )
    return found


def _event(rows: Rows, tenant: str, request: Request) -> Answer:
    source, kind, event_id = (request.path_params[name] for name in ("source", "kind", "event_id"))
    if kind not in KINDS.get(source, ()):
        known = "; ".join(f"{name}: {', '.join(kinds)}" for name, kinds in KINDS.items())
        raise Problem(400, "unknown_kind", f"No format {source} has a kind {kind}. Known are {known}.")
    subject = request.query_params.get("subject")
    found = history(rows, tenant, source, kind, event_id, subject=subject)
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
"""The questions, by path. The id of an event may contain slashes."""


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
