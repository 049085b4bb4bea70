"""Variants of a campaign over the same data: what each costs, and how many players it reaches."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from html import escape
from itertools import product
from pathlib import Path
from typing import NamedTuple

import polars

from connectors.campaigns.evaluation import evaluate
from connectors.campaigns.model.definition import Campaign, load
from streams.errors import DefinitionError
from streams.settings import Settings

VARIANTS_MAX = 100


class Variant(NamedTuple):
    """A campaign with some fields changed; ``changes`` are the values in YAML by the field's name."""

    changes: Mapping[str, str]
    campaign: Campaign


class Point(NamedTuple):
    """The result of a variant: players with a score, players with a prize, and the sum of prizes."""

    variant: Variant
    players: int
    winners: int
    cost: Decimal


def variants(
    path: Path, axes: Mapping[str, Sequence[str]], occurrence: datetime | None = None
) -> list[Variant]:
    """The definition in a file with every combination of values; ``occurrence``: as in ``load``.

    Raises ``DefinitionError`` for a combination that is no campaign, and for more than
    :data:`VARIANTS_MAX`.
    """
    combinations = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    if len(combinations) > VARIANTS_MAX:
        raise DefinitionError(f"{len(combinations)} variants are more than {VARIANTS_MAX}: vary less")
    found = []
    for changes in combinations:
        try:
            found.append(Variant(changes, load(path, changes, occurrence).campaign))
        except DefinitionError as error:
            raise DefinitionError(f"with {named(changes)}: {error}") from None
    return found


def evaluated(
    settings: Settings, chosen: Sequence[Variant], as_of: datetime | None = None
) -> list[Point]:
    """The variants' results, all over what was received until ``as_of`` (default: now)."""
    as_of = as_of or datetime.now(UTC)
    found = []
    for variant in chosen:
        result = evaluate(settings, variant.campaign, as_of)
        winners = len(result.standings.winners)
        found.append(Point(variant, len(result.standings), winners, result.cost))
    return found


def frame(points: Sequence[Point]) -> polars.DataFrame:
    """One row for each variant: the changed fields as text, ``players``, ``winners`` and ``cost``."""
    columns: dict[str, list[str]] = {
        name: [point.variant.changes[name] for point in points] for name in points[0].variant.changes
    }
    return polars.DataFrame(columns).with_columns(
        polars.Series("players", [point.players for point in points], polars.Int64()),
        polars.Series("winners", [point.winners for point in points], polars.Int64()),
        polars.Series("cost", [point.cost for point in points], polars.Decimal(38, 18)),
    )


def named(changes: Mapping[str, str]) -> str:
    """The changes in words."""
    return ", ".join(f"{name}={value}" for name, value in changes.items())


_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 860, 460, 90, 50


def chart(points: Sequence[Point]) -> str:
    """The cost against the number of winners as an SVG: a point for each variant, with its values."""
    most_winners = max(1, *(point.winners for point in points))
    most_cost = max(1.0, *(float(point.cost) for point in points))

    def x(winners: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - 40) * winners / most_winners, 1)

    def y(cost: float) -> float:
        return round(_HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - 30) * cost / most_cost, 1)

    floor, right = y(0), x(most_winners)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<path d="M{_LEFT} 20V{floor}H{right + 20}" fill="none" stroke="gray"/>',
        f'<text x="{right}" y="{floor + 36}" text-anchor="end">players with a prize</text>',
        f'<text x="{_LEFT}" y="14">cost</text>',
        f'<text x="{_WIDTH - 20}" y="{floor - 12}" text-anchor="end" fill="steelblue">'
        f"{escape(' / '.join(points[0].variant.changes))}</text>",
    ]
    for share in (0.0, 0.5, 1.0):
        parts += [
            f'<text x="{x(most_winners * share)}" y="{floor + 18}" text-anchor="middle">'
            f"{most_winners * share:.0f}</text>",
            f'<text x="{_LEFT - 8}" y="{y(most_cost * share) + 4}" text-anchor="end">'
            f"{most_cost * share:,.0f}</text>",
        ]
    for point in points:
        at_x, at_y = x(point.winners), y(float(point.cost))
        side, anchor = (9, "start") if at_x < _WIDTH / 2 else (-9, "end")
        parts += [
            f'<circle cx="{at_x}" cy="{at_y}" r="5" fill="steelblue"/>',
            f'<text x="{at_x + side}" y="{at_y + 4}" text-anchor="{anchor}">'
            f"{escape(' / '.join(point.variant.changes.values()))}</text>",
        ]
    return "\n".join([*parts, "</svg>", ""])
