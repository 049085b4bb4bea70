"""``roundhouse console``: the page of campaigns, the page for operators, and the JSON behind them. It
changes nothing.

Standings come from memory (:mod:`connectors.campaigns.live`); what changes is sent to the pages as
server-sent events (:mod:`connectors.console.stream`).
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from socket import socket
from typing import Any

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from connectors.campaigns.folder import Definitions
from connectors.campaigns.live import Live
from connectors.console import data, kpis, ledger
from connectors.console.login import Login, how
from connectors.console.operator import PATH, operator_routes
from connectors.console.questions import Questions, answer, as_json, page_of
from connectors.console.stream import READERS_MAX, Stream
from connectors.local.ports import Ports
from streams.errors import RoundhouseError
from streams.runtime.fail_stop import end_with_status_0_on_signals, end_within, fail_stop
from streams.settings import Settings
from streams.telemetry.health import judged
from streams.telemetry.process_metrics import process_registry
from streams.telemetry.status_server import serving

STATIC = Path(__file__).parent / "static"
PAGE = Path(__file__).parent / "page.html"
_LOOK_S, _LINE_S = 1.0, 5.0
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class _Static(StaticFiles):
    """Files that a browser asks for again each time, so that all are of one version."""

    def file_response(self, *given: Any, **named: Any) -> Response:
        response = super().file_response(*given, **named)
        response.headers["cache-control"] = "no-cache"
        return response


class Console:
    """What the pages share: the definitions, the standings in memory, and the stream to the pages."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._definitions = Definitions(folder)
        self.live = Live(settings, self._definitions.campaigns)
        self.stream = Stream()
        self._has_login = how(settings) == "token"
        self._questions = Questions(settings, self._definitions, self.live)
        self._kpis = kpis.Kpis(settings)
        self._one_question = asyncio.Lock()
        self._stop = threading.Event()

    def routes(self) -> list[BaseRoute]:
        """The page, its files, and its questions."""
        return [
            Route("/", self._page),
            Route("/campaigns/{name}", self._page),
            Mount("/static", _Static(directory=STATIC)),
            Route("/api/stream", self._events),
            *self._questions.routes(),
            Route("/api/tenants", self._tenants),
            Route("/api/kpis/{tenant}", self._page_of_kpis),
            Route("/api/kpis/{tenant}/csv", self._kpis_csv),
        ]

    @asynccontextmanager
    async def running(self, app: Starlette) -> AsyncIterator[None]:
        """Evaluates, and tells the pages, until the application ends."""
        thread = threading.Thread(target=self._run_live, name="live")
        thread.start()
        tasks = [asyncio.create_task(work) for work in (self._tell(), self._tell_of_the_line())]
        for task in tasks:
            task.add_done_callback(_failed)
        try:
            yield
        finally:
            self._stop.set()
            for task in tasks:
                task.cancel()
            await asyncio.to_thread(thread.join)

    def _run_live(self) -> None:
        try:
            self.live.run(self._stop)
        except Exception as error:
            fail_stop(error)

    async def _tell(self) -> None:
        """Sends what changed of the campaigns."""
        told: set[str] = set()
        while True:
            at = datetime.now(UTC)
            campaigns = await asyncio.to_thread(self._definitions.campaigns)
            for campaign in campaigns:
                value = data.summary(campaign, self.live.peek(campaign.name), at)
                self.stream.publish(f"campaign {campaign.name}", "campaign", value)
            names = {campaign.name for campaign in campaigns}
            for name in told - names:
                self.stream.forget(f"campaign {name}")
            told = names
            wrong = [*self._definitions.wrong(), *filter(None, [self.live.problem])]
            overview = {"names": sorted(names), "wrong": wrong, "login": self._has_login}
            self.stream.publish("overview", "overview", overview)
            await asyncio.sleep(_LOOK_S)

    async def _tell_of_the_line(self) -> None:
        """Sends the state of the line, and which campaigns are settled, while anybody reads."""
        while True:
            if self.stream.readers:
                try:
                    found = await asyncio.to_thread(data.line, self._settings)
                    self.stream.publish("line", "line", found)
                    campaigns = await asyncio.to_thread(self._definitions.campaigns)
                    settled = await asyncio.to_thread(ledger.settled, self._settings, campaigns)
                    self.stream.publish("settled", "settled", settled)
                except RoundhouseError as error:
                    self.stream.publish("line", "line", {"error": str(error)})
            await asyncio.sleep(_LINE_S if self.stream.readers else _LOOK_S)

    async def _page(self, request: Request) -> Response:
        return FileResponse(PAGE, headers=_HEADERS)

    async def _events(self, request: Request) -> Response:
        if self.stream.readers >= READERS_MAX:
            return as_json({"error": f"{READERS_MAX} pages are open, which is the most"}, 503)
        events = self.stream.events(request.headers.get("last-event-id"))
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    async def _tenants(self, request: Request) -> Response:
        def found() -> Any:
            return {
                "tenants": data.tenants(self._settings),
                "currencies": self._kpis.currencies(),
            }

        return await answer(found)

    async def _page_of_kpis(self, request: Request) -> Response:
        """At ``offset`` and of ``limit`` rows, in the order of the column ``sort``."""
        question, page, query = _question(request), page_of(request), request.query_params
        if isinstance(page, str) or isinstance(question, str):
            return as_json({"error": page if isinstance(page, str) else question}, 400)
        column, order = query.get("sort", "period"), query.get("order", "desc")
        if column not in question.kind.columns or order not in ("asc", "desc"):
            columns = ", ".join(question.kind.columns)
            return as_json({"error": f"sort must be one of {columns}, and order asc or desc"}, 400)
        wanted = kpis.Order(column, order == "desc", *page)
        async with self._one_question:
            return await answer(partial(self._kpis.page, question, wanted))

    async def _kpis_csv(self, request: Request) -> Response:
        question = _question(request)
        if isinstance(question, str):
            return as_json({"error": question}, 400)
        try:
            async with self._one_question:
                found = await asyncio.to_thread(self._kpis.csv, question)
        except RoundhouseError as error:
            return as_json({"error": str(error)}, 503)
        name = f"kpis-{question.of}-{question.by}-{question.grain}.csv"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(found, media_type="text/csv", headers=headers)


