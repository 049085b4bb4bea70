"""The ratio of two versions has the right interval, and the page shows what the results say."""

import pytest

from benchmarks import compare


def test_the_page_and_the_chart_are_made_from_the_results() -> None:
    """After a comparison is added by hand, ``make bench-chart`` makes them anew."""
    text = compare.README.read_text()
    assert compare.BEGIN in text
    assert text == compare.page(text, compare.recorded())
    assert compare.CHART.read_text() == compare.chart(compare.recorded())


def test_the_interval_is_students_on_the_logarithms() -> None:
    """By hand: mean 0, standard error 0.1/√3 of logs (-0.1, 0, 0.1), t of 2 degrees is 4.3027."""
    pairs = [{"ref": 1.0, "tree": tree} for tree in (0.904837418, 1.0, 1.105170918)]
    ratio, low, high = compare.ratio_of(pairs)
    assert ratio == 1.0
    assert (low, high) == pytest.approx((0.780, 1.282), abs=0.001)


def test_a_ref_may_be_any_name_of_a_commit() -> None:
    assert compare.commit_of("HEAD") == compare.commit_of(compare.commit_of("HEAD"))
