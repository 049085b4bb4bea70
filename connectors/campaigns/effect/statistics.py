"""The statistics of an effect: differences of means with intervals, CUPED, matching, power. Pure.

Arrays hold one value a player along the last axis; other axes are independent repetitions, so that a
test draws thousands of experiments at once. NumPy and SciPy are the extra ``effect``.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial import KDTree

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Difference(NamedTuple):
    """A difference of means with its interval. Each is a number, or an array of repetitions."""

    difference: Any
    low: Any
    high: Any
    p: Any

    def times(self, factor: float) -> "Difference":
        """The difference of totals of ``factor`` players."""
        return self._replace(
            difference=self.difference * factor, low=self.low * factor, high=self.high * factor
        )


def welch(treated: Values, control: Values, confidence: float) -> Difference:
    """The difference of means of two groups whose variances may differ (Welch's t).

    With no variance in both groups the interval is the difference itself.
    """
    one, other = (_moments(values) for values in (treated, control))
    difference, squared = one[0] - other[0], one[1] / one[2] + other[1] / other[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = squared**2 / sum((variance / n) ** 2 / (n - 1) for _, variance, n in (one, other))
        freedom = np.where(squared > 0, freedom, 1.0)
        error = np.sqrt(squared)
        reach = np.where(squared > 0, stats.t.ppf((1 + confidence) / 2, freedom) * error, 0.0)
        t = np.where(squared > 0, difference / error, np.where(difference == 0, 0.0, np.inf))
    p = 2 * stats.t.sf(np.abs(t), freedom)
    return Difference(difference, difference - reach, difference + reach, p)


def _moments(values: Values) -> tuple[Any, Any, int]:
    return values.mean(axis=-1), values.var(axis=-1, ddof=1), values.shape[-1]


def cuped(
    treated: Values, control: Values, treated_before: Values, control_before: Values
) -> tuple[Values, Values]:
    """The values of both groups less what the time before explains of them.

    Deng, Xu, Kohavi and Walker, "Improving the Sensitivity of Online Controlled Experiments by
    Utilizing Pre-Experiment Data", 2013. The slope is that within the groups, so an effect does not
    move it.
    """
    parts = [(treated, treated_before), (control, control_before)]
    covariance = sum(_products(value, before) for value, before in parts)
    variance = sum(_products(before, before) for _, before in parts)
    slope = np.divide(covariance, variance, out=np.zeros_like(covariance), where=variance > 0)
    every = np.concatenate((treated_before, control_before), axis=-1).mean(axis=-1, keepdims=True)
    shifted = [value - slope[..., None] * (before - every) for value, before in parts]
    return shifted[0], shifted[1]


def _products(one: Values, other: Values) -> Values:
    centred = one - one.mean(axis=-1, keepdims=True)
    return np.asarray((centred * (other - other.mean(axis=-1, keepdims=True))).sum(axis=-1))


def explained(value: Values, before: Values) -> float:
    """The share of the variance that the time before explains: the square of the correlation."""
    both = _products(value, value) * _products(before, before)
    return float(_products(value, before) ** 2 / both) if both > 0 else 0.0


def sample_ratio_p(treated: int, control: int, control_share: float) -> float:
    """The probability of groups at least so far from the declared shares (chi-square)."""
    n = treated + control
    expected = [n * (1 - control_share), n * control_share]
    return float(stats.chisquare([treated, control], expected).pvalue)


def standardised_difference(treated: Values, control: Values) -> float:
    """The difference of means in standard deviations; 0 where nothing varies."""
    pooled = float(np.sqrt((treated.var(ddof=1) + control.var(ddof=1)) / 2))
    return float(treated.mean() - control.mean()) / pooled if pooled > 0 else 0.0


def players_for_normal_means(values: Values) -> int:
    """The players a group needs for a mean that is nearly normal: 355 times the squared skewness.

    Kohavi, Deng, Longbotham and Xu, "Seven Rules of Thumb for Web Site Experimenters", 2014, rule 7.
    """
    skewness = float(stats.skew(values)) if values.std() > 0 else 0.0
    return int(355 * skewness**2)


Matches = NDArray[np.intp]
"""For each treated player the index of the control most like it; a control may serve several."""


def nearest(treated: Values, control: Values) -> Matches:
    """The nearest control of each treated player. Columns are characteristics before, in rows of
    players; each is divided by its standard deviation."""
    scale = np.concatenate((treated, control)).std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    _, index = KDTree(control / scale).query(treated / scale)
    return np.asarray(index)


def matched(treated: Values, control: Values, matches: Matches, confidence: float) -> Difference:
    """The mean difference of treated players to their matches.

    The variance counts a control as often as it serves (Abadie and Imbens, "Large Sample Properties of
    Matching Estimators", 2006, with one variance for each group).
    """
    difference = float(treated.mean() - control[matches].mean())
    uses = np.bincount(matches, minlength=len(control)).astype(np.float64)
    used = control[uses > 0]
    spread = used.var(ddof=1) if len(used) > 1 else 0.0
    n = len(treated)
    error = float(np.sqrt(treated.var(ddof=1) / n + spread * (uses**2).sum() / n**2))
    reach = float(stats.norm.ppf((1 + confidence) / 2)) * error
    p = 2 * float(stats.norm.sf(abs(difference) / error)) if error > 0 else float(difference == 0)
    return Difference(difference, difference - reach, difference + reach, p)


def players_needed(
    effect: float, deviation: float, control_share: float, power: float, confidence: float
) -> int:
    """The players of both groups in all for an effect on a mean to be found with the given power."""
    reach = stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(power)
    shares = 1 / control_share + 1 / (1 - control_share)
    return int(np.ceil((reach * deviation / effect) ** 2 * shares))


def smallest_effect(
    players: int, deviation: float, control_share: float, power: float, confidence: float
) -> float:
    """The effect on a mean that so many players find with the given power."""
    reach = stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(power)
    shares = 1 / control_share + 1 / (1 - control_share)
    return float(reach * deviation * np.sqrt(shares / players))
