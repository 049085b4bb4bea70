"""The health of a process, for orchestrators, load balancers and people.

*Live*: the process needs no restart. It stays live while only Kafka or ClickHouse is unreachable.
*Ready*: the process can do its work now. *Stuck*: work waits, Kafka and ClickHouse answer, and no
offset was committed for ``ROUNDHOUSE_STUCK_AFTER_S``; a stuck process is not live.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


class Health(NamedTuple):
    """``reasons`` are texts that say why the process is not live or not ready; empty if it is both.

    ``facts`` are JSON values: times are ages in seconds, and a value whose name ends in
    ``away_s`` is None while that service answers.
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
        """The health as a JSON object."""
        return {
            "status": self.word,
            "live": self.live,
            "ready": self.ready,
            "stuck": self.stuck,
            "reasons": list(self.reasons),
            **self.facts,
        }


Report = Callable[[], Health]
"""The status server calls it in a separate thread; it may block for a few seconds."""


def judged(
    facts: Mapping[str, Any],
    *,
    waiting: Sequence[str] = (),
    stuck: Sequence[str] = (),
    dead: Sequence[str] = (),
) -> Health:
    """The health that follows from the reasons: with ``waiting`` ones the process is not ready, with
    the others it is not live."""
    return Health(
        live=not stuck and not dead,
        ready=not (waiting or stuck or dead),
        stuck=bool(stuck),
        reasons=[*dead, *stuck, *waiting],
        facts=facts,
    )
