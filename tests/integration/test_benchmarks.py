"""The benchmarks verify each run, and give no figure for a run with wrong output."""

import time
from pathlib import Path

import pytest

from benchmarks import growth, hours, line, worker
from benchmarks.broker import kafka
from benchmarks.contenders import CONTENDERS
from benchmarks.yardstick import BATCH_ITEMS
from streams.kafka.admin import ensure_topics
from streams.settings import Settings

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize("name", ["roundhouse, two processes", "kafka-streams", "faust"])
def test_a_contender_does_the_whole_job(name: str, tmp_path: Path) -> None:
    contender = CONTENDERS[name]
    contender.build()
    found = worker.run(contender, 5_000, BATCH_ITEMS, tmp_path)
    assert found["events"] == 5_000
    assert found["cpu_s"] > 0


def test_a_run_with_wrong_output_has_no_figure(tmp_path: Path) -> None:
    with kafka(tmp_path) as (settings, _):
        ensure_topics(settings)
        due = worker.load(settings, 500, 500)
        with pytest.raises(RuntimeError, match="wrong output"):
            worker.verify(settings, due)


def test_the_whole_line_is_measured_and_balances() -> None:
    found = line.sustained(20_000, 1)
    assert found["items"] == 16_000
    assert {"edge", "worker", "sink", "kafka"} <= set(found["cpu_us_per_event"])


def test_latency_is_that_of_every_batch() -> None:
    found = line.latency(4_000, 2, 1, warm_s=2)
    assert found["batches"] == 16
    assert found["p50_ms"] <= found["p99_ms"] <= found["worst_ms"]


def test_hours_of_load_are_measured_in_intervals() -> None:
    coming = line.stream(BATCH_ITEMS, seed=4)
    with line.line(1) as (stack, poster):
        hours.keep_little(stack.settings)
        began = time.monotonic()
        found = [hours.measured(stack, poster, coming, 4_000, 2, began) for _ in range(2)]
        line.wait_until_settled(stack, poster, 2 * 8_000)
        line.verify(stack.settings)
    for each in found:
        assert set(hours.PROCESSES) <= set(each.cpu_us)
        assert each.row().count("|") == hours.HEAD.count("|")


def test_single_events_are_posted_and_counted() -> None:
    found = line.request_size(1, 2_000, 1)
    # a request has one item, so the units agree; the second value is read when all items are settled
    assert 0 < found["edge_us_per_request"] <= found["cpu_us_per_event"]["edge"]


def test_the_worker_works_beside_ids_that_were_there_before(tmp_path: Path) -> None:
    filled: list[Path] = []

    def fill(settings: Settings) -> None:
        growth.fill(settings, 8_000)
        filled.extend(settings.state_path.glob("worker-0/partition-*/window/*/*.sst"))

    contender = CONTENDERS["roundhouse"]
    worker.run(contender, 5_000, BATCH_ITEMS, tmp_path, partitions=2, prepare=fill)
    assert len({path.parent for path in filled}) == 2


def test_inserts_are_measured_in_a_process_of_their_own() -> None:
    found = growth.insert_costs(0, 5_000)
    assert 0 < found["cpu_us_per_event"] <= found["with_merges_cpu_us_per_event"]
