"""Erases a player from ClickHouse: the rows remain, under a pseudonym and without personal fields.

The key of most tables begins with tenant and player, and a key cannot be updated. So for each table,
with the state after a crash at the end of each step:

1. Insert the player's rows under the pseudonym. Both stand there; a repetition replaces them by
   equal ones.
2. Delete the player's rows, and wait until the parts are rewritten. Nothing is left to repeat.

Corrections of merged players are deleted. Refused items lose their payload instead, and corrections
both of their contents. They are first: a contact in them is recognised by the player's rows.

ClickHouse keeps the text of a mutation in a file and on a cluster in Keeper, so it names the player by
a hash. Parts that are replaced are removed from the disk some minutes later (``old_parts_lifetime``).
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from connectors.clickhouse.cluster import Cluster
from connectors.clickhouse.literals import quoted

PERSONAL: dict[str, dict[str, str]] = {
    "game_transactions_rows": {},
    "payments_rows": {},
    "player_events_rows": {
        "username": "NULL",
        "registered_at": "NULL",
        "gender": "NULL",
        "tags": "[]",
        "consent_email": "NULL",
        "mobile": "NULL",
        "email": "NULL",
    },
    "logins_rows": {},
    "sports_bets_rows": {},
    "custom_events_rows": {"mobile": "NULL", "email": "NULL", "strings": "map()", "lists": "map()"},
    "rounds_by_day_rows": {"player_registered_at": "NULL", "player_tags": "[]"},
    "campaign_results": {},
    "awards_rows": {},
}
"""The tables with rows of a player, and what their personal fields become. What totals are made by is
kept: country, currency, affiliate, amounts and times.
"""

REJECTS, CORRECTIONS, MERGES = "rejects_rows", "corrections", "merge_corrections"
_CONTACT_CHARACTERS_MIN = 5
_AT_ONCE = 5_000
_QUIET = {"log_queries": 0}
"""Settings of a query that names the player: ClickHouse does not log its text."""


class Subject(NamedTuple):
    """Whom to erase, and the ``player_id`` that takes the place of the player's."""

    tenant: str
    player_id: str
    pseudonym: str


def erase(client: Client, subject: Subject, cluster: str | None) -> dict[str, int]:
    """Erases a player; returns how many rows were changed, by table. Can be repeated.

    No row of the player may be inserted any more. Raises ``ClickHouseError`` if ClickHouse refuses.
    """
    return _Erasing(client, subject, cluster).run()


