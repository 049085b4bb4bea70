"""The topics, their contracts and their configuration."""

from typing import NamedTuple

from streams.core.event import Kind

RAW = "raw.batches"
STAGED = "staged"
ROUNDS = "rounds"
REJECTS = "rejects"
OUTCOMES = "outcomes"
AWARDS = "awards"
SETTLEMENTS = "settlements"
WEBHOOKS = "webhooks"
STANDINGS = "standings"
WINDOW = "state.window"
PROFILES = "state.profiles"
OWNERS = "state.owners"
SCHEMAS = "schemas"

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""Larger than the largest body and the largest event; brokers and clients are configured for it."""

RECORD_BYTES = 700_000
"""Size at which the stages close a record: below librdkafka's default limit of 1 MB for a message."""

COMPACTED_WITHIN_DAYS = 7
"""After how many days a record of a compacted topic that has a later one, or a tombstone, is removed at
the latest.
"""

_DAY_MS = 86_400_000


class Topic(NamedTuple):
    """A topic. ``contract`` is None if the value is not Avro, ``key`` is None if records have no key.

    A topic that is not compacted keeps its records for ``days``, or for so many idempotency
    ``windows`` if they are given.
    """

    name: str
    contract: str | None
    key: str | None
    compacted: bool = False
    days: int = 7
    windows: int | None = None

    def config(self, window_days: int, replicas: int) -> dict[str, str]:
        """The configuration of the topic. With three replicas, one may be down."""
        sizes = {
            "max.message.bytes": str(MESSAGE_BYTES_MAX),
            "min.insync.replicas": str(max(1, replicas - 1)),
        }
        if self.compacted:
            lag = str(COMPACTED_WITHIN_DAYS * _DAY_MS)
            return sizes | {"cleanup.policy": "compact", "max.compaction.lag.ms": lag}
        days = self.days if self.windows is None else self.windows * window_days
        return sizes | {"cleanup.policy": "delete", "retention.ms": str(days * _DAY_MS)}


_PLAYER = "tenant|player_id"

CANONICAL = {
    kind: Topic(
        kind.topic, kind.contract, "tenant|game_id" if kind is Kind.GAME else _PLAYER, windows=1
    )
    for kind in Kind
}

TOPICS = (
    Topic(RAW, None, "batch id"),
    Topic(STAGED, "staged-chunk", None),
    *CANONICAL.values(),
    Topic(ROUNDS, "round", f"{_PLAYER}|round_id", compacted=True),
    Topic(REJECTS, "reject", "tenant", windows=1),
    Topic(OUTCOMES, "outcome", "tenant", windows=1),
    Topic(AWARDS, "award", _PLAYER, days=365),
    Topic(SETTLEMENTS, "settlement", "tenant|campaign|number", compacted=True),
    Topic(WEBHOOKS, "webhook-delivery", f"{_PLAYER}|award_id", compacted=True),
    Topic(STANDINGS, "standing", "tenant|campaign|player_id", compacted=True),
    Topic(WINDOW, "window-changes", None, windows=2),  # the longest time that the table keeps an id
    Topic(PROFILES, "profile", "state key", compacted=True),
    Topic(OWNERS, None, "transactional id", compacted=True),
    Topic(SCHEMAS, None, "schema id, as text", compacted=True),
)

CONTRACTS = {topic.name: topic.contract for topic in TOPICS if topic.contract is not None}
"""The contract of each topic whose values are Avro."""
