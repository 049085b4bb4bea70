"""The tables that the sink fills, by topic."""

from typing import NamedTuple

from streams.core.event import Kind
from streams.records.topics import AWARDS, OUTCOMES, REJECTS, ROUNDS, SETTLEMENTS


class Target(NamedTuple):
    """A table that is inserted into, and the contract of its rows. ``to``: the table to which a
    materialized view hands them, if the first stores nothing."""

    table: str
    contract: str
    to: str | None = None

    @property
    def stored(self) -> str:
        """The table from which the rows are read."""
        return self.to or self.table


TARGETS = {
    Kind.GAME_TRANSACTION.topic: Target("game_transactions_rows", "game-transaction"),
    Kind.PAYMENT.topic: Target("payments_rows", "payment"),
    Kind.PLAYER.topic: Target("player_events_rows", "player"),
    Kind.GAME.topic: Target("game_events_rows", "game"),
    Kind.LOGIN.topic: Target("logins_rows", "login"),
    Kind.SPORTS_BET.topic: Target("sports_bets_rows", "sports-bet"),
    Kind.CUSTOM_EVENT.topic: Target("custom_events_rows", "custom-event"),
    ROUNDS: Target("rounds_rows", "round", to="rounds_by_day_rows"),
    REJECTS: Target("rejects_rows", "reject"),
    OUTCOMES: Target("outcomes_rows", "outcome"),
    AWARDS: Target("awards_rows", "award"),
    SETTLEMENTS: Target("settlements_rows", "settlement"),
}

EMPTY = frozenset(target.table for target in TARGETS.values() if target.to)
"""The tables that are inserted into and store nothing."""
