"""The statistics of an effect on simulated players, whose true effect is known."""

import numpy as np
import pytest
from scipy import stats

from connectors.campaigns.effect import statistics
from connectors.campaigns.effect.statistics import Values

DRAWS, TREATED, CONTROL = 10_000, 400, 150
EFFECT = 1.5


def uneven(random: np.random.Generator, draws: int, players: int) -> tuple[Values, Values]:
    """Before and during: many zeros, a long tail, and a player's habit in both."""
    habit = random.gamma(2.0, 3.0, (draws, players))
    values = [random.poisson(habit) * random.gamma(4.0, 0.25, (draws, players)) for _ in range(2)]
    return values[0], values[1]


def experiments(seed: int, effect: float) -> tuple[Values, Values, Values, Values]:
    """Treated and control, each during and before, in thousands of repetitions."""
    random = np.random.default_rng(seed)
    treated_before, treated = uneven(random, DRAWS, TREATED)
    control_before, control = uneven(random, DRAWS, CONTROL)
    return treated + effect, control, treated_before, control_before


@pytest.fixture(scope="module")
def drawn() -> tuple[Values, Values, Values, Values]:
    return experiments(1, EFFECT)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize("adjusted", [False, True])
def test_an_interval_holds_the_true_effect_as_often_as_it_says(
    drawn: tuple[Values, Values, Values, Values], confidence: float, adjusted: bool
) -> None:
    treated, control = statistics.cuped(*drawn) if adjusted else drawn[:2]
    found = statistics.welch(treated, control, confidence)
    covered = np.mean((found.low <= EFFECT) & (found.high >= EFFECT))
    assert covered == pytest.approx(confidence, abs=0.01)


def test_a_planted_effect_is_found_and_none_is_found_where_none_was_planted(
    drawn: tuple[Values, Values, Values, Values],
) -> None:
    """``plan`` says how often: here the effect is small for so few players without CUPED."""
    plain = statistics.welch(drawn[0], drawn[1], 0.95)
    cuped = statistics.welch(*statistics.cuped(*drawn), 0.95)
    none = experiments(2, 0.0)
    false_alarms = statistics.welch(*statistics.cuped(*none), 0.95)
    assert np.mean(false_alarms.p < 0.05) == pytest.approx(0.05, abs=0.01)
    deviation = float(drawn[1].std(ddof=1))
    explained = statistics.explained(drawn[1].ravel(), drawn[3].ravel())
    share = CONTROL / (TREATED + CONTROL)
    for found, spread in ((plain, deviation), (cuped, deviation * (1 - explained) ** 0.5)):
        power = float(np.mean(found.p < 0.05))
        smallest = statistics.smallest_effect(TREATED + CONTROL, spread, share, power, 0.95)
        assert smallest == pytest.approx(EFFECT, rel=0.05)
        assert statistics.players_needed(EFFECT, spread, share, power, 0.95) == pytest.approx(
            TREATED + CONTROL, rel=0.1
        )


def test_cuped_narrows_the_interval_by_what_the_time_before_explains(
    drawn: tuple[Values, Values, Values, Values],
) -> None:
    plain = statistics.welch(drawn[0], drawn[1], 0.95)
    cuped = statistics.welch(*statistics.cuped(*drawn), 0.95)
    narrower = np.mean((cuped.high - cuped.low) / (plain.high - plain.low))
    explained = statistics.explained(drawn[1].ravel(), drawn[3].ravel())
    assert narrower == pytest.approx((1 - explained) ** 0.5, rel=0.02)
    assert explained > 0.2


def test_one_experiment_gives_what_scipy_gives(drawn: tuple[Values, Values, Values, Values]) -> None:
    found = statistics.welch(drawn[0][0], drawn[1][0], 0.95)
    due = stats.ttest_ind(drawn[0][0], drawn[1][0], equal_var=False)
    interval = due.confidence_interval(0.95)
    assert (found.low, found.high, found.p) == pytest.approx((interval.low, interval.high, due.pvalue))


def test_values_that_do_not_vary_have_an_interval_of_one_point() -> None:
    same = np.zeros(5)
    assert tuple(map(float, statistics.welch(same, same, 0.95))) == (0, 0, 0, 1)
    assert float(statistics.welch(same + 1, same, 0.95).low) == 1
    treated, control = statistics.cuped(same, same, same, same)
    assert not treated.any()
    assert not control.any()


def test_matching_takes_away_what_differed_before() -> None:
    """Who takes part played more before; the effect is 2, the plain difference much more."""
    random = np.random.default_rng(4)
    before = random.gamma(2.0, 10.0, 8000)
    takes_part = random.random(8000) < before / (before + 60)
    during = before + random.normal(0, 3, 8000) + 2 * takes_part
    one, other = during[takes_part], during[~takes_part]
    matches = statistics.nearest(before[takes_part, None], before[~takes_part, None])
    found = statistics.matched(one, other, matches, 0.95)
    assert one.mean() - other.mean() > 8
    assert found.low < 2 < found.high
    assert found.difference == pytest.approx(2, abs=0.5)


def test_groups_that_do_not_fit_the_declared_share_are_unlikely() -> None:
    assert statistics.sample_ratio_p(9000, 1000, 0.1) == pytest.approx(1)
    assert statistics.sample_ratio_p(9000, 1200, 0.1) < 1e-6


def test_groups_that_differ_before_are_measured_in_standard_deviations() -> None:
    random = np.random.default_rng(5)
    one, other = random.normal(3, 2, 100_000), random.normal(2, 2, 100_000)
    assert statistics.standardised_difference(one, other) == pytest.approx(0.5, abs=0.02)
    assert statistics.standardised_difference(np.zeros(3), np.zeros(3)) == 0


def test_uneven_values_need_more_players_for_a_normal_mean() -> None:
    random = np.random.default_rng(6)
    assert statistics.players_for_normal_means(random.normal(0, 1, 10_000)) < 30
    assert statistics.players_for_normal_means(random.exponential(1, 100_000)) == pytest.approx(
        355 * 4, rel=0.15
    )
