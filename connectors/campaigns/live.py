"""The standings of campaigns, kept ready in memory for all who read them.

One thread evaluates what may have changed: something of the tenant was received since, or rates,
merges or erasures were changed. Campaigns that can share a query
(:mod:`connectors.campaigns.sql.together`) are evaluated together. A reader is answered from the last
snapshot and waits for nothing.

A snapshot is as of a moment :data:`SETTLES_WITHIN` ago, so that what was received until then is
stored. A backtest as of the same moment gives the same, to the last digit; ``unsettled`` says how many
items are on their way all the same, and then the campaign is evaluated again.

Evaluations use one thread of ClickHouse and at most ``live_share`` of the time; only a campaign that
has no standings yet is not kept waiting. A campaign that somebody looks at comes :data:`_ASKED` times
as often as another. None is evaluated again before :data:`_PAUSE` times the duration of its last
evaluation has passed.
"""

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import polars

from connectors.campaigns.evaluation import Result, evaluate, evaluate_together
from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.sql import together
from connectors.clickhouse.client import is_embedded
from connectors.clickhouse.literals import moment, quoted
from connectors.clickhouse.query import query_rows
from connectors.local.stack import Running
from streams.errors import NotRunning, RoundhouseError
from streams.settings import Settings

SETTLES_WITHIN = timedelta(seconds=2)
_NEWS_OF = timedelta(minutes=10)
AT_LEAST_EVERY_S = 600.0
"""An item that is stored more than ``_NEWS_OF`` after its receipt is seen by then."""

_KEPT_S = 600.0
"""A campaign that is over is kept so long after somebody has asked for it."""

_PAUSE = 4.0
_ASKED = 10
_FIRST_SHARE = 0.5
"""Of the time, while campaigns without standings are evaluated."""

_PLAYERS_MAX = 2_000_000
_PLAYERS_OF_FIRST = 250_000
"""Campaigns are evaluated together if they have fewer players in all; of one without standings they are
not known."""

_TICK_S = 1.0
_OUTAGE_S = 5.0

Counts = Mapping[tuple[str, str], int]
"""Outcomes by tenant and minute of receipt; the empty tenant has rates, merges and erasures."""


class Snapshot(NamedTuple):
    """A result, its share of the seconds that it took, and the result before it of the same definition,
    if any.
    """

    result: Result
    cost_s: float
    before: Result | None

    def rows(self, offset: int, limit: int) -> polars.DataFrame:
        """The standings from a position on, which is in ``position``, with ``rank_before``."""
        return self._moved(
            self.result.standings.frame.slice(offset, limit).with_row_index("position", offset)
        )

    def found(self, text: str, limit: int) -> polars.DataFrame:
        """The standings of the first players whose id has a text."""
        has = polars.col("player_id").str.contains(text, literal=True)
        return self._moved(self._numbered().filter(has).head(limit))

    def of_player(self, player_id: str) -> polars.DataFrame:
        """The standing of a player; no row if the player has no score."""
        return self._moved(self._numbered().filter(polars.col("player_id") == player_id))

    def _numbered(self) -> polars.DataFrame:
        return self.result.standings.frame.with_row_index("position")

    def _moved(self, rows: polars.DataFrame) -> polars.DataFrame:
        """Rows with ``rank_before``, null for a player who had none."""
        if self.before is None:
            return rows.with_columns(polars.lit(None, polars.Int64).alias("rank_before"))
        before = self.before.standings.frame.select("player_id", rank_before="rank")
        wanted = before.filter(polars.col("player_id").is_in(rows["player_id"].implode()))
        return rows.join(wanted, on="player_id", how="left", maintain_order="left")


@dataclass
class _Kept:
    """What is known of a campaign. Times are those of a monotonic clock."""

    campaign: Campaign
    shared: Hashable | None
    snapshot: Snapshot | None = None
    counts: Counts = field(default_factory=dict)
    looked_at: float = float("-inf")
    next_at: float = float("-inf")
    asked_at: float = float("-inf")

    def is_stale(self, counts: Counts, now: float) -> bool:
        """Whether an evaluation may give something else than the last."""
        if self.snapshot is None or self.snapshot.result.unsettled:
            return True
        if now - self.looked_at > AT_LEAST_EVERY_S:
            return True
        mine = ("", self.campaign.tenant)
        return any(count > self.counts.get(key, 0) for key, count in counts.items() if key[0] in mine)

    def is_asked(self, now: float) -> bool:
        """Whether somebody looks at the campaign, or did so a short time ago."""
        return now - self.asked_at < _KEPT_S

    def urgency(self, now: float) -> tuple[bool, float]:
        """The campaign with the highest is evaluated next."""
        asked = self.is_asked(now)
        return self.snapshot is None and asked, (now - self.looked_at) * (_ASKED if asked else 1)

    @property
    def players(self) -> int:
        """About how many have a standing."""
        return len(self.snapshot.result.standings) if self.snapshot else _PLAYERS_OF_FIRST


def is_running(campaign: Campaign, at: datetime) -> bool:
    """Whether a campaign has begun and is not over."""
    start, end = campaign.period.utc()
    return start <= at < end


