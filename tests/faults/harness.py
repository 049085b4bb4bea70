"""Runs a line under load, causes faults in it, and at last compares its data with independent books."""

import asyncio
import itertools
import json
import logging
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import httpx
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.clickhouse.query import query
from connectors.demo.day import GAMEBALL, Post
from connectors.demo.run import accounts, demo_keys, is_balanced
from connectors.edge.tenants import Registry
from connectors.local.health import pages
from connectors.local.ports import Ports
from connectors.local.stack import Stack, on_any_ports
from connectors.local.supervisor import Supervisor
from streams.errors import RoundhouseError
from streams.kafka.clients import committed_consumer
from streams.settings import Settings
from tests.clickhouse_server import PASSWORD, USER
from tests.faults.armed import HOLD, POINTS, STOP, arm_file
from tests.faults.books import Acknowledged, Verdict, compare, held
from tests.faults.traffic import traffic
from tests.waiting import WITHIN_S, wait_until

log = logging.getLogger(__name__)

Transactions = Literal["partition", "worker"]
"""The values of the setting ``transactions``."""

ROOT = Path(__file__).parent.parent.parent
PROGRAM = (sys.executable, "-m", "tests.faults.armed")


class Feeder:
    """Posts traffic at a rate, repeats each post until it is acknowledged, and records it in the books.

    ``fault`` is recorded with each post. With ``patience_s`` a client closes the connection after that
    time, once a post, and sends the post again. ``items`` counts the acknowledged items; without
    ``books`` nothing else is recorded.
    """

    POSTERS = 6
    TIMEOUT_S = 60.0

    def __init__(
        self, url: str, keys: dict[str, str], posts: Iterator[Post], items_per_s: float
    ) -> None:
        self.fault = "none"
        self.items = 0
        self.items_per_s = items_per_s
        self.books = True
        self.patience_s: float | None = None
        self.retries = 0
        self.acknowledged: list[Acknowledged] = []
        self.failure: BaseException | None = None
        self._url = url
        self.keys = keys
        self._posts = posts
        self._due = 0.0
        self._stopping = False
        self._thread = threading.Thread(target=self._guarded, name="feeder")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when everything that was sent is acknowledged."""
        self._stopping = True
        self._thread.join()

    def _guarded(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            self.failure = error

    async def _run(self) -> None:
        async with httpx.AsyncClient(base_url=self._url) as client, asyncio.TaskGroup() as group:
            for _ in range(self.POSTERS):
                group.create_task(self._poster(client))

    async def _poster(self, client: httpx.AsyncClient) -> None:
        while not self._stopping:
            post = next(self._posts)
            now = time.monotonic()
            self._due = max(self._due, now - 1.0) + post.items / self.items_per_s
            await asyncio.sleep(self._due - now)
            await self._deliver(client, post)

    async def _deliver(self, client: httpx.AsyncClient, post: Post) -> None:
        key_header = "APIKey" if post.path == GAMEBALL else "x-api-key"
        headers = {"content-type": "application/json", key_header: self.keys[post.tenant]}
        if post.idempotency_key:
            headers["idempotency-key"] = post.idempotency_key
        began, fault = time.monotonic(), self.fault
        timeout = self.patience_s or self.TIMEOUT_S
        while True:
            try:
                answer = await client.post(
                    post.path, content=post.body, headers=headers, timeout=timeout
                )
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code != 503:
                break
            self.retries += 1
            timeout = self.TIMEOUT_S
            await asyncio.sleep(0.2 if answer is None else float(answer.headers["retry-after"]))
        expected = 422 if post.invalid else 204
        if answer.status_code != expected:
            raise AssertionError(f"{post.path} answered {answer.status_code}: {answer.text[:500]}")
        self.items += post.items
        if self.books:
            batch_id = answer.headers["x-batch-id"]
            self.acknowledged.append(Acknowledged(fault, post, batch_id, began))


class Watcher:
    """Measures when each partition's first transaction after a given time becomes visible."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = False
        self._since = float("inf")
        self._seen: dict[int, float] = {}
        self._thread = threading.Thread(target=self._run, name="watcher")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()

    def all_since(self, moment: float) -> float:
        """Waits until every partition has output later than ``moment`` (epoch, s); returns the time."""
        self._seen.clear()
        self._since = moment
        wait_until(lambda: len(self._seen) == self._settings.partitions, "output on every partition")
        return max(self._seen.values())

    def _run(self) -> None:
        consumer = committed_consumer(self._settings, "watcher", log_level=0)
        topic = f"{self._settings.topic_prefix}state.window"
        consumer.assign(
            [TopicPartition(topic, number, OFFSET_END) for number in range(self._settings.partitions)]
        )
        while not self._stopping:
            for message in consumer.consume(500, 0.05):
                if message.error() is None and message.timestamp()[1] / 1000 > self._since:
                    self._seen.setdefault(message.partition() or 0, time.time())
        consumer.close()


