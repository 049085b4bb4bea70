"""The longest time between two evaluations that is expected of a service."""

import pytest

from connectors.campaigns.live import AT_LEAST_EVERY_S
from connectors.standings.pace import interval_s


def test_evaluations_that_take_long_at_a_small_share_are_expected_rarely() -> None:
    assert interval_s({"race"}, {"race": 54.0}, 0.03) == pytest.approx(AT_LEAST_EVERY_S + 1800)
    assert interval_s({"race"}, {"race": 54.0}, 0.5) == pytest.approx(AT_LEAST_EVERY_S + 108)


def test_every_campaign_has_its_turn_also_one_that_was_not_evaluated_yet() -> None:
    took_s = {"a": 2.0, "b": 4.0, "gone": 1000.0}
    assert interval_s({"a", "b"}, took_s, 0.5) == pytest.approx(AT_LEAST_EVERY_S + 12)
    assert interval_s({"a", "b", "new"}, took_s, 0.5) == pytest.approx(AT_LEAST_EVERY_S + 18)


def test_without_an_evaluation_or_a_campaign_only_the_pause_is_expected() -> None:
    assert interval_s({"new"}, {}, 0.03) == AT_LEAST_EVERY_S
    assert interval_s(set(), {"gone": 1000.0}, 0.03) == AT_LEAST_EVERY_S