class Live:
    """Keeps the running campaigns ready, and those of the past that somebody asks for.

    ``campaigns`` gives the present definitions; ``published`` receives each new snapshot, in the thread
    of :meth:`run`.
    """

    def __init__(
        self,
        settings: Settings,
        campaigns: Callable[[], Iterable[Campaign]],
        published: Callable[[Snapshot], None] = lambda snapshot: None,
    ) -> None:
        self._settings = settings
        self._campaigns = campaigns
        self._published = published
        self._kept: dict[str, _Kept] = {}
        """Replaced as a whole, so that readers need no lock."""
        self._asked = threading.Event()
        self.problem: str | None = None
        """Why nothing can be evaluated now, for the readers."""

    def snapshot(self, name: str) -> Snapshot | None:
        """The last snapshot of a campaign; None if there is none yet. It is evaluated then."""
        kept = self._kept.get(name)
        if kept is None:
            return None
        kept.asked_at = time.monotonic()
        if kept.snapshot is None:
            self._asked.set()
        return kept.snapshot

    def peek(self, name: str) -> Snapshot | None:
        """The last snapshot of a campaign, without asking for one."""
        kept = self._kept.get(name)
        return kept.snapshot if kept else None

    def run(self, stop: threading.Event) -> None:
        """Evaluates until ``stop`` is set, which takes effect after the evaluation in hand."""
        rested_at = float("-inf")
        while not stop.is_set():
            began = time.monotonic()
            try:
                evaluated = self.look(datetime.now(UTC), began, is_rested=began >= rested_at)
                self.problem = None
            except RoundhouseError as error:
                self.problem = str(error)
                stop.wait(_OUTAGE_S)
                continue
            took = time.monotonic() - began
            if evaluated and began < rested_at:
                stop.wait(took * (1 - _FIRST_SHARE) / _FIRST_SHARE)
                continue
            rested_at = max(rested_at, began + took / self._settings.live_share)
            rest = rested_at - time.monotonic()
            if not evaluated or rest > 0:
                self._asked.wait(min(_TICK_S, rest) if evaluated else _TICK_S)
                self._asked.clear()

    def look(self, at: datetime, now: float, *, is_rested: bool = True) -> bool:
        """Evaluates the campaigns that need it most; False if none does. ``now``: monotonic seconds.
        Unless ``is_rested``, only campaigns that have no standings yet are.
        """
        as_of = at - SETTLES_WITHIN
        self._take_over(at, now)
        wanted = [
            kept
            for kept in self._kept.values()
            if (is_running(kept.campaign, at) or kept.is_asked(now))
            and (is_rested or kept.snapshot is None)
        ]
        counts = self._counts({kept.campaign.tenant for kept in wanted}, as_of)
        due = [kept for kept in wanted if kept.next_at <= now and kept.is_stale(counts, now)]
        if not due:
            return False
        self._evaluate(_chosen(due, now), as_of, counts, now)
        return True

    def _take_over(self, at: datetime, now: float) -> None:
        """The present definitions; a snapshot of another definition, or that nobody asks for, is
        dropped."""
        kept = {}
        for campaign in self._campaigns():
            known = self._kept.get(campaign.name)
            if known is None or known.campaign != campaign:
                asked_at = known.asked_at if known else float("-inf")
                known = _Kept(campaign, together.shared(campaign), asked_at=asked_at)
            elif not is_running(campaign, at) and not known.is_asked(now):
                known.snapshot = None
            kept[campaign.name] = known
        self._kept = kept

    def _evaluate(self, chosen: Sequence[_Kept], as_of: datetime, counts: Counts, now: float) -> None:
        campaigns = [kept.campaign for kept in chosen]
        began = time.monotonic()
        if len(campaigns) == 1:
            results = [evaluate(self._settings, campaigns[0], as_of, threads=1)]
        else:
            results = evaluate_together(self._settings, campaigns, as_of, threads=1)
        cost_s = (time.monotonic() - began) / len(campaigns)
        for kept, result in zip(chosen, results, strict=True):
            before = kept.snapshot.result if kept.snapshot else None
            if before is not None and before.standings == result.standings and kept.snapshot:
                before = kept.snapshot.before  # the movement that was shown stays
            kept.snapshot = Snapshot(result, cost_s, before)
            kept.counts, kept.looked_at = counts, now
            kept.next_at = now + cost_s + max(_TICK_S, _PAUSE * cost_s)
            self._published(kept.snapshot)

    def _counts(self, tenants: set[str], as_of: datetime) -> Counts:
        """What was received until ``as_of``, of the last minutes. Without a running line nothing is,
        and chDB is not opened for the question."""
        if not tenants or (is_embedded(self._settings) and not _is_up(self._settings)):
            return {}
        return {
            (row["tenant"], row["minute"]): int(row["outcomes"])
            for row in query_rows(self._settings, _news(sorted(tenants), as_of))
        }


def _chosen(due: Sequence[_Kept], now: float) -> list[_Kept]:
    """The campaign that needs an evaluation most, and those that share its query; of one that is looked
    at, only others that are.
    """
    first, *others = sorted(due, key=lambda kept: kept.urgency(now), reverse=True)
    chosen, players = [first], first.players
    for kept in others:
        shares = kept.shared is not None and kept.shared == first.shared
        if shares and kept.is_asked(now) >= first.is_asked(now):
            players += kept.players
            if players > _PLAYERS_MAX:
                break
            chosen.append(kept)
    return chosen


def _news(tenants: Sequence[str], as_of: datetime) -> str:
    changed = " + ".join(
        f"(SELECT count() FROM {table})" for table in ("rates", "merge_corrections", "erasures")
    )
    return (
        "SELECT tenant, toString(toStartOfMinute(received_at)) AS minute, count() AS outcomes\n"
        f"FROM outcomes_rows\nWHERE tenant IN ({', '.join(map(quoted, tenants))}) "
        f"AND received_at > {moment(as_of - _NEWS_OF)} AND received_at <= {moment(as_of)}\n"
        f"GROUP BY tenant, minute\nUNION ALL\nSELECT '', '', {changed}"
    )


def _is_up(settings: Settings) -> bool:
    try:
        Running(settings)
    except NotRunning:
        return False
    return True