def _question(request: Request) -> kpis.Question | str:
    """What is asked of KPIs, or what is wrong with it."""
    query = request.query_params
    names = [name for name in kpis.Question._fields[1:] if query.get(name)]
    question = kpis.Question(request.path_params["tenant"], **{name: query[name] for name in names})
    return question.problem() or question


def _failed(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()):
        fail_stop(error)


def create_app(settings: Settings, console: Console | None) -> Starlette:
    """The page for operators, which needs a key; and the page of campaigns, unless it is None."""
    operators: list[BaseRoute] = list(operator_routes(settings))
    if console is None:
        return Starlette(routes=operators)
    return Starlette(
        routes=[*operators, *console.routes()],
        middleware=[Middleware(Login, settings=settings, free=PATH)],
        lifespan=console.running,
    )


class _Server(uvicorn.Server):
    """Ends the answers that have no end when it stops; it would wait for them."""

    def __init__(self, config: uvicorn.Config, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop = stop

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        self._stop()
        await super().shutdown(sockets)


def serve(
    settings: Settings, folder: Path, say: Callable[[str], None], operators_only: bool = False
) -> None:
    """Serves until told to stop; ``say`` receives the page's address first."""
    host = settings.console_host
    if not operators_only:
        how(settings)  # before anything starts
    with Ports() as ports:
        port = ports.hold("ROUNDHOUSE_CONSOLE_PORT", host, settings.console_port)
        say(f"http://{host}:{port}")
        with serving(settings, "console", process_registry(settings.data_dir), lambda: judged({})):
            end_with_status_0_on_signals()
            _serve(settings, None if operators_only else folder, host, port)


def _serve(settings: Settings, folder: Path | None, host: str, port: int) -> None:
    async def run() -> None:
        console = Console(settings, folder) if folder else None

        def stop() -> None:
            end_within(settings.stop_within_s)
            if console:
                console.stream.close()

        config = uvicorn.Config(
            create_app(settings, console),
            host=host,
            port=port,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # the login must see who is connected
            timeout_graceful_shutdown=max(1, int(settings.stop_within_s / 2)),
        )
        await _Server(config, stop).serve()

    uvloop.run(run())
