"""Items of erased players, which the edge refuses and does not store."""

from collections.abc import Sequence, Set
from typing import Any

from streams.core.event import Batch
from streams.core.identity import erased_mark, key_of
from streams.errors import EnvelopeError
from streams.formats.gameball import Event as NamedEvent
from streams.formats.validation import ERASED_ITEM, Invalid, Item, erased_error
from streams.wire import json_text

_PLAYER_FIELDS = "player_id", "user_id"


def without_erased(
    batch: Batch, body: bytes, items: Sequence[Item | Invalid], marks: Set[str]
) -> tuple[bytes, Sequence[Item | Invalid]]:
    """A body and its items with :data:`ERASED_ITEM` in place of every item of an erased player.

    ``marks`` are the marks of the tenant's erased players (:func:`streams.core.identity.erased_mark`,
    in hexadecimal digits). Raises ``EnvelopeError`` if the whole request is an erased player's, or if
    its items cannot be replaced one by one.
    """
    known: dict[str, bool] = {}

    def is_erased(player: object) -> bool:
        if not isinstance(player, str):
            return False
        if player not in known:
            known[player] = erased_mark(key_of(batch.tenant, player)).hex() in marks
        return known[player]

    if batch.source == "gameball":
        if is_erased(_gameball_player(body, items)):
            raise EnvelopeError("erased_player", "/playerUniqueId", "The player was erased.")
        return body, items
    values = _values(body, items)
    erased = [index for index, item in enumerate(items) if is_erased(_player(item, values, index))]
    if not erased:
        return body, items
    where, texts = json_text.items(body)
    if texts is None:
        raise EnvelopeError(
            "erased_player", "", "Some items are of erased players. Post the others without them."
        )
    kept: list[Any] = list(texts)
    left: list[Item | Invalid] = list(items)
    for index in erased:
        kept[index] = ERASED_ITEM
        left[index] = Invalid((erased_error(*where, index),), ERASED_ITEM)
    listed = b"[%b]" % b",".join(bytes(text) for text in kept)
    return b'{"items":%b}' % listed if where else listed, left


def _gameball_player(body: bytes, items: Sequence[Item | Invalid]) -> object:
    for item in items:
        if isinstance(item, NamedEvent):
            return item.player_id
    found = json_text.decode(body)
    return found.get("playerUniqueId")


def _values(body: bytes, items: Sequence[Item | Invalid]) -> Sequence[Any]:
    """The items' values, if the text of an invalid one is not known."""
    if not any(isinstance(item, Invalid) and item.text is None for item in items):
        return ()
    outer = json_text.decode(body)
    found: Sequence[Any] = outer["items"] if isinstance(outer, dict) else outer
    return found


def _player(item: Item | Invalid, values: Sequence[Any], index: int) -> object:
    """The player of an item; of an invalid one, if its text has it where a valid one has."""
    if isinstance(item, Invalid):
        found = values[index] if item.text is None else json_text.decode(item.text)
        data = found.get("data") if isinstance(found, dict) else None
        if not isinstance(data, dict):
            return None
        return next((data[field] for field in _PLAYER_FIELDS if field in data), None)
    return getattr(item, "player_id", None) or getattr(item, "user_id", None)
