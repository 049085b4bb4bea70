"""Versions of the data that only Roundhouse reads; the contracts have their own versions.

A layout is the structure of raw records, staged records, or state (keys and values of the tables, puts
in the changelogs). A record with a layout other than 1 has the number in a header, and a table has it
under a key; 0.1.0, which had one layout of each, wrote neither.

A release writes a layout only if the release before it can read it. So workers of two releases can run
at the same time, and each release can be rolled back by one.
"""

from collections.abc import Iterable
from importlib.metadata import version
from typing import NamedTuple

from streams.errors import NewerVersion

HEADER = "layout"
"""The header of a record with the number of its layout and the release that wrote it."""


class Layout(NamedTuple):
    """The layouts of ``what``: this release writes ``written`` and reads all up to ``newest``."""

    what: str
    written: int = 1
    newest: int = 1

    @property
    def mark(self) -> bytes:
        """The mark of the layout in headers and tables: its number and this release."""
        return self._mark(self.written)

    @property
    def newest_headers(self) -> list[tuple[str, bytes]]:
        """The headers of a record that needs the newest layout: an older release stops at it."""
        return [(HEADER, self._mark(self.newest))]

    @property
    def newest_mark(self) -> bytes:
        """The mark of a table with entries that need the newest layout."""
        return self._mark(self.newest)

    @staticmethod
    def _mark(number: int) -> bytes:
        return f"{number} {version('roundhouse')}".encode()

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """The headers that mark a written record; none for layout 1."""
        return [(HEADER, self.mark)] if self.written > 1 else []

    def check(self, where: str, headers: Iterable[tuple[str, bytes]]) -> None:
        """Raises ``NewerVersion`` if the record with these headers cannot be read."""
        for name, mark in headers:
            if name == HEADER:
                self.check_mark(where, mark)

    def check_mark(self, where: str, mark: bytes) -> None:
        """Raises ``NewerVersion`` if data with this mark cannot be read."""
        number, _, release = mark.decode(errors="replace").partition(" ")
        if number.isdecimal() and int(number) <= self.newest:
            return
        own = version("roundhouse")
        raise NewerVersion(
            f"{where} has layout {number} of {self.what}, written by Roundhouse {release}. This is "
            f"{own}, which reads layouts up to {self.newest}; it has changed nothing. "
            f"Deploy Roundhouse {release} here, or the release before it, which reads what it writes: "
            "a rollback goes back one release at a time."
        )


RAW_LAYOUT = Layout("raw records")
STAGED_LAYOUT = Layout("staged records", newest=2)
"""Layout 2 adds the command to erase a player, and only that record is marked with it."""

STATE_LAYOUT = Layout("state", newest=2)
"""Layout 2 adds erased players, and only what an erasure writes is marked with it."""
