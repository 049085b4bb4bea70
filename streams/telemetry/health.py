"""What a process says of itself to whoever must restart it, send it work, or look into it.

*Live*: a restart would not help. It stays true while only Kafka or ClickHouse is away. *Ready*: the
process does its work now. *Stuck*: work waits, nothing that the process depends on is away, and no
position has moved for ``ROUNDHOUSE_STUCK_AFTER_S``; a stuck process is not live.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


class Health(NamedTuple):
    """``reasons`` say in words why the process is not live or not ready, and are empty when it is both.

    ``facts`` are JSON values: times are ages in seconds, and a name that ends in ``away_s`` is None
    while what it names answers.
    """

    live: bool
    ready: bool
    stuck: bool
    reasons: Sequence[str]
    facts: Mapping[str, Any]

    @property
    def word(self) -> str:
        """One word: ``stuck``, ``dead``, ``waiting`` (live and not ready), or ``ready``."""
        if self.stuck:
            return "stuck"
        if not self.live:
            return "dead"
        return "ready" if self.ready else "waiting"

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "status": self.word,
            "live": self.live,
            "ready": self.ready,
            "stuck": self.stuck,
            "reasons": list(self.reasons),
            **self.facts,
        }


Report = Callable[[], Health]
"""Called by the status server in a thread of its own; may block for a few seconds."""


def judged(
    facts: Mapping[str, Any],
    *,
    waiting: Sequence[str] = (),
    stuck: Sequence[str] = (),
    dead: Sequence[str] = (),
) -> Health:
    """The health that follows from reasons: ``waiting`` mean not ready, the others not live."""
    return Health(
        live=not stuck and not dead,
        ready=not (waiting or stuck or dead),
        stuck=bool(stuck),
        reasons=[*dead, *stuck, *waiting],
        facts=facts,
    )
