"""What the page of one campaign asks: standings, stages, teams, steps, prizes, a player, the effect,
earlier occurrences, the ledger, and what was settled. Each answer has at most :data:`ROWS_MAX` rows.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec
import polars
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from connectors.campaigns.folder import Definitions
from connectors.campaigns.live import Live, Snapshot
from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.sql import compiler
from connectors.console import data, forms, ledger
from connectors.console.forms import Stages
from connectors.console.settled import Asked, Settled
from streams.errors import DefinitionError, RoundhouseError
from streams.settings import Settings

ROWS_MAX = 1000
_COMPUTED = "this campaign is being evaluated; ask again in a moment"

Work = Callable[[Campaign, Snapshot], Any]


_T = TypeVar("_T")


class _Kept(Generic[_T]):
    """What was made of the last snapshot of each campaign, so that it is made once for all viewers."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Snapshot, _T]] = {}

    def of(
        self, campaign: Campaign, snapshot: Snapshot, make: Callable[[Campaign, Snapshot], _T]
    ) -> _T:
        known = self._known.get(campaign.name)
        if known is None or known[0] is not snapshot:
            known = self._known[campaign.name] = snapshot, make(campaign, snapshot)
        return known[1]


def _teams(campaign: Campaign, snapshot: Snapshot) -> tuple[polars.DataFrame, polars.DataFrame | None]:
    return forms.teams(snapshot.result), forms.teams(snapshot.before) if snapshot.before else None


