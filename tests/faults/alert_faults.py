"""Faults that last until the alerts fire that they are for: within a ``with`` block the line is harmed.

The load goes on in every one of them. Where a limit of production is out of reach on one machine, the
docstring says what stands in for it.
"""

import json
import resource
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from typing import NamedTuple

import httpx
from confluent_kafka import Message, Producer, TopicPartition

from connectors.demo.day import TENANTS
from connectors.edge.routes import ROUTES
from connectors.local.health import is_well
from streams.core.event import Batch
from streams.kafka.clients import committed_consumer
from streams.kafka.lag import SINK, LagMeter
from streams.records.raw_batch import headers_of
from streams.records.topics import RAW
from streams.settings import Settings
from tests.faults import faults
from tests.faults.harness import Line, disk_room, give_orders
from tests.faults.service_faults import endpoint_answers, standings_without_clickhouse
from tests.line import bet
from tests.scrapes import scrape, targets, total
from tests.waiting import wait_until

TENANT = TENANTS[0].name
NATIVE = ROUTES[0]
BODY_BYTES = 9_500_000
BODIES = 24
"""So many bodies are 85 % of what an edge may hold, and of a producer's queue, by default."""
FOUR_DAYS_MS = 4 * 86_400_000

Harm = Callable[[Line], AbstractContextManager[None]]


class AlertFault(NamedTuple):
    """A fault, and the alerts that it must raise, without the prefix that all alerts have."""

    name: str
    harm: Harm
    alerts: tuple[str, ...] = ()


# Processes and disks ---------------------------------------------------------------------------


def _once(harm: Callable[[Line], None]) -> Harm:
    """A fault that is over at once; the block only waits for its alerts."""

    @contextmanager
    def caused(line: Line) -> Iterator[None]:
        harm(line)
        yield

    return caused


def _again_and_again(line: Line) -> None:
    for _ in range(4):
        line.kill(line.workers[0])
        time.sleep(15)


def _down(names: Callable[[Line], list[str]], line: Line) -> AbstractContextManager[None]:
    return line.down(*names(line))


def _partitions_do_not_open(line: Line) -> AbstractContextManager[None]:
    return line.hold("while partitions open", line.workers[0])


@contextmanager
def _disk_nearly_full(line: Line) -> Iterator[None]:
    with faults.small_disk(line) as (_, home):
        filler = home / "filler"
        filler.write_bytes(bytes(disk_room(home) - shutil.disk_usage(home).total // 20))
        try:
            yield
        finally:
            filler.unlink()


@contextmanager
def _too_few_files(line: Line) -> Iterator[None]:
    """The limit of a running worker is lowered to what it has open and a sixth more."""
    worker = line.workers[0]
    [target] = [found for found in targets(line.settings) if found.instance.startswith(worker)]
    limit = int(total(scrape(target), "process_open_fds") / 0.86)
    pid = line.stack.supervisor.pids()[worker]
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


# Requests --------------------------------------------------------------------------------------


@contextmanager
def _repeated(act: Callable[[int], None], every_s: float) -> Iterator[None]:
    """Calls ``act`` with 0, 1, 2 ... in a thread; raises in the end what it has raised."""
    over = threading.Event()

    def run() -> None:
        number = 0
        while not over.wait(every_s):
            act(number)
            number += 1

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(run)
        try:
            yield
        finally:
            over.set()
        done.result()


def _post(line: Line, key: str, body: bytes) -> int:
    headers = {"content-type": "application/json", NATIVE.key_header: key}
    url = line.stack.edge_url + NATIVE.path
    return httpx.post(url, content=body, headers=headers, timeout=300).status_code


@contextmanager
def _revoked_key(line: Line) -> Iterator[None]:
    body = json.dumps([bet("of-a-revoked-key")]).encode()

    def post(_: int) -> None:
        assert _post(line, "a key that was revoked", body) == 403

    with _repeated(post, 0.5):
        yield


@contextmanager
def _reused_ids(line: Line) -> Iterator[None]:
    """An operator uses the same 30 ids with new amounts in each post."""

    def post(number: int) -> None:
        items = [bet(f"reused-{item}", amount=number + 1) for item in range(30)]
        assert _post(line, line.feeder.keys[TENANT], json.dumps(items).encode()) == 204

    with _repeated(post, 0.5):
        yield


@contextmanager
def _slow_bodies(line: Line) -> Iterator[None]:
    """Clients send large bodies that do not end."""
    address = line.settings.edge_host, line.settings.edge_port
    head = (
        f"POST {NATIVE.path} HTTP/1.1\r\nhost: edge\r\ncontent-type: application/json\r\n"
        f"{NATIVE.key_header}: {line.feeder.keys[TENANT]}\r\ncontent-length: {BODY_BYTES + 1}\r\n\r\n"
    )
    clients = [socket.create_connection(address, timeout=60) for _ in range(BODIES)]
    try:
        for client in clients:
            client.sendall(head.encode() + bytes(BODY_BYTES))
        yield
    finally:
        for client in clients:
            client.close()


def foreign_records(settings: Settings) -> None:
    """Another program writes records to the edge's topic that the edge would have refused."""
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap})
    batch = Batch("acme", "native", "foreign", int(time.time() * 1e6), True, False, None)
    headers = headers_of(batch, invalid=0)
    for _ in range(5):
        producer.produce(
            settings.topic_prefix + RAW,
            b'[{"event":"gameround"}]',
            headers=headers,  # type: ignore[arg-type]  # declared with a wider type of pair
        )
    producer.flush(30)


