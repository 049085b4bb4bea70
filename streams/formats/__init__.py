"""The formats operators post in: one file each, holding its models and its translation."""

from streams.core.event import Batch, Kind
from streams.formats import fasttrack, gameball, native
from streams.formats.validation import Reader

READERS: dict[str, Reader] = {
    "native": native.read,
    "fasttrack": fasttrack.read,
    "gameball": gameball.read,
}
"""The readers by the ``source`` header of a raw record."""

KINDS: dict[str, dict[str, Kind]] = {
    "native": {
        "gameround": Kind.GAME_TRANSACTION,
        "deposit": Kind.PAYMENT,
        "withdraw": Kind.PAYMENT,
        "player": Kind.PLAYER,
        "game": Kind.GAME,
        "login": Kind.LOGIN,
    },
    "fasttrack": {
        "realtime-casino": Kind.GAME_TRANSACTION,
        "realtime-gameround": Kind.GAME_TRANSACTION,
        "realtime-payment": Kind.PAYMENT,
        "realtime-registration": Kind.PLAYER,
        "realtime-sports-bet": Kind.SPORTS_BET,
        "realtime-login": Kind.LOGIN,
    },
    "gameball": {"event": Kind.CUSTOM_EVENT},
}
"""The canonical kinds by format and by the format's own name (``source_event``)."""


def stored_body(batch: Batch, body: bytes) -> bytes:
    """The body of a request, which its reader accepts, as ``raw.batches`` stores it.

    A contact that the tenant may not keep is left out; only Gameball's requests have one. All else is
    byte for byte as posted, and the body translates as before.
    """
    if batch.source == "gameball" and not batch.merges_channels:
        return gameball.without_contact(body)
    return body
