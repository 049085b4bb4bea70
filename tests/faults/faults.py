"""The faults, one function each, which returns when the fault is over."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import OFFSET_END, ElectionType, TopicPartition

from connectors.local.health import is_well
from streams.kafka.clients import committed_consumer
from streams.kafka.reading import to_the_ends
from streams.kafka.schema_ids import frames
from streams.wire.avro import FRAME_BYTES
from tests.contracts import OF_STAGES
from tests.faults.armed import POINTS
from tests.faults.harness import Line, NotPossible, disk_room, give_orders
from tests.faults.next_version import FILLED, next_version
from tests.waiting import WITHIN_S, wait_until


class Fault(NamedTuple):
    """A fault, for a line with one broker and chDB, or with three brokers and ClickHouse over HTTP.

    ``times``: how often a round of ``make faults`` causes it. ``quick``: ``make test`` causes it too.
    ``together``: it needs a line in which a transaction has all partitions of a worker.
    """

    name: str
    harm: Callable[[Line], None]
    brokers: int = 1
    times: int = 1
    quick: bool = True
    together: bool = False


# Workers -------------------------------------------------------------------------------------


def kill_a_worker(line: Line) -> None:
    line.kill(line.rng.choice(line.workers))


def kill_all_workers(line: Line) -> None:
    for worker in line.workers:
        line.kill(worker)


def crash_a_worker(point: str, line: Line) -> None:
    line.crash(point, line.rng.choice(line.workers))


def pause_a_worker_beyond_its_session(line: Line) -> None:
    """Makes a zombie: a worker is stopped until others own its partitions, then continued."""
    worker = line.rng.choice(line.workers)
    line.signal(worker, signal.SIGSTOP)
    _wake_after_its_session(worker, line)


def freeze_a_worker(point: str, line: Line) -> None:
    """Makes a zombie that stopped at a named point."""
    worker = line.rng.choice(line.workers)
    line.freeze(point, worker)
    _wake_after_its_session(worker, line)


def _wake_after_its_session(worker: str, line: Line) -> None:
    line.last(*[line.settings.session_timeout_s + 4] * 2)
    line.signal(worker, signal.SIGCONT)


def change_the_transactions_and_back(line: Line) -> None:
    """Has workers with both settings in one group; each is killed, and wakes as a zombie, beside the
    other.
    """
    now = line.settings.transactions
    other = "worker" if now == "partition" else "partition"
    first, *others = line.rng.sample(line.workers, len(line.workers))
    for transactions, workers in ((other, [first]), (other, others), (now, line.workers)):
        for worker in workers:
            line.deploy(worker, None, ROUNDHOUSE_TRANSACTIONS=transactions)
            line.at_work()
        if workers == [first]:
            for worker in line.workers:
                line.kill(worker)
                line.at_work()
                line.signal(worker, signal.SIGSTOP)
                _wake_after_its_session(worker, line)
                line.at_work()


def workers_come_and_go(line: Line) -> None:
    for _ in range(4 if line.long else 2):
        line.stack.start("worker-9", "worker-process", "9")
        wait_until(lambda: is_well(line.settings, "worker", "worker-9"), "a third worker")
        line.last(3, 1)
        line.stack.supervisor.end("worker-9")
        shutil.rmtree(line.state_of("worker-9"))


# Disks ---------------------------------------------------------------------------------------


def state_deleted(line: Line) -> None:
    worker = line.rng.choice(line.workers)
    with line.down(worker):
        shutil.rmtree(line.state_of(worker))


def state_deleted_under_a_running_worker(line: Line) -> None:
    worker = line.rng.choice(line.workers)
    shutil.rmtree(line.state_of(worker), ignore_errors=True)
    line.kill(worker)


def state_truncated(line: Line) -> None:
    """Cuts one file of each of a worker's databases in half."""
    worker = line.rng.choice(line.workers)
    with line.down(worker):
        for current in line.state_of(worker).rglob("CURRENT"):
            folder = current.parent
            files = sorted([*folder.glob("*.sst"), *folder.glob("MANIFEST*")])
            file = line.rng.choice(files)
            os.truncate(file, file.stat().st_size // 2)


def _mount(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(path)]
    made = subprocess.run(command, capture_output=True, check=False)
    if made.returncode:
        raise NotPossible("mounting a small disk is not permitted here")


@contextmanager
def small_disk(line: Line) -> Iterator[tuple[str, Path]]:
    """Runs a worker on a small disk of its own; yields the worker's name and the disk's directory."""
    worker = line.rng.choice(line.workers)
    home = line.state_of(worker)
    try:
        with line.down(worker):
            shutil.rmtree(home, ignore_errors=True)
            _mount(home)
        line.at_work()
        yield worker, home
        line.at_work()
    finally:
        _unmount(line, worker)


def disk_full(line: Line) -> None:
    with small_disk(line) as (worker, home):
        pid = line.stack.supervisor.pids()[worker]
        filler = home / "filler"
        with open(filler, "wb") as file:
            while disk_room(home):
                file.write(bytes(min(1 << 20, disk_room(home))))
                file.flush()
        wait_until(lambda: line.stack.supervisor.pids()[worker] != pid, f"{worker} stops")
        filler.unlink()


def disk_read_only(line: Line) -> None:
    with small_disk(line) as (worker, home):
        with line.down(worker):
            subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
        pid = line.stack.supervisor.pids()[worker]
        wait_until(lambda: line.stack.supervisor.pids()[worker] != pid, f"{worker} stops")
        subprocess.run(["mount", "-o", "remount,rw", str(home)], check=True)


def _unmount(line: Line, worker: str) -> None:
    with line.down(worker):
        subprocess.run(["umount", str(line.state_of(worker))], check=False)
        shutil.rmtree(line.state_of(worker), ignore_errors=True)


# Brokers -------------------------------------------------------------------------------------


def kill_the_broker(line: Line) -> None:
    line.kill(line.brokers[0])


def kill_the_broker_as_workers_join(line: Line) -> None:
    """Kills the broker so that workers join a group whose coordinator may not have the topics yet."""
    kill_all_workers(line)
    line.last(3, 3)
    line.kill(line.brokers[0])


def broker_away(line: Line) -> None:
    with line.down(line.brokers[0]):
        line.last(60, 5)


def broker_too_slow(line: Line) -> None:
    """Delays acknowledgements for longer than the edge waits for them."""
    line.signal(line.brokers[0], signal.SIGSTOP)
    line.last(*[line.settings.ack_timeout_s + 3] * 2)
    line.signal(line.brokers[0], signal.SIGCONT)


def kill_one_broker_after_another(line: Line) -> None:
    for broker in line.brokers:
        line.kill(broker)
        line.at_work()
        line.whole()


def move_the_leaders(line: Line) -> None:
    """Moves the leadership of a broker's partitions to others by a kill, and back by an election."""
    broker = line.rng.choice(line.brokers)
    line.kill(broker)
    line.at_work()
    line.whole()
    admin = line.admin()
    topics = admin.list_topics(timeout=WITHIN_S).topics.values()
    strayed = [
        TopicPartition(str(topic.topic), partition.id)
        for topic in topics
        for partition in topic.partitions.values()
        if partition.leader != partition.replicas[0]
    ]
    assert strayed, "the killed broker led no partition"
    admin.elect_leaders(ElectionType.PREFERRED, strayed).result()


def kill_the_transaction_coordinator(line: Line) -> None:
    _kill_leader(line, "__transaction_state", _lane(line))


def kill_the_group_coordinator(line: Line) -> None:
    _kill_leader(line, "__consumer_offsets", f"{line.settings.topic_prefix}line")


def _lane(line: Line) -> str:
    """A transactional id that a worker works with."""
    prefix = line.settings.topic_prefix
    if line.settings.transactions == "partition":
        return f"{prefix}process-0"
    consumer = committed_consumer(line.settings, "owners", log_level=0)
    notes = to_the_ends(consumer, [TopicPartition(f"{prefix}state.owners", 0, 0)])
    claims = [(note.key() or b"").decode() for note in notes if note.value() is not None]
    consumer.close()
    return claims[-1]


def _kill_leader(line: Line, topic: str, name: str) -> None:
    """Kills the coordinator of ``name``: the broker that leads its partition of ``topic``."""
    line.whole()
    partitions = line.admin().list_topics(topic, timeout=WITHIN_S).topics[topic].partitions
    leader = partitions[_java_hash(name) % len(partitions)].leader
    line.kill(f"kafka-{leader}")


def _java_hash(text: str) -> int:
    value = 0
    for character in text:
        value = (31 * value + ord(character)) & 0xFFFFFFFF
    return value & 0x7FFFFFFF


# Edge, sink, ClickHouse ----------------------------------------------------------------------


def kill_the_edge(line: Line) -> None:
    line.kill("edge")


def impatient_clients(line: Line) -> None:
    """Clients close the connection before the answer and send the request again."""
    before = line.feeder.retries
    line.feeder.patience_s = 0.005
    wait_until(lambda: line.feeder.retries >= before + 20, "clients that gave up")
    line.feeder.patience_s = None


def kill_the_sink(line: Line) -> None:
    line.kill("sink")


def clickhouse_away(line: Line) -> None:
    with line.down("clickhouse"):
        line.last(60, 5)


def clickhouse_slow(line: Line) -> None:
    give_orders(line.control, delay_s=3)
    line.last(20, 5)
    give_orders(line.control)


def clickhouse_answers_errors(line: Line) -> None:
    give_orders(line.control, fail=True)
    line.last(20, 5)
    give_orders(line.control)


def roll_to_changed_contracts_and_back(line: Line) -> None:
    """Deploys a version with added fields in all contracts and goes back, one process at a time, in
    random order.

    Meanwhile processes of both versions run side by side.
    """
    tree = next_version(line.settings.data_dir / "next-version")
    processes = ["sink", "edge", *line.workers]
    for version in tree, None:
        for process in line.rng.sample(processes, len(processes)):
            line.deploy(process, version)
            line.at_work()
        if version:
            _new_versions_on_every_topic(line)
        for filled in FILLED:
            wait_until(lambda text=filled.right: line.ask(text) == "1", filled.right)  # type: ignore[misc]


def _new_versions_on_every_topic(line: Line) -> None:
    """Waits until every topic of the stages has a record of another version than the present."""
    present = set(frames(line.settings).values())
    prefix = line.settings.topic_prefix
    lacking = {f"{prefix}{topic}" for topic in OF_STAGES}
    consumer = committed_consumer(line.settings, "versions", log_level=0)
    partitions = range(line.settings.partitions)
    consumer.assign([TopicPartition(topic, n, OFFSET_END) for topic in lacking for n in partitions])

    def all_have() -> bool:
        for message in consumer.consume(500, 0.05):
            value = message.value()
            if message.error() is None and value and value[:FRAME_BYTES] not in present:
                lacking.discard(message.topic() or "")
        line.check()
        return not lacking

    try:
        wait_until(all_have, "a new version on every topic")
    finally:
        consumer.close()


FREEZING = (
    "between two partitions of a transaction",
    "between two sends of a transaction",
    "between commit and the local write",
    "between a claim and a fence",
    "between fencing and recovery",
    "after recovery",
)
"""Points at which a worker stops and is continued when others own its partitions."""


def _crash(process: str, point: str) -> Callable[[Line], None]:
    if process == "worker":
        return partial(crash_a_worker, point)
    return lambda line: line.crash(point, process)


FAULTS = [
    Fault("worker: kill -9", kill_a_worker, times=6),
    Fault("worker: all of them, kill -9", kill_all_workers, times=2),
    *(
        Fault(f"{point.process}: dies {name}", _crash(point.process, name), together=point.together)
        for name, point in POINTS.items()
        if point.process in ("worker", "edge", "sink")  # the processes of the stack
    ),
    Fault("worker: a zombie wakes", pause_a_worker_beyond_its_session),
    *(
        Fault(
            f"worker: a zombie wakes {name}",
            partial(freeze_a_worker, name),
            quick=POINTS[name].together,
            together=POINTS[name].together,
        )
        for name in FREEZING
    ),
    Fault("worker: both settings of transactions", change_the_transactions_and_back),
    Fault("worker: others come and go", workers_come_and_go, quick=False),
    Fault("disk: state deleted", state_deleted),
    Fault("disk: state deleted while running", state_deleted_under_a_running_worker),
    Fault("disk: state files truncated", state_truncated, times=2),
    Fault("disk: full", disk_full, quick=False),
    Fault("disk: read-only", disk_read_only, quick=False),
    Fault("deploy: to changed contracts and back", roll_to_changed_contracts_and_back),
    Fault("edge: kill -9", kill_the_edge, times=2),
    Fault("edge: clients hang up and retry", impatient_clients),
    Fault("sink: kill -9", kill_the_sink, times=2),
    Fault("broker: kill -9", kill_the_broker),
    Fault("broker: kill -9 as workers join", kill_the_broker_as_workers_join),
    Fault("broker: away for 60 s", broker_away),
    Fault("broker: too slow to acknowledge", broker_too_slow),
    Fault("3 brokers: one after another, kill -9", kill_one_broker_after_another, brokers=3),
    Fault("3 brokers: leaders move", move_the_leaders, brokers=3),
    Fault("3 brokers: transaction coordinator, kill -9", kill_the_transaction_coordinator, brokers=3),
    Fault("3 brokers: group coordinator, kill -9", kill_the_group_coordinator, brokers=3),
    Fault("ClickHouse: away for 60 s", clickhouse_away, brokers=3),
    Fault("ClickHouse: answers after 3 s", clickhouse_slow, brokers=3),
    Fault("ClickHouse: answers errors", clickhouse_answers_errors, brokers=3),
]
