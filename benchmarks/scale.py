"""Computes the capacity of one machine and of several: a simulation, and a table of capacity.

The simulation has workers and a broker that share cores. Its inputs are the measured costs of one event
(:class:`Costs`) and the structure of a worker: one thread computes at a time, the commits of partitions
overlap, and RocksDB, librdkafka and the broker use the remaining cores. Before the table is printed,
the simulated rates of one and two worker processes on two cores must be within :data:`TOLERANCE` of the
measured ones, which are not inputs. The table computes larger rates from the rate of one process;
:class:`Assumed` has the assumptions that it needs besides the measurements.
"""

import argparse
import json
import math
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import simpy

RESULTS = Path(__file__).parent / "results"
TOLERANCE = 0.1
CHUNK_EVENTS = 2_000
"""Events of a transaction under full load: as many as fit into a batch of staged records (500 kB)."""

Step = Generator[simpy.Event, Any, None]


class Costs(NamedTuple):
    """The measured costs of an event (µs of CPU) and of a commit (docs/performance.md)."""

    computing_us: float = 22.5
    """CPU in the computing thread of a worker."""
    native_us: float = 5.0
    """CPU in other threads of the worker: RocksDB, librdkafka, Faust."""
    broker_us: float = 7.0
    """CPU in the broker, for a worker's input and output."""
    observer_us: float = 1.7
    """CPU in the benchmark's own consumer, which counts committed events on the same cores."""
    commit_wait_ms: float = 15.0
    """Time from the end of computing to the broker's answer, on an idle broker."""


class Machine:
    """Cores that are shared in time slices by all simulated threads."""

    SLICE_S = 0.005

    def __init__(self, env: simpy.Environment, cores: int) -> None:
        self.env = env
        self.cores = simpy.Resource(env, cores)
        self.busy_s = 0.0

    def compute(self, seconds: float) -> Step:
        """Uses a core for ``seconds``; releases it between slices."""
        while seconds > 0:
            piece = min(seconds, self.SLICE_S)
            with self.cores.request() as core:
                yield core
                yield self.env.timeout(piece)
            self.busy_s += piece
            seconds -= piece


class Worker:
    """A worker process with its partitions; its input never ends."""

    def __init__(self, machine: Machine, costs: Costs, partitions: int) -> None:
        self.machine = machine
        self.costs = costs
        self.computing = simpy.Resource(machine.env, 1)
        self.committed = 0
        for _ in range(partitions):
            machine.env.process(self._partition())

    def _partition(self) -> Step:
        env, costs = self.machine.env, self.costs
        while True:
            with self.computing.request() as turn:
                yield turn
                yield env.process(self.machine.compute(CHUNK_EVENTS * costs.computing_us / 1e6))
            beside = [
                env.process(self.machine.compute(CHUNK_EVENTS * us / 1e6))
                for us in (costs.native_us, costs.broker_us, costs.observer_us)
            ]
            yield env.timeout(costs.commit_wait_ms / 1e3)
            yield env.all_of(beside)
            self.committed += CHUNK_EVENTS


class Simulated(NamedTuple):
    """A simulated run: events a second, and the share of the cores that was busy."""

    events_per_s: float
    busy: float


