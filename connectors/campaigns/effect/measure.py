"""What a campaign changed: the players who could take part, beside those who could not. Pure.

With a hold-out every eligible player counts in the group that the hash has put it in, whether it took
part or not (intention to treat). Without one, players who took part are compared with the most similar
of those who did not.

A player who became blocked, or banned from promotions, after the campaign began counts in its group
with zero GGR, NGR, deposits and active days, and as not retained: it is never a success. Its deposits,
losses and nights do count in the guardrails.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import NamedTuple

import numpy as np

from connectors.campaigns.effect import statistics
from connectors.campaigns.effect.statistics import Difference, Flags, Matches, Values

BEFORE, DURING, AFTER, BOTH = "before", "campaign", "after", "both"
WINDOWS = (DURING, AFTER)
METRICS = ("ggr", "ngr", "deposits", "active_days")
_LARGEST = 0.1
"""Share of the players who lost most before."""


class Players(NamedTuple):
    """One value a player. ``values`` by column and window; ``took_part``: has an entry that counted;
    ``stopped``: became blocked, or banned from promotions, after the campaign began."""

    held_back: Flags
    took_part: Flags
    stopped: Flags
    values: Mapping[tuple[str, str], Values]

    def only(self, chosen: Flags | Matches) -> "Players":
        """The chosen players, by flags or by indexes."""
        return Players(
            self.held_back[chosen],
            self.took_part[chosen],
            self.stopped[chosen],
            {key: value[chosen] for key, value in self.values.items()},
        )


class Estimate(NamedTuple):
    """An effect on a mean per player: as it is, and with CUPED where the groups are random.

    ``explained``: the share of the variance that the time before explains.
    """

    name: str
    window: str
    treated: float
    control: float
    plain: Difference
    adjusted: Difference | None
    explained: float

    @property
    def best(self) -> Difference:
        """The estimate with the time before taken into account, where there is one."""
        return self.adjusted or self.plain


class Return(NamedTuple):
    """Incremental NGR of all treated players beside the prizes; None where no hold-out tells it."""

    prizes: Decimal
    incremental_ngr: Difference | None
    per_unit_of_prize: Difference | None


class Effect(NamedTuple):
    """The effect of a campaign. ``alike``: standardised differences of the groups before."""

    design: str
    treated: int
    control: int
    sample_ratio_p: float | None
    alike: dict[str, float]
    estimates: list[Estimate]
    returned: Return
    guardrails: list[Estimate]
    warnings: list[str]


def measure(
    players: Players, held_back_share: float | None, prizes: Decimal, confidence: float
) -> Effect:
    """The effect on eligible players. ``held_back_share``: None without a hold-out.

    Without one only the window after is compared: who took no part in a campaign has by definition
    not played, or not much, while it ran. Stopped players are left out then, since they never take
    part. Raises ``ValueError`` if a group has fewer than two players.
    """
    if held_back_share is None:
        players = players.only(~players.stopped)
    is_control = players.held_back if held_back_share is not None else ~players.took_part
    treated, control = players.only(~is_control), players.only(is_control)
    sizes = len(treated.stopped), len(control.stopped)
    if min(sizes) < 2:
        raise ValueError(f"the groups have {sizes[0]} and {sizes[1]} players")
    if held_back_share is None:
        return _of_matched(treated, control, prizes, confidence)
    comparing = _random(treated, control, confidence)
    estimates = [comparing(name, each, _outcome(name, each)) for name in METRICS for each in WINDOWS]
    estimates.append(comparing("retained", AFTER, _retained))
    both = comparing("ngr", BOTH, _outcome("ngr", DURING, AFTER))
    total = both.best.times(sizes[0])
    ratio = statistics.sample_ratio_p(*sizes, held_back_share)
    alike, guardrails = _alike(treated, control), _guardrails(treated, control, confidence, BOTH)
    warnings = [
        *_ratio_warnings(ratio),
        *_warnings(treated, control, alike),
        *_guardrail_warnings(guardrails),
    ]
    return Effect(
        "hold-out",
        *sizes,
        ratio,
        alike,
        [*estimates, both],
        Return(prizes, total, total.times(1 / float(prizes)) if prizes else None),
        guardrails,
        warnings,
    )


def _of_matched(treated: Players, control: Players, prizes: Decimal, confidence: float) -> Effect:
    matches = statistics.nearest(_characteristics(treated), _characteristics(control))
    alike = _alike(treated, control.only(matches))

    def comparing(name: str, outcome: Outcome) -> Estimate:
        one, other = outcome(treated)[0], outcome(control)[0]
        found = statistics.matched(one, other, matches, confidence)
        return Estimate(name, AFTER, float(one.mean()), float(other[matches].mean()), found, None, 0.0)

    guardrails = [comparing("nights", _outcome("nights", AFTER, guarded=True))]
    return Effect(
        "matched controls",
        len(treated.stopped),
        len(control.stopped),
        None,
        alike,
        [
            *(comparing(name, _outcome(name, AFTER)) for name in METRICS),
            comparing("retained", _retained),
        ],
        Return(prizes, None, None),
        guardrails,
        [
            _NO_HOLDOUT,
            *_warnings(treated, control, alike),
            *_guardrail_warnings(guardrails),
        ],
    )


_NO_HOLDOUT = (
    "without a hold-out, players who took part are compared with the most similar of those who did "
    "not, in the time after. Who took part wanted to, which no comparison of the past removes: a "
    "difference may be the reason for taking part, not its effect. What the campaign earned cannot "
    "be said"
)


def _alike(treated: Players, control: Players) -> dict[str, float]:
    return {
        name: statistics.standardised_difference(
            treated.values[name, BEFORE], control.values[name, BEFORE]
        )
        for name in METRICS
    }


Outcome = Callable[[Players], tuple[Values, Values]]
"""The values of players in a window, and before."""
Comparing = Callable[[str, str, Outcome], Estimate]


def _outcome(name: str, *windows: str, guarded: bool = False) -> Outcome:
    """A column, summed over windows. A stopped player counts with zero, but in a guardrail as it is."""

    def of(players: Players) -> tuple[Values, Values]:
        value = np.sum([players.values[name, window] for window in windows], axis=0)
        counted = value if guarded else np.where(players.stopped, 0.0, value)
        return counted, players.values[name, BEFORE]

    return of


def _retained(players: Players) -> tuple[Values, Values]:
    active = players.values["active_days", AFTER] > 0
    return (active & ~players.stopped).astype(np.float64), players.values["active_days", BEFORE]


def _stopped(players: Players) -> tuple[Values, Values]:
    return players.stopped.astype(np.float64), players.values["active_days", BEFORE]


def _random(treated: Players, control: Players, confidence: float) -> Comparing:
    def comparing(name: str, window: str, outcome: Outcome) -> Estimate:
        (one, one_before), (other, other_before) = outcome(treated), outcome(control)
        adjusted = statistics.cuped(one, other, one_before, other_before)
        return Estimate(
            name,
            window,
            float(one.mean()),
            float(other.mean()),
            _plain(statistics.welch(one, other, confidence)),
            _plain(statistics.welch(*adjusted, confidence)),
            statistics.explained(
                np.concatenate((one - one.mean(), other - other.mean())),
                np.concatenate([each - each.mean() for each in (one_before, other_before)]),
            ),
        )

    return comparing


def _plain(found: Difference) -> Difference:
    return Difference(*map(float, found))


def _characteristics(players: Players) -> Values:
    return np.column_stack([players.values[name, BEFORE] for name in (*METRICS, "nights")])


def _guardrails(treated: Players, control: Players, confidence: float, window: str) -> list[Estimate]:
    """What may not rise: stopped players, nights, and losses and deposits of who lost most before."""
    comparing = _random(treated, control, confidence)
    found = [
        comparing("blocked or banned", window, _stopped),
        comparing("nights", window, _outcome("nights", DURING, AFTER, guarded=True)),
    ]
    lost = np.concatenate((_ggr_before(treated), _ggr_before(control)))
    bound = max(float(np.quantile(lost, 1 - _LARGEST)), 1e-9)
    one, other = (group.only(_ggr_before(group) >= bound) for group in (treated, control))
    if min(len(one.stopped), len(other.stopped)) >= 2:
        among = _random(one, other, confidence)
        for name, title in (("ggr", "losses"), ("deposits", "deposits")):
            outcome = _outcome(name, DURING, AFTER, guarded=True)
            found.append(among(f"{title} of who lost most", window, outcome))
    return found


def _ggr_before(players: Players) -> Values:
    return players.values["ggr", BEFORE]


def _ratio_warnings(ratio: float) -> list[str]:
    if ratio >= 0.001:
        return []
    return [
        f"the sizes of the groups do not fit the declared share (p = {ratio:.2g}): something keeps "
        "players of one group out of the data, and the differences cannot be trusted"
    ]


def _warnings(treated: Players, control: Players, alike: Mapping[str, float]) -> list[str]:
    found = [
        f"the groups differed before in {name} by {difference:+.2f} standard deviations"
        for name, difference in alike.items()
        if abs(difference) > 0.1
    ]
    size = min(len(treated.stopped), len(control.stopped))
    for name in METRICS:
        both = [_outcome(name, DURING, AFTER)(group)[0] for group in (treated, control)]
        needed = max(statistics.players_for_normal_means(np.concatenate(both)), 30)
        if size < needed:
            found.append(
                f"{name}: the smaller group has {size} players; an interval of so uneven values needs "
                f"about {needed}"
            )
    return found


def _guardrail_warnings(guardrails: list[Estimate]) -> list[str]:
    return [
        f"guardrail: {each.name} rose by {each.best.difference:.3f} a player"
        for each in guardrails
        if each.best.low > 0
    ]


class Plan(NamedTuple):
    """What the past says about a campaign's size. ``explained``: the share of the variance that CUPED
    removes; ``smallest``: the effect that so many players find; ``needed``: the players of both groups
    for a given effect, None without one."""

    players: int
    mean: float
    deviation: float
    explained: float
    smallest: float
    smallest_cuped: float
    needed: int | None
    needed_cuped: int | None


def plan(
    players: Players,
    metric: str,
    effect: float | None,
    control_share: float,
    *,
    power: float,
    confidence: float,
) -> Plan:
    """The players that are needed for an effect on a metric, as the metric was in the past.

    Raises ``ValueError`` if there are fewer than two players.
    """
    if len(players.stopped) < 2:
        raise ValueError(f"{len(players.stopped)} eligible players")
    value, before = _outcome(metric, DURING, AFTER)(players)
    deviation, explained = float(value.std(ddof=1)), statistics.explained(value, before)
    reduced = deviation * (1 - explained) ** 0.5
    n = len(value)

    def needed(deviation: float) -> int | None:
        if effect is None:
            return None
        return statistics.players_needed(effect, deviation, control_share, power, confidence)

    def smallest(deviation: float) -> float:
        return statistics.smallest_effect(n, deviation, control_share, power, confidence)

    return Plan(
        players=n,
        mean=float(value.mean()),
        deviation=deviation,
        explained=explained,
        smallest=smallest(deviation),
        smallest_cuped=smallest(reduced),
        needed=needed(deviation),
        needed_cuped=needed(reduced),
    )
