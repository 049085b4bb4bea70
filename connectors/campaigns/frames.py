"""Results of campaigns as Polars frames, for notebooks and files; ``frame.to_arrow()`` makes Arrow.

Amounts are ``Decimal(38, 18)``, times have microseconds and are UTC.
"""

from collections.abc import Sequence
from io import BytesIO

import polars

from connectors.campaigns.evaluation import Comparison, Entry, Result
from connectors.campaigns.standings import MONEY, TIME

_ENTRIES = polars.Schema(
    {
        "id": polars.String(),
        "at": TIME,
        "currency": polars.String(),
        "amount": MONEY,
        "payout": MONEY,
        "rate": MONEY,
        "verdict": polars.String(),
        "player_id": polars.String(),
        "points": MONEY,
    }
)


def standings(*results: Result) -> polars.DataFrame:
    """One row for each player with a score in each result, by rank."""
    return polars.concat(
        result.standings.frame.select(
            polars.lit(result.campaign.name).alias("campaign"),
            polars.lit(result.campaign.tenant).alias("tenant"),
            polars.lit(result.as_of, TIME).alias("as_of"),
            polars.all(),
        )
        for result in results
    )


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
