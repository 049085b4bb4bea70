"""Which topics wait for more rows."""

import pytest

from connectors.clickhouse.sink import too_few


@pytest.mark.parametrize(
    ("due", "expected"),
    [({"logins": 10.0}, {"logins"}), ({"logins": 9.0}, set()), ({}, set()), ({"bets": 10.0}, set())],
)
def test_a_topic_with_few_of_the_rows_waits_until_it_is_due(
    due: dict[str, float], expected: set[str]
) -> None:
    assert too_few({"bets": 99, "logins": 1}, due, now=9.5) == expected
