"""A probe of Kafka: whether it answers, and since when it does not."""

import threading
import time
from collections.abc import Callable

from confluent_kafka import KafkaException

_ANSWER_HOLDS_S = 1.0


class KafkaProbe:
    """Asks Kafka on demand, at most once a second. ``ask`` raises ``KafkaException``."""

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self._asking = threading.Lock()
        self._asked_at = float("-inf")
        self._away_since: float | None = None

    def away_s(self) -> float | None:
        """Seconds since Kafka was first found away; None if it answers. Blocks as ``ask`` does."""
        with self._asking:
            now = time.monotonic()
            if now - self._asked_at > _ANSWER_HOLDS_S:
                try:
                    self._ask()
                    self._away_since = None
                except KafkaException:
                    self._away_since = self._away_since or now
                self._asked_at = time.monotonic()
            return None if self._away_since is None else time.monotonic() - self._away_since
