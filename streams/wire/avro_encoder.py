"""Encoders of Avro records, made from their schemas once.

For a record of known shape they do without what a general writer asks of every value (which branch of
the union? is the type right? which schema is next?). Where there was a C compiler at installation it is
done in C (``_encode.pyx``), elsewhere by Python code generated here. fastavro is the oracle: a property
test holds all three to the same bytes for every contract.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

try:
    from streams.wire import _encode
except ImportError:
    _encode = None  # type: ignore[assignment]

Encoder = Callable[[Any], bytes]

compiled = _encode
"""The encoder in C; None where there was no C compiler at installation."""

_SMALL = 1024
_EIGHT_BYTES = range(1 << 49, 1 << 56)


def zigzag_varint(number: int) -> bytes:
    """Avro's int and long."""
    if 0 <= number < _SMALL:
        return _NUMBERS[number]
    rest = (number << 1) ^ (number >> 63)
    if rest in _EIGHT_BYTES:  # today's microseconds
        return b"%b%b%b%b" % (
            _PAIRS[rest & 16383],
            _PAIRS[rest >> 14 & 16383],
            _PAIRS[rest >> 28 & 16383],
            _LAST_PAIRS[rest >> 42],
        )
    return _varint(rest)


def _varint(rest: int) -> bytes:
    out = bytearray()
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out)


_NUMBERS = [_varint(number << 1) for number in range(_SMALL)]
_PAIRS = [bytes((pair & 127 | 128, pair >> 7 | 128)) for pair in range(1 << 14)]
_LAST_PAIRS = [bytes((pair & 127 | 128, pair >> 7)) for pair in range(1 << 14)]


def encoder(schema: dict[str, Any], *, of_attributes: bool = False) -> Encoder:
    """The encoder of a record schema without logical types, from a dict or from an object's attributes.

    Supports what the contracts use: primitives but float and double, enums, arrays, maps, records, and
    unions of null with one other type. Raises ``ValueError`` for anything else.
    """
    make = generated if compiled is None else compiled.encoder
    return make(schema, of_attributes=of_attributes)


def generated(schema: dict[str, Any], *, of_attributes: bool = False) -> Encoder:
    """The same in Python."""
    return _Generator().record(schema, "r.{}" if of_attributes else "r[{!r}]")


def joined_in_python(head: bytes, number: int, tails: list[bytes]) -> list[bytes]:
    """``head``, ``number`` as a long and the tail, for each of ``tails``."""
    lead = head + zigzag_varint(number)
    return [lead + tail for tail in tails]


joined = joined_in_python if compiled is None else compiled.joined
"""The same, in C if it can be."""


class _Generator:
    """Writes one function a record; values that the code refers to collect in ``names``."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"N": _NUMBERS, "long": lru_cache(4096)(zigzag_varint)}
        self.count = 0

    def record(self, schema: dict[str, Any], access: str) -> Encoder:
        """Compiles the function of a record whose field is had by ``access``."""
        fields = [self.field(field["type"], access.format(field["name"])) for field in schema["fields"]]
        source = "def encode(r):\n    return b''.join((\n"
        source += "".join(f"        {expression},\n" for expression in fields) + "    ))\n"
        scope: dict[str, Any] = dict(self.names)
        exec(compile(source, f"<encoder of {schema['name']}>", "exec"), scope)  # noqa: S102
        encode: Encoder = scope["encode"]
        return encode

    def field(self, node: Any, given: str) -> str:
        """One or two expressions to be joined."""
        kind = node["type"] if isinstance(node, dict) else node
        if kind == "string":
            return self.sized(self.fresh("v"), f"{given}.encode()", ", ")
        if kind == "bytes":
            return self.sized(self.fresh("v"), given, ", ")
        return self.value(node, given)

    def value(self, node: Any, given: str) -> str:
        """An expression for the bytes of the value that the expression ``given`` yields."""
        v = self.fresh("v")
        if isinstance(node, list):
            if len(node) != 2 or node[0] != "null":
                raise ValueError(f"only unions of null and one other type are supported: {node}")
            return f"(b'\\x00' if ({v} := {given}) is None else b'\\x02' + {self.value(node[1], v)})"
        kind = node["type"] if isinstance(node, dict) else node
        if kind in ("int", "long"):
            return f"(N[{v}] if 0 <= ({v} := {given}) < {_SMALL} else long({v}))"
        if kind == "string":
            return self.sized(v, f"{given}.encode()")
        if kind == "bytes":
            return self.sized(v, given)
        if kind == "boolean":
            return f"(b'\\x01' if {given} else b'\\x00')"
        if kind == "enum":
            table = self.keep({symbol: _NUMBERS[i] for i, symbol in enumerate(node["symbols"])})
            return f"{table}[{given}]"
        if kind == "array":
            return self.blocks(v, given, "x", self.value(node["items"], "x"))
        if kind == "map":
            entry = f"{self.value('string', 'k')} + {self.value(node['values'], 'x')}"
            return self.blocks(v, given, "k, x", entry, ".items()")
        if kind == "record":
            return f"{self.keep(generated(node))}({given})"
        raise ValueError(f"type {kind} is not supported")

    def sized(self, v: str, given: str, joined: str = " + ") -> str:
        """A length and that many bytes."""
        n = self.fresh("n")
        return f"(N[{n}] if ({n} := len({v} := {given})) < {_SMALL} else long({n})){joined}{v}"

    def blocks(self, v: str, given: str, names: str, entry: str, how: str = "") -> str:
        """The entries of an array or map in one block, or none."""
        return (
            f"(long(len({v})) + b''.join([{entry} for {names} in {v}{how}]) + b'\\x00'"
            f" if ({v} := {given}) else b'\\x00')"
        )

    def fresh(self, letter: str) -> str:
        """A local name of its own."""
        self.count += 1
        return f"{letter}{self.count}"

    def keep(self, value: Any) -> str:
        """A name by which the code refers to ``value``."""
        name = f"K{len(self.names)}"
        self.names[name] = value
        return name
