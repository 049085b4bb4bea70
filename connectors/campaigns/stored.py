"""Stored results: their rows in ``campaign_runs`` and ``campaign_results``, and the hash of these.

Anybody can compute the hash again from the stored rows. The text that is hashed is what ClickHouse
answers to two queries in its format ``TabSeparatedWithNames``: first the standings, then the run with
the hash of its standings. docs/campaigns.md has the commands.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import polars

from connectors.campaigns.evaluation import Result
from connectors.campaigns.model.definition import Definition
from connectors.campaigns.sql.expressions import plain
from connectors.campaigns.standings import SCHEMA, Standings
from connectors.clickhouse.literals import instant, quoted
from connectors.clickhouse.query import insert, insert_lines, query_bytes, query_frame
from streams.settings import Settings

STANDINGS = tuple(SCHEMA.names())
"""The columns of ``campaign_results`` that are hashed, in this order; the rows by rank, then player."""

RUN = (
    "tenant",
    "campaign",
    "definition_sha256",
    "as_of",
    "unsettled",
    "players",
    "prizes",
    "left_out",
    "standings_sha256",
)
"""The columns of ``campaign_runs`` that are hashed."""

_ESCAPES = {
    "\\": "\\\\",
    "\t": "\\t", "\n": "\\n", "\r": "\\r", "\b": "\\b", "\f": "\\f", "\0": "\\0", "'": "\\'"
}  # fmt: skip
"""How ClickHouse writes characters in tab-separated text."""

_TIME = "%Y-%m-%d %H:%M:%S%.6f"


class Run(NamedTuple):
    """A stored evaluation: its id, and the hash of its result."""

    run_id: str
    result_sha256: str


def store(settings: Settings, definition: Definition, result: Result) -> Run:
    """Stores a result in ``campaign_runs`` and ``campaign_results``."""
    run_id = str(uuid.uuid4())
    run: dict[str, object] = {
        "run_id": run_id,
        "campaign": result.campaign.name,
        "title": result.campaign.title,
        "tenant": result.campaign.tenant,
        "definition_sha256": result.campaign.sha256,
        "definition": definition.text,
        "as_of": instant(result.as_of),
        "evaluated_at": instant(datetime.now(UTC)),
        "unsettled": result.unsettled,
        "players": len(result.standings),
        "prizes": plain(result.cost),
        "left_out": json.dumps(result.left_out, sort_keys=True, ensure_ascii=False),
        "standings_sha256": standings_sha256(result.standings),
    }
    run["result_sha256"] = _run_sha256(run)
    rows = result.standings.frame.select(
        polars.lit(run_id).alias("run_id"),
        polars.col(polars.Int64, polars.String),
        polars.col(polars.Decimal).cast(polars.String),
        polars.col("reached_at").dt.strftime(_TIME),
    )
    if len(rows):
        insert_lines(settings, "campaign_results", rows.write_ndjson().encode())
    insert(settings, "campaign_runs", [run])  # written last, so that a stored run is complete
    return Run(run_id, str(run["result_sha256"]))


def standings_sha256(standings: Standings) -> str:
    """The hash of the standings of an evaluation."""
    digits = polars.col(polars.Decimal).cast(polars.String).str.strip_chars_end("0")
    rows = standings.frame.sort("rank", "player_id").with_columns(
        digits.str.strip_chars_end("."),
        polars.col("reached_at").dt.strftime(_TIME),
        polars.col("player_id", "items", "team").str.replace_many(
            list(_ESCAPES), list(_ESCAPES.values())
        ),
    )
    text = rows.select(STANDINGS).write_csv(separator="\t", quote_style="never")
    return hashlib.sha256(text.encode()).hexdigest()


def _run_sha256(run: Mapping[str, object]) -> str:
    values = ["".join(_ESCAPES.get(each, each) for each in str(run[name])) for name in RUN]
    return hashlib.sha256(("\t".join(RUN) + "\n" + "\t".join(values) + "\n").encode()).hexdigest()


def stored_sha256(settings: Settings, run_id: str) -> str | None:
    """The hash of a result, computed from its stored rows; None if they contradict each other."""
    standings = hashlib.sha256(query_bytes(settings, standings_query(run_id), "tsv")).hexdigest()
    run = query_bytes(settings, run_query(run_id), "tsv")
    return hashlib.sha256(run).hexdigest() if run.endswith(f"\t{standings}\n".encode()) else None


def standings_query(run_id: str) -> str:
    """The query whose answer has the hash ``standings_sha256``."""
    return (
        f"SELECT {', '.join(STANDINGS)} FROM campaign_results FINAL "
        f"WHERE run_id = {quoted(run_id)} ORDER BY rank, player_id"
    )


def run_query(run_id: str) -> str:
    """The query whose answer has the hash ``result_sha256``."""
    return f"SELECT {', '.join(RUN)} FROM campaign_runs FINAL WHERE run_id = {quoted(run_id)}"


def stored_standings(settings: Settings, run_id: str) -> Standings:
    """The standings of a stored result, by rank."""
    return Standings(query_frame(settings, standings_query(run_id)))