class Recovery(NamedTuple):
    """Seconds from the end of a fault until every partition had new output, and until a batch posted
    afterwards was settled in ClickHouse."""

    output_s: float
    settled_s: float


class NotPossible(Exception):
    """The fault cannot be caused on this machine; the message says why."""


class Line:
    """A running line under load, with methods that cause faults in it."""

    def __init__(
        self, stack: Stack, feeder: Feeder, watcher: Watcher, seed: int, *, long: bool, workers: int
    ) -> None:
        self.stack = stack
        self.feeder = feeder
        self.watcher = watcher
        self.rng = random.Random(seed)
        self.long = long
        self.workers = [f"worker-{number}" for number in range(workers)]
        self._commands: dict[str, tuple[Sequence[str], Mapping[str, str]]] = {}
        self.control = stack.settings.data_dir / "clickhouse-orders.json"

    @property
    def settings(self) -> Settings:
        return self.stack.settings

    @property
    def brokers(self) -> list[str]:
        return self.stack.brokers

    # Causing faults --------------------------------------------------------------------------

    def signal(self, name: str, number: int) -> None:
        """Sends a signal to a process of the stack; if it is being restarted, waits for it first."""

        def sent() -> bool:
            try:
                os.kill(self.stack.supervisor.pids()[name], number)
            except ProcessLookupError:
                return False
            return True

        wait_until(sent, f"{name} is there")

    def kill(self, name: str) -> None:
        """Kills a process as ``kill -9`` does; the supervisor starts it again."""
        self.signal(name, signal.SIGKILL)

    def crash(self, point: str, process: str) -> None:
        """Makes a process kill itself at a named point, and waits until it has ended."""
        self._armed(point, point, process)

    def freeze(self, point: str, process: str) -> None:
        """Makes a process stop itself at a named point, until it is sent SIGCONT."""
        self._armed(STOP + point, point, process)

    def _armed(self, text: str, point: str, process: str) -> None:
        path = self.arm(text, process)
        if POINTS[point].opening:
            self.kill(process)
        if POINTS[point].closing:  # a process that is still starting would end without closing anything
            wait_until(lambda: self._has_opened(process), f"{process} with an open partition")
            self.signal(process, signal.SIGTERM)
        wait_until(lambda: not path.exists(), f"{process} at {point!r}")

    def _has_opened(self, worker: str) -> bool:
        return any(
            partition["state"] == "open"
            for page in pages(self.settings, "worker", worker)
            for partition in (page.document or {}).get("partitions", ())
        )

    def arm(self, text: str, process: str) -> Path:
        """Writes the file that arms a point of a process; returns its path."""
        path = arm_file(self.settings.data_dir, process)
        fresh = path.with_suffix(".tmp")
        fresh.write_text(text)
        fresh.replace(path)
        return path

    @contextmanager
    def hold(self, point: str, process: str) -> Iterator[None]:
        """Starts a process again and makes it wait, within the block, at a point of its opening."""
        path = self.arm(HOLD + point, process)
        try:
            self.kill(process)
            yield
        finally:
            path.unlink()

    @contextmanager
    def down(self, *names: str) -> Iterator[None]:
        """Kills processes and keeps them down within the block."""
        supervisor = self.stack.supervisor
        commands = {name: supervisor.command(name) for name in names}
        for name in names:
            supervisor.end(name, within_s=0)
        yield
        for name, (command, environment) in commands.items():
            supervisor.start(name, command, environment)

    def deploy(self, name: str, tree: Path | None, **changed: str) -> None:
        """Stops a process and starts it again with the code in ``tree`` (None: with this code), and
        with changed environment variables.
        """
        supervisor = self.stack.supervisor
        command, environment = supervisor.command(name)
        self._commands.setdefault(name, (command, environment))
        command, environment = self._commands[name]
        if tree is not None:
            command = [sys.executable, "-P", "-m", "connectors.cli", *command[len(PROGRAM) :]]
            environment = {**environment, "PYTHONPATH": str(tree)}
        supervisor.end(name)
        supervisor.start(name, command, {**environment, **changed})

    def last(self, long_s: float, short_s: float) -> None:
        """Sleeps for the length of an outage: ``long_s`` in ``make faults``, else ``short_s``."""
        time.sleep(long_s if self.long else short_s)

    def state_of(self, worker: str) -> Path:
        return self.settings.state_path / worker

    def admin(self) -> AdminClient:
        """A client that asks the brokers for the leaders of partitions."""
        return AdminClient({"bootstrap.servers": self.settings.kafka_bootstrap, "log_level": 0})

    def whole(self) -> None:
        """Waits until every replica of every partition is in sync."""
        admin = self.admin()

        def in_sync() -> bool:
            topics = admin.list_topics(timeout=WITHIN_S).topics.values()
            return all(
                len(p.isrs) == len(p.replicas) and p.leader >= 0
                for topic in topics
                for p in topic.partitions.values()
            )

        wait_until(in_sync, "all replicas in sync")

    # Checking the results --------------------------------------------------------------------

    def strike(self, name: str, harm: Callable[["Line"], None]) -> Recovery:
        """Causes a fault while the line processes its load, and waits until it does so again."""
        self.at_work()
        self.feeder.fault = name
        harm(self)
        over, wall = time.monotonic(), time.time()
        output_s = self.watcher.all_since(wall) - wall
        self._settled_since(over)
        recovery = Recovery(output_s, time.monotonic() - over)
        log.warning(
            "%s: output after %.1f s, settled after %.1f s", name, recovery.output_s, recovery.settled_s
        )
        return recovery

    def at_work(self) -> None:
        """Waits for output on every partition, so that the next fault meets a line under load."""
        self.watcher.all_since(time.time())
        self.check()

    def check(self) -> None:
        """Raises the exception of the feeder, if it has failed."""
        if self.feeder.failure:
            raise self.feeder.failure

    def _settled_since(self, moment: float) -> None:
        entries = self.feeder.acknowledged

        def first() -> Acknowledged | None:
            self.check()
            return next(
                (entry for entry in itertools.islice(entries, at, None) if entry.began > moment), None
            )

        at = max(0, len(entries) - 100)
        wait_until(lambda: first() is not None, "an acknowledgement")
        entry = first()
        assert entry

        def settled() -> bool:
            self.check()
            text = (
                "SELECT count() > 0 AND sum(received) = sum(accepted+duplicate+conflict+rejected) "
                f"FROM outcomes_rows FINAL WHERE batch_id = '{entry.batch_id}'"
            )
            return self.ask(text) == "1"

        wait_until(settled, f"batch {entry.batch_id} settled")

    def ask(self, text: str) -> str | None:
        """The single value that a query returns; None while ClickHouse does not answer."""
        try:
            return query(self.settings, text, "tsv").splitlines()[1]
        except (RoundhouseError, ClickHouseError):
            return None

    def drain(self) -> None:
        """Stops feeding and waits until every raw record is translated, settled and stored."""
        self.feeder.stop()
        self.check()

        def complete() -> bool:
            translated = self.ask(
                "SELECT uniqExact(raw_partition, raw_offset) FROM outcomes WHERE stage = 'translate'"
            )
            if translated is None or int(translated) != self._raw_records():
                return False
            try:
                return all(is_balanced(account) for account in accounts(self.settings).values())
            except (RoundhouseError, ClickHouseError):
                return False

        wait_until(complete, "the line has drained")

    def _raw_records(self) -> int:
        consumer = committed_consumer(self.settings, "count", log_level=0)
        topic = f"{self.settings.topic_prefix}raw.batches"
        ends = [
            consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=WITHIN_S)[1]
            for number in range(self.settings.partitions)
        ]
        consumer.close()
        return sum(ends)

    def verdict(self) -> Verdict:
        """Drains the line and compares what it holds with the books."""
        self.drain()
        found = held(self.settings)
        return compare(self.feeder.acknowledged, found, retried=self.feeder.retries > 0)

    def keys_in_files(self) -> list[str]:
        """The logs and other files of Roundhouse that contain an API key; there should be none."""
        keys = [key.encode() for key in self.feeder.keys.values()]
        home = self.settings.data_dir
        files = [
            *home.glob("*"),
            *(home / "logs").glob("*"),
            *self.settings.state_path.glob("*/*.json"),
        ]
        return [
            path.name
            for path in files
            if path.is_file() and any(key in path.read_bytes() for key in keys)
        ]


