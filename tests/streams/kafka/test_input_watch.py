"""A partition stands still while records wait in it and none of them is processed."""

from streams.kafka.input_watch import Stillness

A, B = ("t", 0), ("t", 1)


def test_a_partition_stands_still_from_the_begin_of_its_waiting_until_its_mark_changes() -> None:
    still = Stillness()
    still.observe({A: 5}, now=100)
    assert still.still_s(A, 130) == 30
    assert still.still_s(B, 130) == 0  # nothing waits in it
    still.observe({A: 5, B: 9}, now=140)
    assert (still.still_s(A, 150), still.still_s(B, 150)) == (50, 10)
    still.observe({A: 6, B: 9}, now=160)
    assert (still.still_s(A, 170), still.still_s(B, 170)) == (10, 30)


def test_what_was_idle_does_not_stand_still_from_before_its_work_came() -> None:
    still = Stillness()
    still.observe({A: 5}, now=100)
    still.observe({}, now=110)
    still.observe({A: 5}, now=500)
    assert still.still_s(A, 501) == 1
