"""KPIs for the console, of play and of cash: any grain, dimension, currency and time; sorted, in pages,
with sums.

One query answers a question as a whole, and its result is kept for a moment: pages, orders and the sums
are made of it, so that they agree with each other and with the query, which the page shows.
"""

from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

import polars
from cachetools import TTLCache

from connectors.campaigns.frames import written
from connectors.campaigns.sql.expressions import plain
from connectors.clickhouse.kept_play import DIMENSIONS, View
from connectors.clickhouse.literals import quoted
from connectors.clickhouse.query import query_frame, query_rows
from streams.settings import Settings

GRAINS = {"hour": 4, "day": 72, "week": 72 * 7, "month": 72 * 31}
"""The grains of KPIs, and the days of which at least 72 periods are shown."""

ROWS_MAX = 100_000
_SERIES_MAX = 1000
_HOLDS_S = 5.0
_KEPT = 8


class Kind(NamedTuple):
    """What KPIs are of. ``main``: the amount by which rows of a period and currencies are ordered;
    ``values``: the columns of KPIs; ``sums``: those that may be added up over rows; ``series``: those
    of a chart; ``days``: the days that have any, and the table that has them.
    """

    dimensions: tuple[str, ...]
    main: str
    values: tuple[str, ...]
    sums: tuple[str, ...]
    series: tuple[str, ...]
    days: tuple[str, str]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of an answer."""
        return "period", "value", "name", "currency", *self.values


KINDS = {
    "play": Kind(
        dimensions=DIMENSIONS,
        main="turnover",
        values=(
            "rounds", "active_players", "turnover", "paid_out", "ggr", "ngr", "rtp", "hold", "arpu",
            "unconverted_rounds",
        ),
        sums=("rounds", "turnover", "paid_out", "ggr", "ngr", "unconverted_rounds"),
        series=("turnover", "ggr", "ngr", "rtp", "active_players"),
        days=("day", "changed_days"),
    ),
    "cash": Kind(
        dimensions=("tenant", "country", "affiliate", "method", "currency"),
        main="deposited",
        values=(
            "deposits", "deposited", "withdrawals", "withdrawn", "net_deposits", "depositors",
            "first_time_depositors", "unconverted_payments",
        ),
        sums=(
            "deposits", "deposited", "withdrawals", "withdrawn", "net_deposits",
            "first_time_depositors", "unconverted_payments",
        ),
        series=("deposited", "withdrawn", "net_deposits", "depositors", "first_time_depositors"),
        days=("toDate32(occurred_at)", "payments_rows"),
    ),
}  # fmt: skip
"""The views ``kpi_play_between`` and ``kpi_cash``. ``kpi_cash`` has no time: who deposits for the first
time follows from all payments.
"""


class Question(NamedTuple):
    """``of``: one of :data:`KINDS`; ``reporting``: a currency, or empty for each its own; ``first`` and
    ``last``: days on which periods begin, or empty for the newest.
    """

    tenant: str
    of: str = "play"
    grain: str = "hour"
    by: str = "tenant"
    reporting: str = ""
    first: str = ""
    last: str = ""

    @property
    def kind(self) -> Kind:
        """What it asks for."""
        return KINDS[self.of]

    def problem(self) -> str | None:
        """What is wrong with it."""
        if self.of not in KINDS:
            return f"of must be one of {', '.join(KINDS)}"
        if self.grain not in GRAINS or self.by not in self.kind.dimensions:
            grains, dimensions = ", ".join(GRAINS), ", ".join(self.kind.dimensions)
            return f"grain must be one of {grains}, and by of {self.of} one of {dimensions}"
        try:
            for text in filter(None, (self.first, self.last)):
                date.fromisoformat(text)
        except ValueError:
            return "first and last must be days like 2026-03-14"
        return None

    def sql(self) -> str:
        """The query, by its text alone; all days are given."""
        tenant, view = quoted(self.tenant), View(self.grain, self.by, self.reporting)
        if self.of == "play":
            source, during = f"kpi_play_between({view.between(self.first, self.last)})", ""
        else:
            days = f"{quoted(self.first)} AND {quoted(self.last)}"
            source, during = f"kpi_cash({view})", f" AND toDate32(kpi.period) BETWEEN {days}"
        names, join = "''", ""
        if self.by == "game":
            names = "ifNull(game.name, '')"
            join = (
                f"\nLEFT JOIN (SELECT game_id, name FROM games WHERE tenant = {tenant}) "
                "AS game ON game.game_id = kpi.value"
            )
        values = ", ".join(f"kpi.{name} AS {name}" for name in ("currency", *self.kind.values))
        return (
            f"SELECT toString(kpi.period) AS period, kpi.value AS value, {names} AS name, {values}\n"
            f"FROM {source} AS kpi{join}\n"
            f"WHERE kpi.tenant = {tenant}{during}\n"
            f"ORDER BY period DESC, {self.kind.main} DESC, value, currency\nLIMIT {ROWS_MAX}"
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
        self._kept: TTLCache[Question, polars.DataFrame] = TTLCache(_KEPT, _HOLDS_S)

    def page(self, question: Question, order: Order) -> dict[str, Any]:
        """A page of rows, the sums of all rows by currency, the periods of a chart, and the query."""
        whole = self._with_days(question)
        frame = self._frame(whole)
        then = "period", question.kind.main
        by = [order.column, *(name for name in then if name != order.column)]
        descending = [order.descending, *[True] * (len(by) - 1)]
        rows = frame.sort(by, descending=descending, nulls_last=True, maintain_order=True)
        return {
            "rows": [_values(row) for row in rows.slice(order.offset, order.limit).to_dicts()],
            "rows_in_all": rows.height,
            "is_cut": rows.height >= ROWS_MAX,
            "sums": _sums(frame, question.kind),
            "series": _series(frame, question.kind) if question.by == "tenant" else [],
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
        day, table = question.kind.days
        newest = query_rows(
            self._settings,
            f"SELECT toString(max({day}) - {GRAINS[question.grain]}) AS first, "
            f"toString(max({day})) AS last "
            f"FROM {table} WHERE tenant = {quoted(question.tenant)}",
        )[0]
        return question._replace(
            first=question.first or newest["first"], last=question.last or newest["last"]
        )

    def _frame(self, question: Question) -> polars.DataFrame:
        found = self._kept.get(question)
        if found is None:
            found = self._kept[question] = query_frame(self._settings, question.sql())
        return found


def _values(row: dict[str, Any]) -> dict[str, Any]:
    return {name: plain(value) if isinstance(value, Decimal) else value for name, value in row.items()}


def _sums(frame: polars.DataFrame, kind: Kind) -> list[dict[str, Any]]:
    """The sums of all rows by currency; not the players, of whom one may be in several rows."""
    rows = frame.group_by("currency").agg(polars.col(kind.sums).sum()).sort("currency")
    return [_values(row) | _ratios(row) for row in rows.to_dicts()]


def _ratios(row: dict[str, Any]) -> dict[str, float | None]:
    """What the sums of play are in proportion to each other; nothing of cash."""
    if "turnover" not in row:
        return {}
    hold = float(row["ggr"] / row["turnover"]) if row["turnover"] else None
    return {"hold": hold, "rtp": None if hold is None else 1 - hold}


def _series(frame: polars.DataFrame, kind: Kind) -> list[dict[str, Any]]:
    """The periods of the currency with the largest amount, the oldest first."""
    sums = frame.group_by("currency").agg(polars.col(kind.main).sum())
    largest = sums.sort(kind.main, "currency", descending=[True, False])["currency"].head(1)
    rows = frame.filter(polars.col("currency").is_in(largest.implode())).sort("period")
    chosen = rows.select("period", "currency", *kind.series)
    return [_values(row) for row in chosen.tail(_SERIES_MAX).to_dicts()]