class _Erasing:
    def __init__(self, client: Client, subject: Subject, cluster: str | None) -> None:
        self._client = client
        self._subject = subject
        self._cluster = Cluster(cluster, str(client.database)) if cluster else None
        [(self._hash,)] = self._rows(f"SELECT hex(sipHash128({quoted(subject.player_id)}))")
        self._tenant = f"tenant = {quoted(subject.tenant)}"
        self._runs = [
            str(run)
            for (run,) in self._rows(f"SELECT DISTINCT run_id FROM campaign_runs WHERE {self._tenant}")
        ]

    def run(self) -> dict[str, int]:
        changed = {REJECTS: self._clear_rejects(), CORRECTIONS: self._clear_corrections()}
        for table, fields in PERSONAL.items():
            found = sum(self._move(table, fields, rows) for rows in self._conditions(table))
            changed[table] = found
        changed[MERGES] = self._delete_merges()
        return {table: rows for table, rows in changed.items() if rows}

    def _conditions(self, table: str) -> Iterator[str]:
        """Conditions that choose the tenant's rows."""
        if table != "campaign_results":
            yield self._tenant
            return
        for runs in _slices(self._runs):
            yield f"run_id IN ({', '.join(map(quoted, runs))})"

    def _move(self, table: str, fields: dict[str, str], of_tenant: str) -> int:
        own = f"{of_tenant} AND player_id = {quoted(self._subject.player_id)}"
        [(found,)] = self._rows(f"SELECT count() FROM {table} WHERE {own}")
        if not found:
            return 0
        columns = [str(name) for name, *_ in self._rows(f"DESCRIBE TABLE {table}")]
        given = fields | {"player_id": quoted(self._subject.pseudonym)}
        values = ", ".join(given.get(column, f"t.{column}") for column in columns)
        self._client.command(
            f"INSERT INTO {table} ({', '.join(columns)}) "
            f"SELECT {values} FROM {table} AS t FINAL WHERE {own}",
            settings=_QUIET | {"max_partitions_per_insert_block": 0},
        )
        self._mutate(
            f"ALTER TABLE {table} DELETE WHERE {of_tenant} AND hex(sipHash128(player_id)) = "
            f"{quoted(str(self._hash))}"
        )
        return int(found)

    def _clear_rejects(self) -> int:
        player = quoted(self._subject.player_id)
        fields = [
            "JSONExtractString(payload, 'data', 'player_id')",
            "JSONExtractString(payload, 'data', 'user_id')",
            "JSONExtractRaw(payload, 'data', 'player_id')",
            "JSONExtractRaw(payload, 'data', 'user_id')",
            "JSONExtractString(splitByChar('\\n', payload)[1], 'player_id')",
            "JSONExtractString(payload, 'playerUniqueId')",
        ]
        return self._clear(REJECTS, ("payload",), f"{player} IN ({', '.join(fields)})")

    def _clear_corrections(self) -> int:
        of_player = f"JSONExtractString(replaced, 1, 'player_id') = {quoted(self._subject.player_id)}"
        return self._clear(CORRECTIONS, ("replaced", "replacement"), of_player)

    def _delete_merges(self) -> int:
        """Deletes what separates the player from others: without a contact it is merged with nobody."""
        columns = "player_id", "other_player_id"
        own = " OR ".join(
            f"hex(sipHash128({column})) = {quoted(str(self._hash))}" for column in columns
        )
        where = f"{self._tenant} AND ({own})"
        [(found,)] = self._rows(f"SELECT count() FROM {MERGES} WHERE {where}")
        if found:
            self._mutate(f"ALTER TABLE {MERGES} DELETE WHERE {where}")
        return int(found)

    def _clear(self, table: str, columns: Sequence[str], of_player: str) -> int:
        """Empties columns where a condition holds or one of them has a contact of the player."""
        either = [of_player] + [
            f"position({column}, {quoted(contact)}) > 0"
            for column in columns
            for contact in self._contacts
        ]
        found = self._rows(
            f"SELECT DISTINCT reject_id FROM {table} WHERE {self._tenant} AND {columns[0]} != '' "
            f"AND ({' OR '.join(either)})"
        )
        emptied = ", ".join(f"{column} = ''" for column in columns)
        for ids in _slices([str(reject_id) for (reject_id,) in found]):
            self._mutate(
                f"ALTER TABLE {table} UPDATE {emptied} WHERE {self._tenant} "
                f"AND reject_id IN ({', '.join(map(quoted, ids))})"
            )
        return len(found)

    @cached_property
    def _contacts(self) -> list[str]:
        own = f"{self._tenant} AND player_id = {quoted(self._subject.player_id)}"
        found = self._rows(
            "SELECT DISTINCT arrayJoin([mobile, email, username]) AS contact FROM player_events_rows "
            f"WHERE {own} UNION DISTINCT "
            f"SELECT DISTINCT arrayJoin([mobile, email]) FROM custom_events_rows WHERE {own}"
        )
        known = [str(contact) for (contact,) in found if contact is not None]
        return [contact for contact in known if len(contact) >= _CONTACT_CHARACTERS_MIN]

    def _rows(self, sql: str) -> Sequence[Sequence[Any]]:
        found: Sequence[Sequence[Any]] = self._client.query(sql, settings=_QUIET).result_rows
        return found

    def _mutate(self, statement: str) -> None:
        for each in self._cluster.rendered(statement) if self._cluster else [statement]:
            self._client.command(f"{each} SETTINGS mutations_sync = 2")


def _slices(values: Sequence[str]) -> Iterable[Sequence[str]]:
    return [values[begin : begin + _AT_ONCE] for begin in range(0, len(values), _AT_ONCE)]
