"""The lookups of the process stage in the tables of a partition."""

from collections.abc import Callable, Iterable, Sequence

from streams.core import round as rounds
from streams.core.event import Kind
from streams.core.profile import ERASED, Profile
from streams.state.table import Table, Window

_ROUND_RUNS_MAX = 50_000


class StateReader:
    """A :class:`streams.stages.process.Lookup` on the two tables of a partition.

    The encoded profiles for rounds are cached, since a player has many rounds.
    """

    def __init__(self, window: Window, profiles: Table, profile_of: Callable[[bytes], Profile]) -> None:
        """``profile_of`` reads what the table of profiles holds."""
        self._window = window
        self._profiles = profiles
        self._profile_of = profile_of
        self._round_runs: dict[str, bytes] = {}
        lead = ERASED.encode()
        self.erased = {
            bytes.fromhex(key[len(lead) :].decode()) for key, _ in self._profiles.entries(lead)
        }

    def window(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return self._window.get_many(keys)

    def profiles(self, keys: Sequence[str]) -> Sequence[Profile | None]:
        stored = self._profiles.get_many([key.encode() for key in keys])
        return [None if value is None else self._profile_of(value) for value in stored]

    def round_runs(self, kind: Kind, keys: Sequence[str]) -> Sequence[bytes]:
        known = self._round_runs
        unknown = list({key for key in keys if key not in known})
        if len(known) + len(unknown) > _ROUND_RUNS_MAX:
            known.clear()
            unknown = list(set(keys))
        for key, profile in zip(unknown, self.profiles(unknown), strict=True):
            known[key] = rounds.encode_profile(kind, profile)
        return [known[key] for key in keys]

    def forget(self, profiles: Iterable[bytes]) -> None:
        """Removes changed profiles, given by key, from the cache."""
        for key in profiles:
            self._round_runs.pop(key.decode(), None)
