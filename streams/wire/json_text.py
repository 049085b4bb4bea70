"""JSON text to values without losing a digit, and to the text of single items.

``msgspec`` is the fast path. It refuses a whole document for one number beyond its range, so a
document that it refuses is read again with the standard library, which also reports the position of
an error.
"""

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import msgspec

from streams.errors import EnvelopeError

_WHITE_SPACE = re.compile(r"[ \t\n\r]*")
_TOO_LARGE = Decimal("Infinity")
_LONGEST_INT = 64


def _exact(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond what Decimal can hold
        return _TOO_LARGE


def _exact_int(text: str) -> int | Decimal:
    return int(text) if len(text) <= _LONGEST_INT else _TOO_LARGE


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


class _Bulk(msgspec.Struct):
    items: list[msgspec.Raw]


_FAST = msgspec.json.Decoder(float_hook=_exact)
_BULK = msgspec.json.Decoder(_Bulk | list[msgspec.Raw])
_SLOW = json.JSONDecoder(parse_float=_exact, parse_int=_exact_int, parse_constant=_no_constant)


def _not_json(why: object) -> EnvelopeError:
    return EnvelopeError("not_json", "", f"The body is not JSON: {why}. Send UTF-8 encoded JSON.")


def text_of(body: bytes) -> str:
    """The body as text. Raises ``EnvelopeError`` if it is not UTF-8."""
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise _not_json(f"byte {error.start} is not UTF-8") from None


def decode(body: bytes) -> Any:
    """The document; numbers are ``int`` or ``Decimal``. Raises ``EnvelopeError`` if it is not JSON."""
    try:
        return _FAST.decode(body)
    except (ValueError, RecursionError):
        pass
    try:
        return _SLOW.decode(text_of(body))
    except RecursionError:
        raise _not_json("it is nested too deeply") from None
    except ValueError as error:
        raise _not_json(error) from None


def items(body: bytes) -> tuple[tuple[str, ...], list[msgspec.Raw] | None]:
    """The text of each item of a bulk body, and the path of the items in it.

    Returns None if the body is not plainly ``{"items": [...]}`` or ``[...]``; :func:`decode` then
    reads it. Raises ``EnvelopeError`` if the body is not UTF-8. The texts are JSON, but a number in
    them may still be out of range.
    """
    text_of(body)
    try:
        outer = _BULK.decode(body)
    except (ValueError, RecursionError):
        return (), None
    return ((), outer) if isinstance(outer, list) else (("items",), outer.items)


def raw_items(body: bytes) -> list[bytes]:
    """The text of each item of a bulk body that :func:`decode` has read before."""
    _, texts = items(body)
    if texts is not None:
        return [bytes(text) for text in texts]
    outer = _SLOW.decode(text_of(body))  # the values of the items are used instead
    values = outer if isinstance(outer, list) else outer["items"]
    return [json.dumps(value, default=str).encode() for value in values]


class Member(NamedTuple):
    """One member of a JSON object as its text has it; duplicate names are kept.

    ``text`` is the text of the value, and ``at`` the index of its first character in the object's text.
    """

    name: str
    value: Any
    text: str
    at: int


_PAIRS = json.JSONDecoder(
    parse_float=_exact,
    parse_int=_exact_int,
    parse_constant=_no_constant,
    object_pairs_hook=lambda pairs: Pairs(pairs),
)


class Pairs(list[tuple[str, Any]]):
    """A nested JSON object as its name/value pairs, in order, duplicates kept."""


def members(text: str) -> list[Member]:
    """The members of the object that ``text`` is; nested objects are :class:`Pairs`.

    Raises ``EnvelopeError`` if the text is not one JSON object.
    """
    try:
        value, end = _PAIRS.raw_decode(text, _skip(text, 0))
        if _skip(text, end) != len(text):
            raise ValueError(f"extra text at character {end}")
    except RecursionError:
        raise _not_json("it is nested too deeply") from None
    except ValueError as error:
        raise _not_json(error) from None
    if not isinstance(value, Pairs):
        raise EnvelopeError("wrong_envelope", "", "The body must be a JSON object.")
    found = []
    at = _skip(text, 0) + 1
    for name, member in value:
        start = _skip(text, at)
        _, end = _PAIRS.raw_decode(text, start)
        value_start = _skip(text, _skip(text, end) + 1)
        _, value_end = _PAIRS.raw_decode(text, value_start)
        found.append(Member(name, member, text[value_start:value_end], value_start))
        at = _skip(text, value_end) + 1
    return found


def _skip(text: str, at: int) -> int:
    return _WHITE_SPACE.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too


def pointer(*parts: str | int) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
