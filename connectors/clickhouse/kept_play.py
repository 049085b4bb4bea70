"""Keeps what ``kpi_play`` computes for periods in which no round changes any more.

``kpi_play`` uses the results that are kept and computes all others, so it is exact whether anything is
kept or not; migration 0018 has the rule by which kept results hold. This module only fills the table.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from connectors.clickhouse.literals import quoted

log = logging.getLogger(__name__)

PERIODS_AT_ONCE = {"day": 31, "week": 4, "month": 1}
"""The grains that are kept, and how many periods one statement computes."""

DIMENSIONS = "tenant", "game", "provider", "category", "country", "currency"

_EVERY_S = 60.0
_SHARE = 0.2
"""Most of the time in which statements run."""

_AWAY = (ClickHouseError, OSError)


class View(NamedTuple):
    """The parameters of ``kpi_play``. ``reporting``: a currency, or empty for each its own."""

    grain: str
    by: str
    reporting: str

    def between(self, first: str = "1900-01-01", last: str = "2299-12-31") -> str:
        """The parameters as SQL, for periods that begin from ``first`` to ``last``."""
        return f"{self}, first = {quoted(first)}, last = {quoted(last)}"

    def __str__(self) -> str:
        return ", ".join(f"{name} = {quoted(value)}" for name, value in self._asdict().items())


def keep(client: Client, view: View, settled_s: float) -> int:
    """Keeps the results of the newest periods that are due, of one form of the view; returns how many.

    A period is due if it has not changed for ``settled_s``. No insert may take longer.
    """
    settled_at = f"now64(6, 'UTC') - toIntervalMicrosecond({settled_s * 1e6:.0f})"
    due = client.query(
        f"SELECT tenant, toString(period) FROM kept_play_at({view.between()}) "
        f"WHERE NOT holds AND changed_at < {settled_at} "
        f"ORDER BY period DESC, tenant LIMIT {PERIODS_AT_ONCE[view.grain]}"
    ).result_rows
    if not due:
        return 0
    chosen = ", ".join(f"({quoted(str(tenant))}, {quoted(str(day))})" for tenant, day in due)
    days = [str(day) for _, day in due]
    constants = ", ".join(map(quoted, view))
    client.command(f"""
INSERT INTO kept_play
SELECT {constants}, tenant, toDate32(first_day), {settled_at}, results
FROM (SELECT one.1 AS tenant, one.2 AS first_day FROM (SELECT arrayJoin([{chosen}]) AS one)) AS due
LEFT JOIN
(
    SELECT
        tenant,
        toString(toDate32(period)) AS first_day,
        arraySort(groupArray((
            value, currency, rounds, unconverted_rounds, active_players, turnover, paid_out, ngr
        ))) AS results
    FROM kpi_play_between({view.between(min(days), max(days))})
    GROUP BY tenant, first_day
) AS found USING (tenant, first_day)
SETTINGS max_threads = 1""")
    return len(due)


def views(client: Client) -> Iterator[View]:
    """Every form of the view that is kept: with each currency's own amounts, and in each currency that
    rates lead to.
    """
    quotes = [str(quote) for (quote,) in client.query("SELECT DISTINCT quote FROM rates").result_rows]
    yield from itertools.starmap(View, itertools.product(PERIODS_AT_ONCE, DIMENSIONS, ["", *quotes]))


def keep_all(client: Client, settled_s: float, chosen: Iterable[View] | None = None) -> int:
    """Keeps all that is due of the chosen forms of the view, or of all; returns how many results."""
    kept = 0
    for view in chosen or views(client):
        while more := keep(client, view, settled_s):
            kept += more
    return kept


class Rebuilt(NamedTuple):
    """Periods that were kept before and are kept now, and of those in both the ones that differ."""

    before: int
    now: int
    differing: list[tuple[View, str, str]]


_KEPT = "SELECT grain, by, reporting, tenant, toString(period), toString(results) FROM kept_play FINAL"


def rebuild(client: Client, settled_s: float, chosen: Sequence[View] | None = None) -> Rebuilt:
    """Forgets what is kept, keeps all that is due, and compares both where the first still held."""
    before = _holding(client)
    client.command("TRUNCATE TABLE kept_play")
    keep_all(client, settled_s, chosen)
    now = _holding(client)
    differing = [key for key in before.keys() & now.keys() if before[key] != now[key]]
    return Rebuilt(len(before), len(now), sorted(differing))


def _holding(client: Client) -> dict[tuple[View, str, str], str]:
    found = {}
    for grain, by, reporting, tenant, period, results in client.query(_KEPT).result_rows:
        found[View(grain, by, reporting), str(tenant), str(period)] = str(results)
    for view in {key[0] for key in found}:
        text = f"SELECT tenant, toString(period) FROM kept_play_at({view.between()}) WHERE NOT holds"
        for tenant, period in client.query(text).result_rows:
            found.pop((view, str(tenant), str(period)), None)
    return found


_SETTLED = """
SELECT max(changed_at)
FROM
(
    SELECT max(changed_days.changed_at) AS changed_at FROM changed_days GROUP BY tenant, day
    UNION ALL
    SELECT max(changed_tenants.changed_at) AS changed_at FROM changed_tenants GROUP BY tenant
    UNION ALL
    SELECT imported_at AS changed_at FROM rates
)
WHERE changed_at < now64(6, 'UTC') - toIntervalMicrosecond({settled_s} * 1000000)
"""
"""The newest change that was made long enough ago."""


class Keeper:
    """Keeps what is due, in a thread of its own; :meth:`stop` ends it after its statement.

    It runs for a fifth of the time at most, with one thread of ClickHouse. It waits while ClickHouse is
    away, which the sink reports; another error ends the process through ``failed``.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        settled_s: float,
        failed: Callable[[BaseException], None],
        forms: Callable[[Client], Iterable[View]] = views,
    ) -> None:
        self._connect = connect
        self._settled_s = settled_s
        self._failed = failed
        self._forms = forms
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kept-play")

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, and returns when it has ended."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        done: object = None
        try:
            while not self._stopping.is_set():
                try:
                    done = self._keep(done)
                except _AWAY as error:
                    log.warning("results of KPIs are not kept for now: %s", error)
                self._stopping.wait(min(_EVERY_S, max(1.0, self._settled_s)))
        except BaseException as error:
            self._failed(error)

    def _keep(self, done: object) -> object:
        """Keeps what is due, unless nothing has settled since ``done``; returns the present mark."""
        client = self._connect()
        try:
            mark = client.query(_SETTLED.format(settled_s=self._settled_s)).result_rows
            if mark == done:
                return done
            for view in self._forms(client):
                more = 1
                while more and not self._stopping.is_set():
                    began = time.monotonic()
                    more = keep(client, view, self._settled_s)
                    self._stopping.wait((time.monotonic() - began) * (1 / _SHARE - 1))
            return mark
        finally:
            client.close()
