from typing import TypeVar

from msgspec import Raw

_Item = TypeVar("_Item", bound="Gameround")

class Gameround:
    unique_id: str
    timestamp: int
    player_id: str
    game_id: str
    round_id: str
    amount: int
    currency: str
    is_win: bool
    is_bonus: bool

def gamerounds(item_class: type[_Item], texts: list[Raw]) -> list[_Item | None]: ...