def simulate(workers: int, cores: int, partitions: int = 4, costs: Costs = Costs()) -> Simulated:  # noqa: B008
    """Simulates 30 seconds of workers that share ``partitions`` and, with their broker, ``cores``."""
    warm_s, measured_s = 5.0, 30.0
    env = simpy.Environment()
    machine = Machine(env, cores)
    owners = [Worker(machine, costs, partitions // workers) for _ in range(workers)]
    env.run(until=warm_s)
    before, busy_before = sum(owner.committed for owner in owners), machine.busy_s
    env.run(until=warm_s + measured_s)
    events = sum(owner.committed for owner in owners) - before
    return Simulated(events / measured_s, (machine.busy_s - busy_before) / measured_s / cores)


class Compared(NamedTuple):
    """A measured rate beside the simulated one."""

    name: str
    measured: float
    simulated: float

    @property
    def error(self) -> float:
        """The relative difference of the simulated rate from the measured one."""
        return self.simulated / self.measured - 1


def compare() -> list[Compared]:
    """Compares the rates of one and two worker processes on two cores: measured and simulated."""
    contenders = json.loads((RESULTS / "worker.json").read_text())["contenders"]
    measured = {each["name"]: each["steady_events_per_s"] for each in contenders}
    names = {"roundhouse": 1, "roundhouse, two processes": 2}
    return [
        Compared(name, measured[name], simulate(workers, cores=2).events_per_s)
        for name, workers in names.items()
    ]


# Capacity ------------------------------------------------------------------------------------


class Measured(NamedTuple):
    """Costs per event of the yardstick job, from benchmarks/results; in µs of CPU and in bytes."""

    edge_us: float = 4.8
    """In bodies of 500 items; it is 123 µs in requests of one event."""
    worker_us: float = 28.2
    broker_us: float = 14.6
    """For the whole line, with one replica."""
    sink_us: float = 15.6
    """Including ClickHouse's inserts and merges."""
    passing_bytes: float = 103.8
    """In ``raw.batches`` and ``staged``, compressed."""
    canonical_bytes: float = 36.8
    round_bytes: float = 28.1
    """For each revision; the topic is compacted."""
    changelog_bytes: float = 57.2
    clickhouse_bytes: float = 103.0
    """For transactions and rounds, after merges."""
    state_bytes: float = 30.0
    """In RocksDB's files: the id of the event, and its share of a round."""
    filter_bytes: float = 3.4
    """Memory of filters and indexes for each remembered id: 2.6 at 10 bits a key, calculated for 14."""
    recovered_ids_per_s: float = 1_000_000
    """By one partition that has lost its state."""


class Assumed(NamedTuple):
    """Values that were not measured, and the limits that a plan must keep."""

    busy: float = 0.6
    """The share of a core that is used on average."""
    replicas: int = 3
    follower_share: float = 0.5
    """The CPU of a following broker as a share of the leader's."""
    partitions_per_worker: int = 4
    window_days: int = 35
    windows: float = 1.5
    """The average number of windows that the state spans; it is between one and two."""
    worker_filters_gib_max: float = 24.0
    """The most memory of a worker for RocksDB's filters and indexes."""
    recovery_min_max: float = 30.0
    """The longest recovery of a partition whose disk is lost and that has no standby copy."""
    euro_per_core_day: float = 0.80
    euro_per_gib_memory_day: float = 0.10
    euro_per_tib_disk_day: float = 2.70


class Capacity(NamedTuple):
    """The resources that a sustained rate needs; ``bound`` names the limit on the number of workers."""

    events_per_s: int
    edge_cores: int
    workers: int
    bound: str
    partitions: int
    broker_cores: int
    clickhouse_cores: int
    kafka_tib: float
    state_tib: float
    filters_gib: float
    clickhouse_tib_a_year: float
    recovery_min: float
    euro_a_day: float


def capacity(rate: int) -> Capacity:
    """The resources for ``rate`` events a second, day and night, each with an id of its own."""
    measured, assumed = Measured(), Assumed()

    def cores(us: float) -> int:
        return math.ceil(rate * us / 1e6 / assumed.busy)

    day = rate * 86_400
    remembered = day * assumed.window_days * assumed.windows
    filters_gib = remembered * measured.filter_bytes / 2**30
    by_cpu = math.ceil(rate / (simulate(1, cores=8).events_per_s * assumed.busy))
    by_memory = math.ceil(filters_gib / assumed.worker_filters_gib_max)
    workers = max(by_cpu, by_memory)
    recovered = measured.recovered_ids_per_s * 60 * assumed.recovery_min_max
    partitions = max(workers * assumed.partitions_per_worker, math.ceil(remembered / recovered))
    followers = (assumed.replicas - 1) * assumed.follower_share
    broker, clickhouse = cores(measured.broker_us * (1 + followers)), cores(measured.sink_us)
    edge = cores(measured.edge_us)
    kafka = _kafka_bytes(day, measured, assumed) / 2**40
    state = remembered * measured.state_bytes / 2**40
    stored = day * 365 * measured.clickhouse_bytes / 2**40
    euro = (
        (edge + workers + broker + clickhouse) * assumed.euro_per_core_day
        + filters_gib * assumed.euro_per_gib_memory_day
        + (kafka + state + stored) * assumed.euro_per_tib_disk_day
    )
    return Capacity(
        rate,
        edge,
        workers,
        "CPU" if by_cpu >= by_memory else "memory",
        partitions,
        broker,
        clickhouse,
        kafka,
        state,
        filters_gib,
        stored,
        remembered / partitions / measured.recovered_ids_per_s / 60,
        euro,
    )


def _kafka_bytes(day: int, measured: Measured, assumed: Assumed) -> float:
    """The bytes on all brokers for ``day`` events a day, if half of the rounds' revisions are kept."""
    window = assumed.window_days
    kept = 7 * measured.passing_bytes + window * (
        measured.canonical_bytes + 2 * measured.changelog_bytes + measured.round_bytes / 2
    )
    return day * assumed.replicas * kept


RATES = (1_000, 10_000, 100_000, 1_000_000)
HEADINGS = (
    "events/s",
    "edge, cores",
    "workers",
    "bound by",
    "partitions",
    "brokers, cores",
    "sink and ClickHouse, cores",
    "Kafka, TiB",
    "RocksDB, TiB",
    "its filters, GiB of memory",
    "ClickHouse, TiB a year",
    "recovery of a partition, min",
    "euro a day",
)


def table() -> str:
    """The table of docs/scale.md."""
    rows = [[_shown(each) for each in capacity(rate)] for rate in RATES]
    lines = [HEADINGS, ["---"] * len(HEADINGS), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def main() -> None:
    """Prints measured and simulated rates, then the table. Exits with 1 if they differ too much."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    compared = compare()
    for each in compared:
        print(f"{each.name}: measured {each.measured:,.0f}, simulated {each.simulated:,.0f} events/s")
    if any(abs(each.error) > TOLERANCE for each in compared):
        raise SystemExit(f"the simulation is off by more than {TOLERANCE:.0%}: no table")
    print()
    print(table())


if __name__ == "__main__":
    main()
