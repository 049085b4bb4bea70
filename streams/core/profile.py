"""Players and games: the newest value of each field, by event time.

A profile is a map of field to value, time and id of the event that set it. Merging keeps the greater
entry, so it is commutative, associative and idempotent: any order and any duplication give the same
profile. The views ``players`` and ``games`` in ClickHouse decide by the same three columns.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from streams.core.event import Kind
from streams.core.identity import key_of, partition_of
from streams.wire.avro import Record, codec

_CODEC = codec("profile")
_FIELDS = {
    Kind.PLAYER: (
        "username",
        "registered_at",
        "country",
        "currency",
        "gender",
        "affiliate",
        "operator",
        "tags",
        "consent_email",
        "is_blocked",
        "is_promo_banned",
        "mobile",
        "email",
    ),
    Kind.GAME: ("name", "provider", "categories", "features", "themes", "device", "has_freespins"),
}


class Value(NamedTuple):
    """The value of a field, preceded by the columns that order updates."""

    occurred_at: int
    source_event: str
    event_id: str
    value: Any


Profile = dict[str, Value]

ERASED = "erased|"
"""The state keys of erased players begin with it; the hexadecimal digits of their marks follow."""


def state_key(kind: Kind, canonical_key: str) -> str:
    """Key of a profile in the table and on its changelog, from ``tenant|player`` or ``tenant|game``."""
    return f"game|{canonical_key}" if kind is Kind.GAME else f"player|{canonical_key}"


def erased_key(mark: bytes) -> str:
    """The state key under which it is kept that a player was erased."""
    return ERASED + mark.hex()


@lru_cache(20_000)
def game_key(tenant: str, game_id: str) -> str:
    """The state key of a game, from its tenant and id."""
    return state_key(Kind.GAME, key_of(tenant, game_id))


def is_of_partition(key: str, partition: int, partitions: int) -> bool:
    """Whether a partition looks up the profile with this state key. Games and the marks of erased
    players are known to all.
    """
    kind, _, canonical_key = key.partition("|")
    return kind in ("game", "erased") or partition_of(canonical_key, partitions) == partition


def profile_in(kind: Kind, event: Record) -> Profile:
    """The fields that a canonical player or game event sets; a null sets none."""
    return _said(event, (field for field in _FIELDS[kind] if event.get(f"has_{field}", True)))


def contact_in(event: Record) -> Profile:
    """The contact that a custom event sets on its player, if the event kept it."""
    return _said(event, ("mobile", "email"))


def _said(event: Record, fields: Iterable[str]) -> Profile:
    origin = event["occurred_at"], event["source_event"], event["event_id"]
    return {field: Value(*origin, event[field]) for field in fields if event[field] is not None}


def merge(known: Profile, news: Profile) -> Profile:
    """The newer entry of each field of both profiles. Neither argument is changed."""
    merged = dict(known)
    for field, value in news.items():
        if field not in merged or merged[field][:3] < value[:3]:
            merged[field] = value
    return merged


def value_of(profile: Mapping[str, Value] | None, field: str, default: Any = None) -> Any:
    """The newest value of a field, or ``default``."""
    return profile[field].value if profile and field in profile else default


def encode(kind: Kind, tenant: str, identity: str, profile: Profile) -> bytes:
    """The ``profile`` datum."""
    return _CODEC.encode(
        {
            "kind": "game" if kind is Kind.GAME else "player",
            "tenant": tenant,
            "id": identity,
            "fields": {
                field: {
                    "occurred_at": entry.occurred_at,
                    "source_event": entry.source_event,
                    "event_id": entry.event_id,
                    "value": msgspec.json.encode(entry.value).decode(),
                }
                for field, entry in profile.items()
            },
        }
    )


def decode(datum: bytes) -> Profile:
    """The profile of a ``profile`` datum of the present version."""
    return profile_of(_CODEC.decode(datum))


def profile_of(record: Record) -> Profile:
    """The profile of a ``profile`` record."""
    return {
        field: Value(
            entry["occurred_at"],
            entry["source_event"],
            entry["event_id"],
            msgspec.json.decode(entry["value"]),
        )
        for field, entry in record["fields"].items()
    }
