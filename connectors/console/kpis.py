"""KPIs of play for the console: any grain, dimension, currency and time; sorted, in pages, with sums.

One query answers a question as a whole, and its result is kept for a moment: pages, orders and the sums
are made of it, so that they agree with each other and with the query, which the page shows.
"""

import time
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

import polars

from connectors.campaigns.frames import written
from connectors.campaigns.sql.expressions import plain
from connectors.clickhouse.kept_play import DIMENSIONS, View
from connectors.clickhouse.literals import quoted
from connectors.clickhouse.query import query_frame, query_rows
from streams.settings import Settings

GRAINS = {"hour": 4, "day": 72, "week": 72 * 7, "month": 72 * 31}
"""The grains of KPIs, and the days of which at least 72 periods are shown."""

ROWS_MAX = 100_000
COLUMNS = (
    "period", "value", "name", "currency", "rounds", "active_players", "turnover", "paid_out", "ggr",
    "ngr", "rtp", "hold", "arpu", "unconverted_rounds",
)  # fmt: skip
_SUMS = "rounds", "unconverted_rounds", "turnover", "paid_out", "ggr", "ngr"
_SERIES_MAX = 1000
_HOLDS_S = 5.0
_KEPT = 8


class Question(NamedTuple):
    """``reporting``: a currency, or empty for each its own; ``first`` and ``last``: days on which
    periods begin, or empty for the newest.
    """

    tenant: str
    grain: str = "hour"
    by: str = "tenant"
    reporting: str = ""
    first: str = ""
    last: str = ""

    def problem(self) -> str | None:
        """What is wrong with it."""
        if self.grain not in GRAINS or self.by not in DIMENSIONS:
            grains, dimensions = ", ".join(GRAINS), ", ".join(DIMENSIONS)
            return f"grain must be one of {grains}, and by one of {dimensions}"
        try:
            for text in filter(None, (self.first, self.last)):
                date.fromisoformat(text)
        except ValueError:
            return "first and last must be days like 2026-03-14"
        return None

    def sql(self) -> str:
        """The query, by its text alone; all days are given."""
        view = View(self.grain, self.by, self.reporting).between(self.first, self.last)
        names = "''"
        join = ""
        if self.by == "game":
            names = "ifNull(game.name, '')"
            join = (
                f"\nLEFT JOIN (SELECT game_id, name FROM games WHERE tenant = {quoted(self.tenant)}) "
                "AS game ON game.game_id = play.value"
            )
        columns = ", ".join(f"play.{name} AS {name}" for name in COLUMNS[3:])
        return (
            f"SELECT toString(play.period) AS period, play.value AS value, {names} AS name, {columns}\n"
            f"FROM kpi_play_between({view}) AS play{join}\n"
            f"WHERE play.tenant = {quoted(self.tenant)}\n"
            f"ORDER BY period DESC, turnover DESC, value, currency\nLIMIT {ROWS_MAX}"
        )


class Order(NamedTuple):
    """The order of rows; the rows of a page are those from ``offset`` on."""

    column: str = "period"
    descending: bool = True
    offset: int = 0
    limit: int = 50


class Kpis:
    """Answers questions; its caller asks one at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kept: dict[Question, tuple[float, polars.DataFrame]] = {}

    def page(self, question: Question, order: Order) -> dict[str, Any]:
        """A page of rows, the sums of all rows by currency, the periods of a chart, and the query."""
        whole = self._with_days(question)
        frame = self._frame(whole)
        by = [order.column, *(name for name in ("period", "turnover") if name != order.column)]
        descending = [order.descending, *[True] * (len(by) - 1)]
        rows = frame.sort(by, descending=descending, nulls_last=True, maintain_order=True)
        return {
            "rows": [_values(row) for row in rows.slice(order.offset, order.limit).to_dicts()],
            "rows_in_all": rows.height,
            "is_cut": rows.height >= ROWS_MAX,
            "sums": _sums(frame),
            "series": _series(frame) if question.by == "tenant" else [],
            "first": whole.first,
            "last": whole.last,
            "sql": whole.sql(),
        }

    def csv(self, question: Question) -> bytes:
        """All rows as CSV."""
        return written(self._frame(self._with_days(question)), "csv")

    def currencies(self) -> list[str]:
        """The currencies that rates lead to."""
        rows = query_rows(
            self._settings, "SELECT DISTINCT toString(quote) AS quote FROM rates ORDER BY quote"
        )
        return [row["quote"] for row in rows]

    def _with_days(self, question: Question) -> Question:
        if question.first and question.last:
            return question
        newest = query_rows(
            self._settings,
            f"SELECT toString(max(day) - {GRAINS[question.grain]}) AS first, "
            "toString(max(day)) AS last "
            f"FROM changed_days WHERE tenant = {quoted(question.tenant)}",
        )[0]
        return question._replace(
            first=question.first or newest["first"], last=question.last or newest["last"]
        )

    def _frame(self, question: Question) -> polars.DataFrame:
        now = time.monotonic()
        known = self._kept.get(question)
        if known is None or now - known[0] > _HOLDS_S:
            known = now, query_frame(self._settings, question.sql())
            self._kept.pop(question, None)
            while len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[question] = known
        return known[1]


def _values(row: dict[str, Any]) -> dict[str, Any]:
    return {name: plain(value) if isinstance(value, Decimal) else value for name, value in row.items()}


def _sums(frame: polars.DataFrame) -> list[dict[str, Any]]:
    """The sums of all rows by currency; not the players, of whom one may be in several rows."""
    rows = frame.group_by("currency").agg(polars.col(_SUMS).sum()).sort("currency")
    found = []
    for row in rows.to_dicts():
        turnover, hold = row["turnover"], None
        if turnover:
            hold = float(row["ggr"] / turnover)
        found.append(_values(row) | {"hold": hold, "rtp": None if hold is None else 1 - hold})
    return found


def _series(frame: polars.DataFrame) -> list[dict[str, Any]]:
    """The periods of the currency with the largest turnover, the oldest first."""
    sums = frame.group_by("currency").agg(polars.col("turnover").sum())
    largest = sums.sort("turnover", "currency", descending=[True, False])["currency"].head(1)
    rows = frame.filter(polars.col("currency").is_in(largest.implode())).sort("period")
    chosen = rows.select("period", "currency", "turnover", "ggr", "ngr", "rtp", "active_players")
    return [_values(row) for row in chosen.tail(_SERIES_MAX).to_dicts()]
