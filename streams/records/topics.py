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

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""Above the largest body and the largest single event; brokers and clients are sized for it."""

_DAY_MS = 86_400_000


class Topic(NamedTuple):
    """A topic. ``contract`` is None where the value is not Avro; ``days`` None means
    twice the window, which is how long the table beside it may remember."""

    name: str
    contract: str | None
    compacted: bool = False
    days: int | None = 7

    def config(self, window_days: int, replicas: int) -> dict[str, str]:
        """Its configuration on the broker. With three replicas one may be away."""
        sizes = {
            "max.message.bytes": str(MESSAGE_BYTES_MAX),
            "min.insync.replicas": str(max(1, replicas - 1)),
        }
        if self.compacted:
            return sizes | {"cleanup.policy": "compact"}
        days = 2 * window_days if self.days is None else self.days
        return sizes | {"cleanup.policy": "delete", "retention.ms": str(days * _DAY_MS)}


CANONICAL = {kind: Topic(kind.topic, kind.contract, days=35) for kind in Kind}

TOPICS = (
    Topic(RAW, None),
    Topic(STAGED, "staged-chunk"),
    *CANONICAL.values(),
    Topic(ROUNDS, "round", compacted=True),
    Topic(REJECTS, "reject", days=35),
    Topic(OUTCOMES, "outcome", days=35),
    Topic(WINDOW, "window-changes", days=None),
    Topic(PROFILES, "profile", compacted=True),
)

CONTRACTS = {topic.name: topic.contract for topic in TOPICS if topic.contract is not None}
"""The contract of what stands in a topic."""
