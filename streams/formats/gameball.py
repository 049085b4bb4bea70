"""Gameball's format, ``POST /integrations/event`` (contracts/gameball-event).

A request holds one player and a map of event name to metadata. It carries neither ids nor times. An
event's id is the request's ``Idempotency-Key`` header, or else the edge's batch id, with the
event's name; its time is the receipt.
"""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from streams.core.event import Batch, Kind, Translated
from streams.core.identity import key_of
from streams.errors import EnvelopeError
from streams.formats.validation import Invalid, Item, ItemError, check_count
from streams.wire.json_text import Member, Pairs, members, pointer, text_of
from streams.wire.money import to_bytes, to_units

IDEMPOTENCY_KEY = r"[!-~]{1,200}"
"""Pattern of the header ``Idempotency-Key``."""

KEYS_MAX = 200
LIST_MAX = 100
STRING_MAX = 4096
LIST_STRING_MAX = 256
NAME_MAX = 256

_CONTACT_SIGNS = b"mobile", b"email", b"\\u"
"""A body without any of these has no contact: a name may be written with escapes like ``\\u0065``."""


class Event(NamedTuple):
    """One named event of a request; ``contact`` is the request's mobile and e-mail."""

    player_id: str
    mobile: str | None
    email: str | None
    name: str
    numbers: dict[str, bytes]
    strings: dict[str, str]
    lists: dict[str, list[str]]

    def translate(self, batch: Batch) -> Translated:
        """A custom event; the contact is dropped unless the tenant merges channels."""
        body = self._asdict()
        if not batch.merges_channels:
            body |= {"mobile": None, "email": None}
        event_id = key_of(batch.idempotency_key or batch.batch_id, self.name)
        return Translated(
            Kind.CUSTOM_EVENT,
            self.player_id,
            "event",
            event_id,
            batch.received_at,
            [body],
            timed=False,
        )


def read(body: bytes, batch: Batch, items_max: int) -> Sequence[Item | Invalid]:
    """The events of a request. Raises ``EnvelopeError`` if the request as a whole is wrong."""
    text = text_of(body)
    top: dict[str, Member] = {}
    for member in members(text):
        if member.name in top:
            raise _envelope(member.name, "must not be given twice", "duplicate_key")
        top[member.name] = member
    player_id = _contact(top, "playerUniqueId", NAME_MAX)
    if not player_id:
        raise _envelope("playerUniqueId", "is required and must not be empty", "required")
    mobile, email = _contact(top, "mobile", NAME_MAX), _contact(top, "email", NAME_MAX)
    if "events" not in top:
        raise _envelope("events", "is required", "required")
    if not isinstance(top["events"].value, Pairs):
        raise _envelope("events", "must be an object of event name to metadata")
    events = members(top["events"].text)
    check_count(len(events), items_max)
    times = Counter(event.name for event in events)
    found: list[Item | Invalid] = []
    for event in events:
        reading = _Metadata(event.name)
        if times[event.name] > 1:
            reading.error("duplicate_event", "event names must not be replicated")
        reading.read(event.value)
        if reading.errors:
            found.append(Invalid(tuple(reading.errors), event.text.encode(errors="replace")))
        else:
            found.append(
                Event(
                    player_id, mobile, email, event.name,
                    reading.numbers, reading.strings, reading.lists,
                )
            )  # fmt: skip
    return found


def without_contact(body: bytes) -> bytes:
    """A body that :func:`read` accepts, with null for its mobile and e-mail, all else byte for byte.

    It translates as ``body`` does for a tenant that does not merge channels.
    """
    if not any(sign in body for sign in _CONTACT_SIGNS):
        return body
    text = text_of(body)
    parts, done = [], 0
    for member in members(text):
        if member.name in ("mobile", "email"):
            parts += [text[done : member.at], "null"]
            done = member.at + len(member.text)
    return "".join([*parts, text[done:]]).encode()


def _envelope(name: str, message: str, code: str = "wrong_envelope") -> EnvelopeError:
    return EnvelopeError(code, pointer(name), f"{name} {message}.")


def _contact(top: dict[str, Member], name: str, longest: int) -> str | None:
    value = top[name].value if name in top else None
    if value is None:
        return None
    if not isinstance(value, str) or not _is_text(value) or len(value) > longest:
        raise _envelope(name, f"must be a string of at most {longest} characters")
    return value


def _is_text(value: str) -> bool:
    """False for lone surrogates, which JSON can write and UTF-8 cannot."""
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


class _Metadata:
    """The metadata of one event, sorted by type, with every error found in it."""

    def __init__(self, event: str) -> None:
        self.event = event
        self.numbers: dict[str, bytes] = {}
        self.strings: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {}
        self.errors: list[ItemError] = []

    def error(self, code: str, message: str, *where: str | int) -> None:
        self.errors.append(ItemError(code, _printable(pointer("events", self.event, *where)), message))

    def read(self, metadata: Any) -> None:
        if not self.event or len(self.event) > NAME_MAX or not _is_text(self.event):
            self.error("malformed", f"an event name has 1 to {NAME_MAX} characters of Unicode text")
        if metadata is None:
            return
        if not isinstance(metadata, Pairs):
            self.error("wrong_type", "metadata must be an object")
            return
        if len(metadata) > KEYS_MAX:
            self.error("too_long", f"an event has at most {KEYS_MAX} metadata keys")
            return
        seen = set()
        for key, value in metadata:
            if key in seen:
                self.error("duplicate_key", "metadata keys must not be replicated", key)
            elif len(key) > NAME_MAX or not _is_text(key):
                self.error("malformed", f"a key has at most {NAME_MAX} characters", key)
            else:
                self._read_value(key, value)
            seen.add(key)

    def _read_value(self, key: str, value: Any) -> None:
        if isinstance(value, str):
            if self._check_string(value, STRING_MAX, key):
                self.strings[key] = value
        elif isinstance(value, int | Decimal) and not isinstance(value, bool):
            try:
                self.numbers[key] = to_bytes(to_units(value))
            except ValueError as error:
                self.error("out_of_range", f"has {error}", key)
        elif isinstance(value, list) and not isinstance(value, Pairs):
            self._read_list(key, value)
        else:
            self.error("wrong_type", "must be a number, a string or a list of these", key)

    def _read_list(self, key: str, values: list[Any]) -> None:
        if len(values) > LIST_MAX:
            self.error("too_long", f"a list has at most {LIST_MAX} values", key)
            return
        entries = []
        for index, value in enumerate(values):
            if isinstance(value, str):
                if self._check_string(value, LIST_STRING_MAX, key, index):
                    entries.append(value)
            elif isinstance(value, int | Decimal) and not isinstance(value, bool):
                self._check_string(str(value), LIST_STRING_MAX, key, index)
                entries.append(str(value))
            else:
                self.error("wrong_type", "must be a number or a string", key, index)
        self.lists[key] = entries

    def _check_string(self, value: str, longest: int, *where: str | int) -> bool:
        if len(value) > longest or not _is_text(value):
            self.error("too_long", f"must be Unicode text of at most {longest} characters", *where)
            return False
        return True


def _printable(text: str) -> str:
    return text if _is_text(text) else text.encode(errors="replace").decode()
