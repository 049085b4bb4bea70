"""docs/scale.md has the results of the simulation, which agrees with the measured rates."""

from pathlib import Path

from benchmarks.scale import TOLERANCE, capacity, compare, simulate, table

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()


def test_the_simulation_comes_near_to_the_measured_runs_and_the_page_has_both() -> None:
    for each in compare():
        assert abs(each.error) < TOLERANCE, each
        assert f"| {each.measured:,.0f} | {each.simulated:,.0f} |" in PAGE


def test_the_page_has_the_table_of_capacity() -> None:
    assert table() in PAGE


def test_a_second_process_helps_where_there_are_cores_for_it() -> None:
    one, two = simulate(1, cores=8), simulate(2, cores=8)
    assert 1.9 < two.events_per_s / one.events_per_s < 2.1
    on_one_core = simulate(2, cores=1)
    assert on_one_core.busy > 0.99
    assert on_one_core.events_per_s < one.events_per_s


def test_memory_bounds_the_workers_of_a_long_window_before_cpu() -> None:
    assert [capacity(rate).bound for rate in (1_000, 10_000)] == ["CPU", "memory"]
