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

import msgspec
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from connectors.campaigns.folder import Definitions
from connectors.campaigns.live import Live, Snapshot
from connectors.campaigns.model.definition import Campaign
from connectors.clickhouse.kept_play import DIMENSIONS
from connectors.console import data
from connectors.console.login import Login, how
from connectors.console.operator import PATH, operator_routes
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
ROWS_MAX = 1000
_LOOK_S, _LINE_S = 1.0, 5.0
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class Console:
    """What the pages share: the definitions, the standings in memory, and the stream to the pages."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._definitions = Definitions(folder)
        self.live = Live(settings, self._definitions.campaigns)
        self.stream = Stream()
        self._has_login = how(settings) == "token"
        self._one_effect = asyncio.Lock()
        self._stop = threading.Event()

    def routes(self) -> list[BaseRoute]:
        """The page, its files, and its questions."""
        return [
            Route("/", self._page),
            Route("/campaigns/{name}", self._page),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/api/stream", self._events),
            Route("/api/campaigns/{name}", self._campaign),
            Route("/api/campaigns/{name}/player", self._player),
            Route("/api/campaigns/{name}/effect", self._effect, methods=["POST"]),
            Route("/api/tenants", self._tenants),
            Route("/api/kpis/{tenant}", self._kpis),
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
        """Sends the state of the line while anybody reads."""
        while True:
            if self.stream.readers:
                try:
                    found = await asyncio.to_thread(data.line, self._settings)
                    self.stream.publish("line", "line", found)
                except RoundhouseError as error:
                    self.stream.publish("line", "line", {"error": str(error)})
            await asyncio.sleep(_LINE_S if self.stream.readers else _LOOK_S)

    async def _page(self, request: Request) -> Response:
        return FileResponse(PAGE, headers=_HEADERS)

    async def _events(self, request: Request) -> Response:
        if self.stream.readers >= READERS_MAX:
            return _json({"error": f"{READERS_MAX} pages are open, which is the most"}, 503)
        events = self.stream.events(request.headers.get("last-event-id"))
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    async def _campaign(self, request: Request) -> Response:
        """At ``offset`` and of ``limit`` rows, or the players whose id has ``search``."""
        campaign = self._named(request)
        if campaign is None:
            return _unknown(request)
        query = request.query_params
        offset, limit = query.get("offset", "0"), query.get("limit", "50")
        if not offset.isdecimal() or not limit.isdecimal() or not 0 < int(limit) <= ROWS_MAX:
            return _json({"error": f"offset must be 0 or more, and limit 1 to {ROWS_MAX}"}, 400)
        snapshot = self.live.snapshot(campaign.name)
        found = data.summary(campaign, snapshot, datetime.now(UTC)) | {"rows": []}
        if snapshot is None:
            return _json(found)
        search = query.get("search", "")

        def rows() -> Any:
            if search:
                return data.standings(snapshot.found(search, int(limit)))
            return data.standings(snapshot.rows(int(offset), int(limit)))

        return await _answer(lambda: found | {"rows": rows()})

    async def _player(self, request: Request) -> Response:
        asked = partial(data.player, player_id=request.query_params.get("id", ""))
        return await self._of_snapshot(request, asked)

    async def _effect(self, request: Request) -> Response:
        async with self._one_effect:
            return await self._of_snapshot(request, data.effect)

    async def _of_snapshot(
        self, request: Request, work: Callable[[Settings, Campaign, Snapshot], Any]
    ) -> Response:
        campaign = self._named(request)
        if campaign is None:
            return _unknown(request)
        snapshot = self.live.snapshot(campaign.name)
        if snapshot is None:
            return _json({"error": "this campaign is being evaluated; ask again in a moment"}, 503)
        return await _answer(partial(work, self._settings, campaign, snapshot))

    async def _tenants(self, request: Request) -> Response:
        return await _answer(partial(data.tenants, self._settings))

    async def _kpis(self, request: Request) -> Response:
        query = request.query_params
        grain, by = query.get("grain", "hour"), query.get("by", "tenant")
        if grain not in data.GRAINS or by not in DIMENSIONS:
            grains, dimensions = ", ".join(data.GRAINS), ", ".join(DIMENSIONS)
            return _json({"error": f"grain must be one of {grains}, and by one of {dimensions}"}, 400)
        return await _answer(
            partial(data.kpis, self._settings, request.path_params["tenant"], grain, by)
        )

    def _named(self, request: Request) -> Campaign | None:
        name = request.path_params["name"]
        return next((each for each in self._definitions.campaigns() if each.name == name), None)


async def _answer(work: Callable[[], Any]) -> Response:
    try:
        return _json(await asyncio.to_thread(work))
    except RoundhouseError as error:
        return _json({"error": str(error)}, 503)


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _unknown(request: Request) -> Response:
    return _json({"error": f"there is no campaign {request.path_params['name']}"}, 404)


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