@contextmanager
def line(
    home: Path,
    seed: int,
    *,
    brokers: int = 1,
    server: bool = False,
    workers: int = 2,
    items_per_s: float = 1_500,
    long: bool = False,
    books: bool = True,
    stuck_after_s: float = 300.0,
    schema_registry: str | None = None,
    transactions: Transactions = "partition",
) -> Iterator[Line]:
    """Runs a line under load until :meth:`Line.verdict`. ``server``: with ClickHouse over HTTP instead
    of chDB. ``schema_registry``: the address of a registry; without it the schema ids are built in."""
    settings = on_any_ports(
        Settings(
            data_dir=home,
            session_timeout_s=6,
            ack_timeout_s=5,
            stuck_after_s=stuck_after_s,
            standbys=1,
            replication_factor=min(3, brokers),
            schema_registry_url=schema_registry,
            transactions=transactions,
        ),
        brokers,
    )
    supervisor = Supervisor(home / "logs", pause_s=(0.2, 1.0))  # kills are frequent here
    with (
        Ports() as ports,
        supervising(supervisor) as failures,
        Stack(
            _with_clickhouse(settings, supervisor, ports) if server else settings,
            processes=workers,
            program=PROGRAM,
            supervisor=supervisor,
        ) as stack,
    ):
        keys = demo_keys(Registry(settings.tenants_path))
        feeder = Feeder(stack.edge_url, keys, traffic(seed), items_per_s)
        watcher = Watcher(stack.settings)
        feeder.books = books
        feeder.start()
        watcher.start()
        try:
            yield Line(stack, feeder, watcher, seed, long=long, workers=workers)
            if failures:
                raise failures[0]
        finally:
            feeder.stop()
            watcher.stop()
            supervisor.ask_to_stop()


