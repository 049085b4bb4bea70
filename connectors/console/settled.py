"""The standings that were settled beside those of now, a page of rows at a time.

A settlement, and each review that corrected awards, has stored the standings that its awards follow
from: they are read when somebody asks for them.
"""

from datetime import datetime
from typing import Any, NamedTuple

import polars
from cachetools import TTLCache

from connectors.campaigns.live import Snapshot
from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.standings import Standings
from connectors.campaigns.stored import standings_query, stored_standings
from connectors.console import data, ledger
from connectors.console.forms import page
from streams.errors import DefinitionError
from streams.settings import Settings

COMPARED = "score", "entries", "step", "prize", "unpaid", "items", "stage", "team"
"""A row differs if one of these does, and not by its rank alone: one late bet may move all ranks."""

_HOLDS_S = 60.0
"""Stored standings change by an erasure alone."""

_KEPT = 2


class Asked(NamedTuple):
    """Rows of the settlement or review ``number``, or of now (``of_now``) compared with it; only those
    that differ, if ``differing``; at an offset, or the first with ``search`` in the player's id.
    """

    number: int
    of_now: bool
    differing: bool
    search: str
    offset: int
    limit: int


class Settled:
    """Reads and compares standings; its caller asks for one page at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stored: TTLCache[str, Standings] = TTLCache(_KEPT, _HOLDS_S)
        self._differing: TTLCache[tuple[str, bool, datetime], polars.DataFrame] = TTLCache(
            2 * _KEPT, _HOLDS_S
        )
        """By run, side, and the moment that the standings of now are as of."""

    def page(self, campaign: Campaign, snapshot: Snapshot, asked: Asked) -> dict[str, Any]:
        """A page of rows, each with the other side's row (``other``) and whether they differ.

        Nothing is compared (``differing`` is null) if the campaign has another definition now. Raises
        ``DefinitionError`` if there is no such settlement.
        """
        run = ledger.run_of(self._settings, campaign, asked.number)
        if run is None:
            raise DefinitionError(f"{campaign.name} has no settlement with the number {asked.number}")
        run_id = run["run_id"]
        frozen, now = self._stored_of(run_id).frame, snapshot.result.standings.frame
        shown, other = (now, frozen) if asked.of_now else (frozen, now)
        answer: dict[str, Any] = {
            "now_as_of": snapshot.result.as_of.isoformat(),
            "players": shown.height,
            "sql": None if asked.of_now else standings_query(run_id),
        }
        numbered = shown.with_row_index("position")
        if run["definition_sha256"] != campaign.sha256:
            rows = page(numbered, "player_id", asked.offset, asked.limit, asked.search)
            return answer | {"differing": None, "in_all": shown.height, "rows": _values(rows)}
        key = run_id, asked.of_now, snapshot.result.as_of
        unlike = self._differing.get(key)
        if unlike is None:
            unlike = self._differing[key] = differing(numbered, other)
        chosen = unlike if asked.differing else numbered
        rows = page(chosen, "player_id", asked.offset, asked.limit, asked.search)
        return answer | {
            "differing": unlike.height,
            "in_all": chosen.height,
            "rows": beside(rows, other),
        }

    def _stored_of(self, run_id: str) -> Standings:
        known = self._stored.get(run_id)
        if known is None:
            known = self._stored[run_id] = stored_standings(self._settings, run_id)
        return known


def differing(shown: polars.DataFrame, other: polars.DataFrame) -> polars.DataFrame:
    """The rows of players who have no row or another one on the other side, in their order."""
    by = ["player_id", *COMPARED]
    return shown.join(other.select(by), on=by, how="anti", maintain_order="left")


def beside(rows: polars.DataFrame, other: polars.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON, each with the row of its player on the other side, None if there is none."""
    of_players = other.filter(polars.col("player_id").is_in(rows["player_id"].implode()))
    known = {row["player"]: row for row in _values(of_players.with_columns(position=None))}
    found = []
    for row in _values(rows):
        its = known.get(row["player"])
        is_same = its is not None and all(row[name] == its[name] for name in COMPARED)
        found.append(row | {"other": its, "differs": not is_same})
    return found


def _values(rows: polars.DataFrame) -> list[dict[str, Any]]:
    return data.standings(rows.with_columns(rank_before=None))
