"""Finds the persons of a tenant in plain Python; has no code in common with ``connectors``."""

from collections import defaultdict
from collections.abc import Collection, Iterable

DIGITS = "0123456789"


def compared(mobile: str | None, email: str | None) -> list[str]:
    """The contacts of a request as they are compared; what is no contact is left out."""
    found = []
    digits = "".join(char for char in mobile or "" if char in DIGITS).removeprefix("00")
    if 7 <= len(digits) <= 15:
        found.append(f"mobile:{digits}")
    address = "".join((email or "").split()).lower()
    if "@" in address[1:]:
        found.append(f"email:{address}")
    return found


def persons(
    held: Iterable[tuple[str, list[str]]],
    apart: Collection[tuple[str, str]] = (),
    disowned: Collection[tuple[str, str]] = (),
) -> dict[str, str]:
    """The person of each player who is merged.

    ``held``: players and their contacts, maybe none, in the order of receipt. ``apart``: pairs of
    players who are not the same. ``disowned``: players ('' for all) and contacts that are not theirs.
    """
    holders: dict[str, list[str]] = defaultdict(list)
    order: list[str] = []
    for player, contacts in held:
        order += [player] if player not in order else []
        for contact in contacts:
            holders[contact] += [player] if player not in holders[contact] else []
    group = {player: {player} for player in order}
    for contact, players in holders.items():
        lost = {one for pair in apart if set(pair) <= set(players) for one in pair}
        lost |= {player for player in players if {(player, contact), ("", contact)} & set(disowned)}
        joined = [player for player in players if player not in lost]
        for one in joined[1:]:
            together = group[joined[0]] | group[one]
            for player in together:
                group[player] = together
    return {player: min(group[player], key=order.index) for player in order if len(group[player]) > 1}