class Questions:
    """The answers about each campaign, from the standings in memory, and from the ledger."""

    def __init__(self, settings: Settings, definitions: Definitions, live: Live) -> None:
        self._settings = settings
        self._definitions = definitions
        self._live = live
        self._stages = Stages(settings)
        self._settled = Settled(settings)
        self._views: _Kept[dict[str, Any]] = _Kept()
        self._teams: _Kept[tuple[polars.DataFrame, polars.DataFrame | None]] = _Kept()
        self._one_effect = asyncio.Lock()
        self._one_stage = asyncio.Lock()
        self._one_settled = asyncio.Lock()

    def routes(self) -> list[BaseRoute]:
        """The questions, by their paths."""
        path = "/api/campaigns/{name}"
        return [
            Route(path, self._campaign),
            Route(f"{path}/stages/{{number:int}}", self._stage),
            Route(f"{path}/teams", self._all_teams),
            Route(f"{path}/team", self._team),
            Route(f"{path}/player", self._player),
            Route(f"{path}/effect", self._effect, methods=["POST"]),
            Route(f"{path}/ledger", self._ledger),
            Route(f"{path}/settlements/{{number:int}}", self._settlement),
            Route(f"{path}/hash", self._hash, methods=["POST"]),
            Route(f"{path}/occurrences", self._occurrences),
            Route(f"{path}/sql", self._sql),
        ]

    async def _campaign(self, request: Request) -> Response:
        """Standings at ``offset`` and of ``limit`` rows, or of players whose id has ``search``."""
        campaign, page = self._named(request), page_of(request)
        if campaign is None or isinstance(page, str):
            return _unknown(request) if campaign is None else as_json({"error": page}, 400)
        at = datetime.now(UTC)
        snapshot = self._live.snapshot(campaign.name)
        if snapshot is None:
            return as_json(data.summary(campaign, None, at) | {"rows": []})
        search = request.query_params.get("search", "")

        def found() -> Any:
            rows = snapshot.found(search, page[1]) if search else snapshot.rows(*page)
            view = self._views.of(campaign, snapshot, forms.of_form)
            summary = data.summary(campaign, snapshot, at)
            return summary | {"rows": data.standings(rows), "form_view": view}

        return await answer(found)

    async def _stage(self, request: Request) -> Response:
        """A page of the players with a score in a stage, by place."""
        number, search = request.path_params["number"], request.query_params.get("search", "")

        def found(campaign: Campaign, snapshot: Snapshot, offset: int, limit: int) -> Any:
            placed = self._stages.placed(campaign, number, snapshot)
            return {
                "number": number,
                "as_of": placed.as_of.isoformat(),
                "players": placed.frame.height,
                "going_on": placed.going_on,
                "rows": forms.stage_rows(placed, offset, limit, search),
            }

        async with self._one_stage:
            return await self._page_of_snapshot(request, found)

    async def _all_teams(self, request: Request) -> Response:
        """A page of teams by rank, or the first whose name has ``search``."""
        search = request.query_params.get("search", "")

        def found(campaign: Campaign, snapshot: Snapshot, offset: int, limit: int) -> Any:
            now, before = self._teams.of(campaign, snapshot, _teams)
            return {
                "teams": now.height,
                "rows": forms.team_rows(now, before, offset, limit, search),
            }

        return await self._page_of_snapshot(request, found)

    async def _team(self, request: Request) -> Response:
        """A page of the players of the team ``id``."""
        team = request.query_params.get("id", "")

        def found(campaign: Campaign, snapshot: Snapshot, offset: int, limit: int) -> Any:
            return forms.members(campaign, snapshot.result, team, offset, limit)

        return await self._page_of_snapshot(request, found)

    async def _player(self, request: Request) -> Response:
        player_id = request.query_params.get("id", "")
        return await self._of_snapshot(
            request, lambda campaign, now: data.player(self._settings, campaign, now, player_id)
        )

    async def _effect(self, request: Request) -> Response:
        async with self._one_effect:
            return await self._of_snapshot(request, partial(data.effect, self._settings))

    async def _ledger(self, request: Request) -> Response:
        campaign = self._named(request)
        if campaign is None:
            return _unknown(request)
        snapshot = self._live.snapshot(campaign.name)
        return await answer(partial(ledger.ledger, self._settings, campaign, snapshot))

    async def _settlement(self, request: Request) -> Response:
        """A page of a settlement's standings beside those of now; with ``side=now`` the reverse."""
        query, number = request.query_params, request.path_params["number"]
        side, only = query.get("side", "settled"), query.get("differing", "0")
        if side not in ("settled", "now") or only not in ("0", "1"):
            return as_json({"error": "side must be settled or now, and differing 0 or 1"}, 400)

        def found(campaign: Campaign, snapshot: Snapshot, offset: int, limit: int) -> Any:
            search = query.get("search", "")
            asked = Asked(number, side == "now", only == "1", search, offset, limit)
            return self._settled.page(campaign, snapshot, asked)

        async with self._one_settled:
            return await self._page_of_snapshot(request, found)

    async def _hash(self, request: Request) -> Response:
        """Whether the stored rows have the hash of the settlement: it reads all of them."""
        campaign = self._named(request)
        if campaign is None:
            return _unknown(request)
        async with self._one_effect:
            intact = partial(ledger.is_intact, self._settings, campaign)
            return await answer(lambda: {"is_intact": intact()})

    async def _occurrences(self, request: Request) -> Response:
        """The newest occurrences of a campaign that recurs, with their winners."""
        name = request.path_params["name"]
        campaigns = self._definitions.occurrences(name)
        return await answer(
            partial(data.occurrences, self._settings, campaigns, self._live, datetime.now(UTC))
        )

    async def _sql(self, request: Request) -> Response:
        """The query of the standings as they are shown, as text."""
        found = self._ready(request)
        if isinstance(found, Response):
            return found
        campaign, snapshot = found
        return PlainTextResponse(compiler.standings(campaign, snapshot.result.as_of) + "\n")

    async def _page_of_snapshot(
        self, request: Request, work: Callable[[Campaign, Snapshot, int, int], Any]
    ) -> Response:
        page = page_of(request)
        if isinstance(page, str):
            return as_json({"error": page}, 400)
        return await self._of_snapshot(request, lambda campaign, now: work(campaign, now, *page))

    async def _of_snapshot(self, request: Request, work: Work) -> Response:
        found = self._ready(request)
        return found if isinstance(found, Response) else await answer(partial(work, *found))

    def _ready(self, request: Request) -> tuple[Campaign, Snapshot] | Response:
        """The campaign of a request with its standings, or what to answer if there are none."""
        campaign = self._named(request)
        if campaign is None:
            return _unknown(request)
        snapshot = self._live.snapshot(campaign.name)
        if snapshot is None:
            return as_json({"error": _COMPUTED}, 503)
        return campaign, snapshot

    def _named(self, request: Request) -> Campaign | None:
        name = request.path_params["name"]
        return next((each for each in self._definitions.campaigns() if each.name == name), None)


def page_of(request: Request) -> tuple[int, int] | str:
    """The ``offset`` and ``limit`` of a request, or what is wrong with them."""
    query = request.query_params
    offset, limit = query.get("offset", "0"), query.get("limit", "50")
    if not offset.isdecimal() or not limit.isdecimal() or not 0 < int(limit) <= ROWS_MAX:
        return f"offset must be 0 or more, and limit 1 to {ROWS_MAX}"
    return int(offset), int(limit)


async def answer(work: Callable[[], Any]) -> Response:
    """What a function returns, as JSON; it runs in a thread of its own."""
    try:
        return as_json(await asyncio.to_thread(work))
    except DefinitionError as error:
        return as_json({"error": str(error)}, 404)
    except RoundhouseError as error:
        return as_json({"error": str(error)}, 503)


def as_json(value: Any, status: int = 200) -> Response:
    """An answer of JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _unknown(request: Request) -> Response:
    return as_json({"error": f"there is no campaign {request.path_params['name']}"}, 404)
