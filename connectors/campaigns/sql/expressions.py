"""Expressions of SQL that the steps of a campaign share."""

from collections.abc import Sequence
from decimal import Decimal

from connectors.clickhouse.literals import quoted


def money(amount: Decimal | int) -> str:
    """A decimal literal with 18 digits after the point."""
    return (
        f"toDecimal128('{amount:f}', 18)"
        if isinstance(amount, Decimal)
        else f"toDecimal128({amount}, 18)"
    )


def product(one: str, other: str) -> str:
    """The product of two amounts, cut after 18 digits (``multiplyDecimal`` takes microseconds)."""
    return f"toDecimal128(toDecimal256({one}, 18) * {other}, 18)"


def cents(amount: str) -> str:
    """An amount cut after two digits."""
    return f"toDecimal128(toDecimal128({amount}, 2), 18)"


def one_of(column: str, names: Sequence[str]) -> str:
    """Whether a column is one of some names."""
    return f"{column} IN ({', '.join(map(quoted, names))})"


def any_of(column: str, names: Sequence[str]) -> str:
    """Whether a column of names has any of some."""
    return f"hasAny({column}, [{', '.join(map(quoted, names))}])"


def plain(amount: Decimal) -> str:
    """The text of a number without trailing zeros or an exponent, as ClickHouse writes it."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
