"""Players of a tenant that are one person because they share a contact, and corrections of that.

ClickHouse finds the persons when they are read (``merged_players_at`` in its migrations). A correction
is a row in ``merge_corrections`` and changes no event.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from connectors.clickhouse.literals import instant, quoted
from connectors.clickhouse.query import insert, query_rows
from streams.errors import ConfigurationError
from streams.settings import Settings


class Person(NamedTuple):
    """Merged players. ``contacts``: by player, those that it shares with others of the person."""

    person_id: str
    contacts: dict[str, list[str]]

    def lines(self) -> list[str]:
        """The person as text, a line for each of its players."""
        players = (f"  {player_id}  {' '.join(held)}" for player_id, held in self.contacts.items())
        return [f"person {self.person_id}", *players]


class Correction(NamedTuple):
    """Two players are not the same; or a contact is not that of one player; or, with no player, the
    contact identifies nobody.

    ``contact`` is as the view ``player_contacts`` has it, e.g. ``email:ann@example.com``.
    """

    tenant: str
    player_ids: tuple[str, ...]
    contact: str | None


def has_contacts(settings: Settings, tenant: str) -> bool:
    """Whether a contact of the tenant's players was ever received; without one nobody is merged."""
    text = (
        f"SELECT 1 FROM custom_events_rows WHERE tenant = {quoted(tenant)} "
        "AND (isNotNull(mobile) OR isNotNull(email)) LIMIT 1"
    )
    return bool(query_rows(settings, text))


def persons(
    settings: Settings, tenant: str, as_of: datetime, player_ids: Sequence[str] = ()
) -> list[Person]:
    """The merged players of a tenant, the largest person first; of some players only, if given."""
    merged = f"merged_players_at(tenant = {quoted(tenant)}, as_of = {quoted(instant(as_of))})"
    wanted = ""
    if player_ids:
        given = ", ".join(map(quoted, player_ids))
        wanted = f"WHERE person_id IN (SELECT person_id FROM {merged} WHERE player_id IN ({given}))"
    found = query_rows(settings, f"SELECT * FROM {merged} {wanted} ORDER BY person_id, player_id")
    people = [
        Person(person_id, {row["player_id"]: row["contacts"] for row in players})
        for person_id, players in groupby(found, key=lambda row: str(row["person_id"]))
    ]
    return sorted(people, key=lambda person: -len(person.contacts))


def correct(settings: Settings, correction: Correction, by: str, reason: str, *, holds: bool) -> None:
    """Records a correction, or with ``holds=False`` takes it back, for all later results.

    Raises ``ConfigurationError`` for a correction that has no form or concerns a contact or a player of
    whose contacts nothing was received.
    """
    player_ids, contact = sorted(set(correction.player_ids)), correction.contact
    if len(correction.player_ids) != len(player_ids) or len(player_ids) + bool(contact) not in (1, 2):
        raise ConfigurationError(_FORMS)
    if len(player_ids) == 1 and contact is None:
        raise ConfigurationError(_FORMS)
    if holds:
        _check_known(settings, correction)
    one, other = [*player_ids, "", ""][:2]
    row = {
        "tenant": correction.tenant,
        "player_id": one,
        "other_player_id": other,
        "contact_sha256": hashlib.sha256(contact.encode()).hexdigest() if contact else "",
        "holds": holds,
        "corrected_by": by,
        "reason": reason,
    }
    insert(settings, "merge_corrections", [row])


_FORMS = (
    "give two players, who are not the same; or a player and --contact, which is not the player's; or "
    "--contact alone, which identifies nobody"
)


def _check_known(settings: Settings, correction: Correction) -> None:
    contact = "" if correction.contact is None else f"contact = {quoted(correction.contact)}"
    conditions = [f"player_id = {quoted(player_id)}" for player_id in correction.player_ids]
    if contact:
        conditions = [" AND ".join([*conditions, contact])]
    for condition in conditions:
        text = (
            f"SELECT 1 FROM player_contacts WHERE tenant = {quoted(correction.tenant)} AND {condition}"
        )
        if not query_rows(settings, f"{text} LIMIT 1"):
            raise ConfigurationError(
                f"tenant {correction.tenant} has no {condition} among its players' contacts. "
                "`roundhouse player merged` prints players and contacts as they are compared"
            )
