"""Makes a next version of Roundhouse: a copy of this one in which all contracts have added fields.

The translation of native items fills two of them, one in the middle of game transactions and one at the
end of players.
"""

from pathlib import Path
from typing import NamedTuple

from tests import next_contracts
from tests.next_contracts import MONEY, NUMBER, New


class Filled(NamedTuple):
    """An added field that native items fill: in ``table`` it is ``value`` (SQL), or the default."""

    table: str
    field: New
    value: str
    before: str
    """The place in ``native.py`` before which ``code`` is inserted."""
    code: str

    @property
    def right(self) -> str:
        """A query: whether some rows have the value, and all others the default."""
        name = self.field.name
        _, _, default = self.field.column.partition(" DEFAULT ")
        neither = f"{name} != {self.value} AND {name} != {default}"
        return f"SELECT countIf({name} = {self.value}) > 0 AND countIf({neither}) = 0 FROM {self.table}"


FILLED = (
    Filled("game_transactions_rows", MONEY, "amount", '"type": "win" if', '"new_money": amount,'),
    Filled(
        "player_events_rows",
        NUMBER,
        "lengthUTF8(player_id)",
        "username=self.username,",
        "new_number=len(self.player_id),",
    ),
)


def next_version(home: Path) -> Path:
    """Makes the copy in ``home`` if it does not exist; returns the ``PYTHONPATH`` that runs it."""
    if not home.exists():
        copy = next_contracts.next_version(home.with_suffix(".new"))
        native = copy / "streams" / "formats" / "native.py"
        text = native.read_text()
        for filled in FILLED:
            assert text.count(filled.before) == 1, f"native.py has changed: {filled.before}"
            text = text.replace(filled.before, f"{filled.code} {filled.before}")
        native.write_text(text)
        copy.rename(home)
    return home
