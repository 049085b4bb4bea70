"""Exact money: decimal(38,18) as unscaled integers ("units", 10**-18 of a currency unit).

Integers add faster than ``Decimal`` and are what Avro's decimal holds. The path is
JSON text -> Decimal -> units -> Avro bytes -> ClickHouse Decimal(38,18), with no float on it.
"""

from decimal import Context, Decimal, Inexact, InvalidOperation

SCALE = 18
PRECISION = 38
ONE: int = 10**SCALE
LIMIT: int = 10**PRECISION
ZERO = b"\x00"
"""Nothing, as Avro bytes."""

_EXACT = Context(prec=PRECISION, traps=[Inexact, InvalidOperation])
_QUANTUM = Decimal(1).scaleb(-SCALE)
_SHIFT = Decimal(SCALE)
_WIDE = Context(prec=PRECISION + 2)


def to_units(value: Decimal | int) -> int:
    """Units of ``value``.

    Raises ``ValueError`` if it does not fit 20 digits before and 18 after the point.
    """
    units: int
    if type(value) is int:
        units = value * ONE if -LIMIT < value < LIMIT else LIMIT
    else:
        try:
            units = int(_EXACT.quantize(value, _QUANTUM).scaleb(_SHIFT, _EXACT))
        except (Inexact, InvalidOperation):
            units = LIMIT
    if not -LIMIT < units < LIMIT:
        raise ValueError("more than 20 digits before or 18 after the decimal point")
    return units


def to_decimal(units: int) -> Decimal:
    """The decimal that ``units`` stands for."""
    return Decimal(units).scaleb(-SCALE, _WIDE)


def to_bytes(units: int) -> bytes:
    """Avro decimal: big-endian two's complement of the unscaled value."""
    return units.to_bytes((units.bit_length() + 8) // 8, "big", signed=True)


def from_bytes(data: bytes) -> int:
    """Units of an Avro decimal."""
    return int.from_bytes(data, "big", signed=True)


def add(one: bytes, other: bytes) -> bytes:
    """The sum of two Avro decimals."""
    if one == ZERO:
        return other
    if other == ZERO:
        return one
    return to_bytes(from_bytes(one) + from_bytes(other))
