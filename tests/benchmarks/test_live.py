"""The benchmark of live standings measures all of its phases on a small campaign."""

from benchmarks.live import run


def test_pages_are_answered_while_events_arrive() -> None:
    found = run(players=500, rounds=1_000, rate=200, seconds=2, wall=3)
    assert found["without_console"]["inserts"] > 0
    one = found["one_campaign"]
    assert (one["evaluated"], one["players_max"]) == (1, 500)
    assert 0 < one["answer_ms_p50"] <= one["answer_ms_p99"]
    assert one["age_s_max"] >= 2  # a snapshot is as of two seconds before
    assert found["wall"]["campaigns"] == 3