# Brokers ---------------------------------------------------------------------------------------


@contextmanager
def _stopped_broker_and_large_bodies(line: Line) -> Iterator[None]:
    """The broker answers nothing while operators post 228 MB.

    The edge waits longer for acknowledgements than by default: what is not acknowledged after that time
    leaves the queue, and clients would have to post as much again and again.
    """
    supervisor = line.stack.supervisor
    command, environment = supervisor.command("edge")
    supervisor.end("edge")
    supervisor.start("edge", command, {**environment, "ROUNDHOUSE_ACK_TIMEOUT_S": "120"})
    wait_until(lambda: is_well(line.settings, "edge"), "an edge that is patient")
    key = line.feeder.keys[TENANT]
    bodies = [
        json.dumps([bet(f"large-{number}")]).encode().ljust(BODY_BYTES) for number in range(BODIES)
    ]
    line.signal(line.brokers[0], signal.SIGSTOP)
    with ThreadPoolExecutor(BODIES) as pool:
        answers = [pool.submit(_post, line, key, body) for body in bodies]
        try:
            yield
        finally:
            line.signal(line.brokers[0], signal.SIGCONT)
        assert {answer.result() for answer in answers} == {204}
    supervisor.end("edge")
    supervisor.start("edge", command, environment)


# ClickHouse ------------------------------------------------------------------------------------


@contextmanager
def _clickhouse_orders(line: Line, **orders: float | bool) -> Iterator[None]:
    give_orders(line.control, **orders)
    try:
        yield
    finally:
        give_orders(line.control)


@contextmanager
def _old_record_and_clickhouse_away(line: Line) -> Iterator[None]:
    """The first record of a partition that the sink reads is four days old, as from a mirror that was
    behind. No run can wait for so long."""
    with line.down("clickhouse"), closing(LagMeter(line.settings, SINK)) as meter:
        idle = [lag for lag in meter.measure() if lag.records == 0]
        for lag in idle:
            copied = _last_record(line, lag.topic, lag.partition)
            if copied is not None:
                _write_old(line, copied)
        aged = [lag for lag in meter.measure() if (lag.seconds or 0) > 3 * 86_400]
        assert aged, "no partition was idle"
        yield


