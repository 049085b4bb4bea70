"""How fast the machine is, is known of every run."""

from benchmarks.machine import Probe


def test_a_run_that_ends_at_once_has_a_probe() -> None:
    with Probe() as probe:
        pass
    assert probe.ms > 0
