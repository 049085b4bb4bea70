"""Results of campaigns as Polars frames, for notebooks and files; ``frame.to_arrow()`` makes Arrow.

Amounts are ``Decimal(38, 18)``, times have microseconds and are UTC.
"""

from collections.abc import Sequence
from io import BytesIO

import polars

from connectors.campaigns.evaluation import Comparison, Entry, Result

_MONEY = polars.Decimal(38, 18)
_TIME = polars.Datetime("us", "UTC")

_STANDINGS = polars.Schema(
    {
        "campaign": polars.String(),
        "tenant": polars.String(),
        "as_of": _TIME,
        "rank": polars.Int64(),
        "player_id": polars.String(),
        "score": _MONEY,
        "reached_at": _TIME,
        "entries": polars.Int64(),
        "step": polars.Int64(),
        "prize": _MONEY,
        "unpaid": _MONEY,
    }
)
_ENTRIES = polars.Schema(
    {
        "id": polars.String(),
        "at": _TIME,
        "currency": polars.String(),
        "amount": _MONEY,
        "payout": _MONEY,
        "rate": _MONEY,
        "verdict": polars.String(),
        "player_id": polars.String(),
    }
)


def standings(*results: Result) -> polars.DataFrame:
    """One row for each player with a score in each result, by rank."""
    rows = [
        (result.campaign.name, result.campaign.tenant, result.as_of, *standing)
        for result in results
        for standing in result.standings
    ]
    return polars.DataFrame(rows, _STANDINGS, orient="row")


def entries(found: Sequence[Entry]) -> polars.DataFrame:
    """One row for each entry of a player, in order, with its verdict."""
    return polars.DataFrame(list(found), _ENTRIES, orient="row")


def comparison(found: Comparison) -> polars.DataFrame:
    """One row for each player with a score under either definition, with both scores and prizes."""
    before, after = (
        standings(result).select("player_id", "rank", "score", "prize")
        for result in (found.before, found.after)
    )
    joined = before.join(after, on="player_id", how="full", coalesce=True, suffix="_after")
    names = {name: f"{name}_before" for name in ("rank", "score", "prize")}
    return joined.rename(names).sort("player_id")


def written(frame: polars.DataFrame, form: str) -> bytes:
    """A frame as ``json``, ``csv`` or ``parquet``. Amounts in JSON are text, with all digits."""
    if form == "json":
        return frame.write_json().encode() + b"\n"
    if form == "csv":
        return frame.write_csv(datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ").encode()
    file = BytesIO()
    frame.write_parquet(file)
    return file.getvalue()