def _last_record(line: Line, topic: str, partition: int) -> Message | None:
    at = TopicPartition(line.settings.topic_prefix + topic, partition)
    with closing(committed_consumer(line.settings, "copy", log_level=0)) as consumer:
        low, high = consumer.get_watermark_offsets(at, timeout=30)
        at.offset = max(low, high - 10)
        consumer.assign([at])
        last = None
        while (message := consumer.poll(10)) is not None and message.error() is None:
            last = message
    return last


def _write_old(line: Line, record: Message) -> None:
    producer = Producer({"bootstrap.servers": line.settings.kafka_bootstrap})
    topic, partition = record.topic(), record.partition()
    assert topic is not None
    assert partition is not None
    producer.produce(
        topic,
        record.value(),
        record.key(),
        partition,
        headers=record.headers(),
        timestamp=int(time.time() * 1000) - FOUR_DAYS_MS,
    )
    producer.flush(30)


ALERT_FAULTS = [
    AlertFault("worker: kill -9", _once(faults.kill_a_worker)),
    AlertFault("worker: kill -9, four times in a minute", _once(_again_and_again), ("Restarting",)),
    AlertFault(
        "worker: one of two is down", partial(_down, lambda line: line.workers[:1]), ("ProcessDown",)
    ),
    AlertFault(
        "worker: all are down", partial(_down, lambda line: line.workers), ("ProcessDown", "LagUnknown")
    ),
    AlertFault(
        "worker: its partitions do not open", _partitions_do_not_open, ("PartitionsClosed", "Stuck")
    ),
    AlertFault("disk: state deleted", _once(faults.state_deleted)),
    AlertFault("disk of a worker: 95 % full", _disk_nearly_full, ("DiskNearlyFull",)),
    AlertFault(
        "worker: a limit of open files near what it has open", _too_few_files, ("FilesNearlyFull",)
    ),
    AlertFault("edge: down", partial(_down, lambda line: ["edge"]), ("EdgeDown", "ProcessDown")),
    AlertFault(
        "edge: clients send 228 MB of bodies that do not end", _slow_bodies, ("EdgeNearlyFull",)
    ),
    AlertFault("edge: an operator uses a revoked key", _revoked_key, ("Refusing",)),
    AlertFault("edge: an operator uses ids twice", _reused_ids, ("Conflicts",)),
    AlertFault(
        "raw.batches: another program writes to it",
        _once(lambda line: foreign_records(line.settings)),
        ("UnexpectedRejects",),
    ),
    AlertFault("sink: down", partial(_down, lambda line: ["sink"]), ("ProcessDown", "LagUnknown")),
    AlertFault(
        "ClickHouse: away, and a record that waits is four days old",
        _old_record_and_clickhouse_away,
        ("ClickHouseAway", "Late", "InputExpires"),
    ),
    AlertFault(
        "ClickHouse: answers errors", partial(_clickhouse_orders, fail=True), ("ClickHouseAway",)
    ),
    AlertFault("ClickHouse: answers after 3 s", partial(_clickhouse_orders, delay_s=3), ("Slow",)),
    AlertFault(
        "ClickHouse: answers after 40 s", partial(_clickhouse_orders, delay_s=40), ("Stuck", "Late")
    ),
    AlertFault("broker: away", partial(_down, lambda line: line.brokers[:1]), ("NotAcknowledging",)),
    AlertFault("broker: stopped for 8 s", _once(faults.broker_too_slow), ("KafkaTimeouts",)),
    AlertFault(
        "broker: stopped while operators post 228 MB",
        _stopped_broker_and_large_bodies,
        ("QueueNearlyFull",),
    ),
    AlertFault(
        "webhooks: an endpoint answers 500", partial(endpoint_answers, status=500), ("WebhooksFail",)
    ),
    AlertFault(
        "webhooks: an endpoint answers 410", partial(endpoint_answers, status=410), ("WebhooksDead",)
    ),
    AlertFault(
        "standings: ClickHouse is away, and a file has a mistake",
        standings_without_clickhouse,
        ("StandingsOld", "CampaignFilesWrong"),
    ),
]
