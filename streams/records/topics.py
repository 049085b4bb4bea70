"""The topics: what stands in each, and how it is kept."""

from typing import NamedTuple

from streams.core.event import Kind

RAW = "raw.batches"
STAGED = "staged"
ROUNDS = "rounds"
REJECTS = "rejects"
OUTCOMES = "outcomes"
WINDOW = "state.window"
PROFILES = "state.profiles"
SCHEMAS = "schemas"

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""Above the largest body and the largest single event; brokers and clients are sized for it."""

RECORD_BYTES = 700_000
"""At which the stages close a record of many small things: below librdkafka's 1 MB for a message."""

_DAY_MS = 86_400_000


class Topic(NamedTuple):
    """A topic. ``contract`` is None where the value is not Avro.

    What is not compacted is kept for ``days``, or for so many idempotency ``windows`` if given.
    """

    name: str
    contract: str | None
    compacted: bool = False
    days: int = 7
    windows: int | None = None

    def config(self, window_days: int, replicas: int) -> dict[str, str]:
        """Its configuration on the broker. With three replicas one may be away."""
        sizes = {
            "max.message.bytes": str(MESSAGE_BYTES_MAX),
            "min.insync.replicas": str(max(1, replicas - 1)),
        }
        if self.compacted:
            return sizes | {"cleanup.policy": "compact"}
        days = self.days if self.windows is None else self.windows * window_days
        return sizes | {"cleanup.policy": "delete", "retention.ms": str(days * _DAY_MS)}


CANONICAL = {kind: Topic(kind.topic, kind.contract, windows=1) for kind in Kind}

TOPICS = (
    Topic(RAW, None),
    Topic(STAGED, "staged-chunk"),
    *CANONICAL.values(),
    Topic(ROUNDS, "round", compacted=True),
    Topic(REJECTS, "reject", windows=1),
    Topic(OUTCOMES, "outcome", windows=1),
    Topic(WINDOW, "window-changes", windows=2),  # as long as the table may remember
    Topic(PROFILES, "profile", compacted=True),
    Topic(SCHEMAS, None, compacted=True),
)

CONTRACTS = {topic.name: topic.contract for topic in TOPICS if topic.contract is not None}
"""The contract of what stands in a topic."""