@contextmanager
def supervising(supervisor: Supervisor) -> Iterator[list[BaseException]]:
    """Restarts processes that end, in a thread that runs longer than the stack.

    The thread must outlive the stack because its child processes end with it.
    """
    failures: list[BaseException] = []
    over = threading.Event()

    def supervise() -> None:
        try:
            supervisor.run()
        except BaseException as error:
            failures.append(error)
        over.wait()

    thread = threading.Thread(target=supervise, name="supervisor")
    thread.start()
    try:
        yield failures
    finally:
        supervisor.ask_to_stop()
        over.set()
        thread.join()


def _with_clickhouse(settings: Settings, supervisor: Supervisor, ports: Ports) -> Settings:
    home, port = settings.data_dir, ports.hold("the test's ClickHouse")
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.clickhouse_server", str(home / "server")]
    command += ["--port", str(port), "--control", str(home / "clickhouse-orders.json")]
    supervisor.start("clickhouse", command, os.environ)
    dsn = f"http://{USER}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{port}"
    settings = settings.model_copy(update={"clickhouse_dsn": dsn})

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}", timeout=5).status_code == 403
        except httpx.TransportError:
            return False

    wait_until(answers, "ClickHouse answers")
    return settings


def give_orders(control: Path, **orders: float | bool) -> None:
    """Tells the ClickHouse of :func:`line` how to behave from now on."""
    fresh = control.with_suffix(".tmp")
    fresh.write_text(json.dumps(orders))
    fresh.replace(control)


def disk_room(path: Path) -> int:
    """Bytes that can still be written."""
    return shutil.disk_usage(path).free
