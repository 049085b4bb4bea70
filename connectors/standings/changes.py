"""What an evaluation changes of the standings that are on the topic. Pure.

A frame of the topic has a row for each player: the columns of :data:`COLUMNS` as in the player's last
record. One player who gains a rank moves all others between, and a record for each of them would
write a campaign of a million players anew with every evaluation. So the rank alone is a change only
among the first :data:`EXACT_RANKS` and in teams; all else that is in a record always is.
"""

from typing import NamedTuple

import polars

from connectors.campaigns.standings import SCHEMA, Standings

EXACT_RANKS = 1000
"""The rank in a player's last record is the player's rank, if either is not above this."""

COLUMNS = tuple(name for name in SCHEMA if name != "items_cost")
ON_TOPIC = polars.Schema({name: SCHEMA[name] for name in COLUMNS})

BEFORE = ("rank", "score", "step", "prize", "items")
"""The columns that a record also has as they were in the record before."""


class Changes(NamedTuple):
    """What is written, and what the topic has afterwards.

    ``written``: :data:`COLUMNS`, and those of :data:`BEFORE` with the suffix ``_before``, which are
    null for a player whom the topic does not have. ``gone``: the players who have no standing any more.
    """

    written: polars.DataFrame
    gone: list[str]
    on_topic: polars.DataFrame

    def __len__(self) -> int:
        return self.written.height + len(self.gone)


def changes(on_topic: polars.DataFrame, standings: Standings) -> Changes:
    """The difference between what the topic has of a campaign and its standings now."""
    now = standings.frame.select(COLUMNS)
    joined = now.join(
        on_topic, on="player_id", how="left", suffix="_before", maintain_order="left"
    ).with_columns(is_written=_differs())
    rank = polars.when("is_written").then("rank").otherwise("rank_before").alias("rank")
    return Changes(
        joined.filter("is_written").select(*COLUMNS, *(f"{name}_before" for name in BEFORE)),
        on_topic.join(now, on="player_id", how="anti")["player_id"].to_list(),
        joined.select(rank, *COLUMNS[1:]),
    )


def _differs() -> polars.Expr:
    others = [name for name in COLUMNS if name not in ("rank", "player_id")]
    is_other = polars.any_horizontal(
        polars.col(name).ne_missing(polars.col(f"{name}_before")) for name in others
    )
    is_exact = polars.min_horizontal("rank", "rank_before") <= EXACT_RANKS
    is_moved = polars.col("rank") != polars.col("rank_before")
    return is_other | (is_moved & (is_exact | (polars.col("team") != ""))).fill_null(value=False)
