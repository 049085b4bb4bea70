"""The progress of a recovery."""

from streams.state.recovery import Recoveries


def test_progress_rises_to_100_percent_and_is_gone_when_the_partition_is_closed() -> None:
    recoveries = Recoveries()
    recovering = recoveries.begin(3)
    recovering.due(600)
    recovering.due(400)
    assert [(p.partition, p.percent, p.left_s) for p in recoveries.now()] == [(3, 0.0, None)]
    recovering.read(offsets=250, entries=5_000)
    [progress] = recoveries.now()
    assert (progress.percent, progress.entries, progress.done) == (25.0, 5_000, False)
    assert progress.left_s == progress.elapsed_s * 3
    recovering.read(offsets=749, entries=1)  # the last offset is that of a transaction marker
    assert recoveries.now()[0].percent == 99.9
    assert recovering.end() == recoveries.now()[0]
    assert (recoveries.now()[0].percent, recoveries.now()[0].left_s) == (100.0, 0.0)
    assert recoveries.now()[0].document()["percent"] == 100.0
    recoveries.forget(3)
    assert recoveries.now() == []


def test_a_changelog_that_grows_while_it_is_read_never_stands_above_100_percent() -> None:
    recovering = Recoveries().begin(0)
    recovering.due(10)
    recovering.read(offsets=15, entries=30)
    assert (recovering.progress.percent, recovering.progress.left_s) == (99.9, 0)
