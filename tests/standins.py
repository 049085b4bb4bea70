"""Stand-ins for Kafka and RocksDB in tests of the code that uses them.

``tests/integration/test_standins.py`` runs the same tests on each stand-in and on the real program. It
tests ``tests/clickhouse_server.py``, ClickHouse's HTTP interface in front of chDB, in the same way.
"""

from collections.abc import Sequence

from streams.core import profile as profiles
from streams.core import round as rounds
from streams.core.event import Batch, Kind
from streams.core.profile import Profile
from streams.errors import DeliveryFailed
from streams.records.raw_batch import Request, headers_of
from streams.stages.process import Effects


class MemoryWriter:
    """A :class:`connectors.edge.writer.Writer` that keeps requests, in the order of their arrival."""

    def __init__(self) -> None:
        self.written: list[Request] = []
        self.fails = False

    async def write(self, batch: Batch, body: bytes, invalid: int) -> None:
        if self.fails:
            raise DeliveryFailed("no broker")
        self.written.append(Request(dict(headers_of(batch, invalid)), body))

    def kafka_away_s(self) -> float | None:
        return 12.0 if self.fails else None

    def close(self) -> None:
        """Does nothing: the writer has no connection."""


class MemoryState:
    """A :class:`streams.stages.process.Lookup` on the state of one partition, which it keeps itself."""

    def __init__(self) -> None:
        self._window: dict[bytes, bytes] = {}
        self._profiles: dict[str, bytes] = {}
        self.erased: set[bytes] = set()

    @property
    def entries(self) -> tuple[dict[bytes, bytes], dict[str, bytes]]:
        """All that the window's table and that of profiles have."""
        return self._window, self._profiles

    def window(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._window.get(key) for key in keys]

    def profiles(self, keys: Sequence[str]) -> list[Profile | None]:
        stored = map(self._profiles.get, keys)
        return [None if value is None else profiles.decode(value) for value in stored]

    def round_runs(self, kind: Kind, keys: Sequence[str]) -> list[bytes]:
        return [rounds.encode_profile(kind, profile) for profile in self.profiles(keys)]

    def store(self, effects: Effects) -> None:
        """Stores the puts of the effects of processing."""
        self._window |= effects.window
        for key, put in effects.profiles.items():
            self._profiles[key] = profiles.encode(put.kind, put.tenant, put.identity, put.profile)
