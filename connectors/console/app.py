"""``roundhouse console``: two pages and the JSON behind them. Reads only."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from connectors.console import data
from connectors.console.operator import operator_routes
from connectors.local.ports import Ports
from streams.errors import RoundhouseError
from streams.runtime.fail_stop import end_with_status_0_on_signals
from streams.settings import Settings
from streams.telemetry.health import judged
from streams.telemetry.process_metrics import process_registry
from streams.telemetry.status_server import serving

PAGE = Path(__file__).parent / "page.html"
TOP_MAX = 1000


def create_app(settings: Settings, folder: Path, operators_only: bool = False) -> Starlette:
    """The page at ``/`` and the one for operators; ``folder`` holds the definitions of campaigns.

    ``operators_only``: the page for operators alone, which needs a key.
    """

    async def answer(work: Callable[[], Any]) -> Response:
        try:
            found = await asyncio.to_thread(work)
        except RoundhouseError as error:
            return _json({"error": str(error)}, 503)
        return _json(found)

    async def page(request: Request) -> Response:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"))

    async def overview(request: Request) -> Response:
        def work() -> Any:
            found, wrong = data.campaigns(folder)
            return {
                "campaigns": [
                    {"name": entry.campaign.name, "title": entry.campaign.title or entry.campaign.name}
                    for entry in found
                ],
                "wrong": wrong,
                "tenants": data.tenants(settings),
            }

        return await answer(work)

    async def standings(request: Request) -> Response:
        name, top = request.path_params["name"], request.query_params.get("top", "10")
        found = {entry.campaign.name: entry for entry in data.campaigns(folder)[0]}
        if name not in found:
            return _json({"error": f"there is no campaign {name}"}, 404)
        if not top.isdecimal() or not 0 < int(top) <= TOP_MAX:
            return _json({"error": f"top must be 1 to {TOP_MAX}"}, 400)
        return await answer(partial(data.standings, settings, found[name], int(top)))

    async def kpis(request: Request) -> Response:
        grain = request.query_params.get("grain", "hour")
        if grain not in data.GRAINS:
            return _json({"error": f"grain must be one of {', '.join(data.GRAINS)}"}, 400)
        return await answer(partial(data.kpis, settings, request.path_params["tenant"], grain))

    async def line(request: Request) -> Response:
        return await answer(partial(data.line, settings))

    open_to_all = [
        Route("/", page),
        Route("/api/overview", overview),
        Route("/api/standings/{name}", standings),
        Route("/api/kpis/{tenant}", kpis),
        Route("/api/line", line),
    ]
    return Starlette(routes=[*operator_routes(settings), *([] if operators_only else open_to_all)])


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def serve(
    settings: Settings, folder: Path, say: Callable[[str], None], operators_only: bool = False
) -> None:
    """Serves until told to stop; ``say`` receives the page's address first."""
    host = settings.console_host
    with Ports() as ports:
        port = ports.hold("ROUNDHOUSE_CONSOLE_PORT", host, settings.console_port)
        say(f"http://{host}:{port}")
        with serving(settings, "console", process_registry(settings.data_dir), lambda: judged({})):
            end_with_status_0_on_signals()
            uvicorn.run(
                create_app(settings, folder, operators_only),
                host=host,
                port=port,
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
            )
