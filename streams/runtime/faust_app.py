"""The Faust app: two agents that pass records to the stages and acknowledge them afterwards.

Faust provides consumer groups, assignment, flow control and the event loop, but not exactly-once
processing: docs/design.md, decision 2, has the measurements.
"""

import asyncio
import itertools
import threading
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import faust
import mode.loop
from faust.types import TP, EventT, StreamT
from faust.types.auth import CredentialsT

from streams.kafka.admin import ensure_topics, wait_for_broker
from streams.kafka.clients import METADATA_MS, sasl_login, ssl_context
from streams.kafka.offsets import committed_offset
from streams.kafka.schema_ids import frames
from streams.kafka.schemas import Schemas, publish
from streams.records.raw_batch import Headers, RawRecord
from streams.records.staged_chunk import StagedRecord
from streams.records.topics import RAW, STAGED
from streams.runtime import memory
from streams.runtime.assignment import Local, assignor, sticky
from streams.runtime.fail_stop import end_within, fail_stop
from streams.runtime.faust_channel import batches, rejoin, seek_back
from streams.runtime.gaps import InputOrder, Seek
from streams.runtime.membership import Membership
from streams.runtime.stages_on_kafka import Process, Translate
from streams.runtime.worker_health import WorkerHealth
from streams.settings import Settings
from streams.state.follower import Followers
from streams.state.owned_partition import (
    OwnedPartition,
    Shared,
    open_partition,
    partitions_on_disk,
)
from streams.state.owners import Lanes
from streams.state.recovery import Recoveries
from streams.state.rocksdb import Memory
from streams.telemetry.process_metrics import process_registry
from streams.telemetry.status_server import serving
from streams.telemetry.traces import open_traces
from streams.telemetry.worker_metrics import WorkerMetrics

BUFFER_MAX = 64
"""Number of records that Faust buffers for an agent; records may be large."""

ENOUGH_RAW_BYTES = 1_000_000
ENOUGH_STAGED_BYTES = 2_000_000
"""Bytes at which a batch of a stage is complete and waits for no more records."""

FETCH_BYTES = 1 << 20
"""Bytes of a fetch from one partition. It is small, so that a backlog of one topic does not delay the
other. A larger record is fetched anyway.
"""

BEAT_EVERY_S = 1.0
LOOK_FOR_GAPS_EVERY_S = 0.5
SAMPLE_EVERY_S = 10.0
"""Interval at which tables are measured and the statistics of idle clients are taken."""


class _Parts(NamedTuple):
    """The parts of a worker process. ``translating`` is held while translate has records in hand."""

    settings: Settings
    membership: Membership
    health: WorkerHealth
    metrics: WorkerMetrics
    raw_order: InputOrder
    translate: Translate
    process: Process
    followers: Followers
    translating: asyncio.Lock


def create_app(
    settings: Settings, membership: Membership, metrics: WorkerMetrics, health: WorkerHealth
) -> faust.App:
    """The app of one worker process."""
    cluster = wait_for_broker(settings)
    ensure_topics(settings)
    membership.check_releases()
    local = Local(
        partial(partitions_on_disk, settings, membership.worker), lambda: followers.caught_up()
    )
    app = _faust_app(settings, membership, local)
    publish(settings)
    schemas = Schemas(settings, frames(settings))
    # Threads that compute at the same time compete for the interpreter's lock and the processor's
    # caches, so one computes at a time while the others wait for Kafka.
    computing = threading.Lock()
    raw_topic, staged_topic = settings.topic_prefix + RAW, settings.topic_prefix + STAGED

    def committed(partition: int) -> int:
        return committed_offset(settings, app.conf.id, raw_topic, partition)

    traces = open_traces(settings, "worker")
    translate = Translate(settings, schemas.frames, computing, metrics, traces)
    raw_order = InputOrder(committed, _seek(app, raw_topic))
    tables, worker = Memory(), membership.worker
    metrics.partitions.watch(tables.usage)
    lanes = Lanes(settings, membership.name, computing, metrics, traces)
    shared = Shared(
        settings, worker, schemas, cluster, tables, computing, Recoveries(), metrics, lanes, traces
    )
    followers = Followers(shared, fail_stop)
    process = Process(
        lanes,
        partial(_take_over, shared, followers),
        _seek(app, staged_topic),
    )
    health.begin(process, shared.recoveries, followers, metrics.lag)
    parts = _Parts(
        settings=settings,
        membership=membership,
        health=health,
        metrics=metrics,
        raw_order=raw_order,
        translate=translate,
        process=process,
        followers=followers,
        translating=asyncio.Lock(),
    )
    _connect(app, parts)
    _add_agents(app, parts)
    metrics.partitions.configured.set(settings.partitions)
    _own_when_warm(app, followers)
    _sample(app, translate, process)
    _beat(app, parts, shared.recoveries)
    _close_gaps(app, parts)
    return app


def _beat(app: faust.App, parts: _Parts, recoveries: Recoveries) -> None:
    """Reports once a second that the event loop runs; ends the process if a partition has failed."""

    @app.task  # type: ignore[untyped-decorator]
    async def beat() -> None:
        for tick in itertools.count():
            if app.should_stop:
                return
            parts.health.beat()
            try:
                parts.process.raise_failures()
            except Exception as error:
                fail_stop(error)
            if tick % int(memory.COLLECT_EVERY_S / BEAT_EVERY_S) == 0:
                await asyncio.to_thread(memory.give_back)
            recovered = {now.partition: now.percent / 100 for now in recoveries.now()}
            parts.metrics.partitions.assigned(parts.process.opened(), recovered)
            await app.sleep(BEAT_EVERY_S)


def _close_gaps(app: faust.App, parts: _Parts) -> None:
    """Not part of the agents, which have to go on reading, nor of the beat: it waits for Faust."""

    @app.task  # type: ignore[untyped-decorator]
    async def close_gaps() -> None:
        while not app.should_stop:
            try:
                await parts.raw_order.seek()
                await parts.process.seek()
            except Exception as error:
                fail_stop(error)
            await app.sleep(LOOK_FOR_GAPS_EVERY_S)


def _seek(app: faust.App, topic: str) -> Seek:
    async def back(partition: int, offset: int) -> None:
        await seek_back(app, TP(topic, partition), offset)

    return back


def _take_over(shared: Shared, followers: Followers, partition: int) -> OwnedPartition:
    followers.release(partition)  # tables are opened once at a time
    return open_partition(shared, partition)


def _faust_app(settings: Settings, membership: Membership, local: Local) -> faust.App:
    folder = membership.directory / "faust"
    folder.mkdir(parents=True, exist_ok=True)
    return faust.App(
        membership.group,
        broker="kafka://" + ";kafka://".join(settings.kafka_bootstrap.split(",")),
        broker_credentials=_credentials(settings),
        datadir=str(folder),
        broker_client_id=membership.client_id,
        consumer_group_instance_id=membership.instance_id,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=FETCH_BYTES,
        consumer_metadata_max_age_ms=METADATA_MS,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=min(3.0, settings.session_timeout_s / 5),
        broker_request_timeout=max(90.0, settings.session_timeout_s),  # Faust wants no less
        broker_commit_interval=1.0,
        PartitionAssignor=assignor(settings.standbys, local),
        table_standby_replicas=1,  # with 0 Faust takes no assignor but its plainest
        stream_wait_empty=False,
        stream_buffer_maxsize=BUFFER_MAX,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        value_serializer="raw",
    )


def _credentials(settings: Settings) -> CredentialsT | None:
    """The connection settings of Faust's own client, as :func:`streams.kafka.clients.client_config`
    gives them to librdkafka.
    """
    context = ssl_context(settings)
    if login := sasl_login(settings):
        return faust.SASLCredentials(
            username=login.username,
            password=login.password,
            mechanism=login.mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None


def _add_agents(app: faust.App, parts: _Parts) -> None:
    process, metrics = parts.process, parts.metrics
    linger_s = parts.settings.worker_linger_ms / 1000

    def bytes_topic(name: str) -> Any:
        return app.topic(
            parts.settings.topic_prefix + name,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
        )

    @app.agent(bytes_topic(RAW), name="translate")
    async def translate_agent(stream: StreamT[bytes]) -> None:
        try:
            async for events in batches(stream, ENOUGH_RAW_BYTES, linger_s):
                async with parts.translating:
                    ready = [
                        event
                        for event in events
                        if await parts.raw_order.admit(event.message.partition, event.message.offset)
                    ]
                    metrics.stages.took(RAW, (event.message.timestamp for event in ready))
                    await asyncio.to_thread(parts.translate, [_raw_record(event) for event in ready])
                    _acknowledge(ready)
        except Exception as error:
            fail_stop(error)

    @app.agent(bytes_topic(STAGED), name="process")
    async def process_agent(stream: StreamT[bytes]) -> None:
        try:
            async for events in batches(stream, ENOUGH_STAGED_BYTES, linger_s):
                metrics.stages.took(STAGED, (event.message.timestamp for event in events))
                by_partition: dict[int, list[EventT[Any]]] = defaultdict(list)
                for event in events:
                    by_partition[event.message.partition].append(event)
                done = await process(
                    {
                        partition: [_staged_record(event) for event in of_partition]
                        for partition, of_partition in by_partition.items()
                    }
                )
                for partition in done:
                    _acknowledge(by_partition[partition])
        except Exception as error:
            fail_stop(error)


def _connect(app: faust.App, parts: _Parts) -> None:
    """Opens and closes partitions when Faust assigns and revokes them."""

    def staged(tps: Iterable[TP]) -> list[int]:
        return [tp.partition for tp in tps if tp.topic == parts.settings.topic_prefix + STAGED]

    @app.on_partitions_assigned.connect(weak=False)
    async def assigned(sender: Any, assigned: Any = (), **kwargs: Any) -> None:
        parts.membership.joined = True
        parts.raw_order.forget()
        if parts.settings.standbys:
            parts.followers.follow(sticky(app).followed)
        parts.process.assign(staged(assigned))
        parts.health.assigned((tp.topic, tp.partition) for tp in assigned)

    @app.on_partitions_revoked.connect(weak=False)
    async def revoked(sender: Any, revoked: Any = (), **kwargs: Any) -> None:
        parts.health.revoked((tp.topic, tp.partition) for tp in revoked)
        try:
            await parts.process.revoke(staged(revoked))
            await asyncio.to_thread(parts.membership.check)
        except Exception as error:
            fail_stop(error)

    @app.on_before_shutdown.connect(weak=False)
    async def shutdown(sender: Any, **kwargs: Any) -> None:
        await parts.translating.acquire()  # and keep it: no more is begun
        await parts.process.close()
        await asyncio.to_thread(parts.followers.close)


def _own_when_warm(app: faust.App, followers: Followers) -> None:
    """Asks for another assignment when the copies are up to date that this worker is to own."""
    asked: frozenset[int] = frozenset()

    @app.timer(BEAT_EVERY_S)  # type: ignore[untyped-decorator]
    async def look() -> None:
        nonlocal asked
        warms = sticky(app).warms
        if warms and warms != asked and warms <= set(followers.caught_up()):
            asked = warms
            rejoin(app)


def _sample(app: faust.App, translate: Translate, process: Process) -> None:
    """Not part of the beat: it waits for transactions."""

    @app.task  # type: ignore[untyped-decorator]
    async def sample() -> None:
        while not app.should_stop:
            try:
                translate.poll()
                await process.sample()
            except Exception as error:
                fail_stop(error)
            await app.sleep(SAMPLE_EVERY_S)


def _acknowledge(events: Iterable[EventT[Any]]) -> None:
    for event in events:
        event.ack()


def _raw_record(event: EventT[Any]) -> RawRecord:
    message = event.message
    return RawRecord(message.partition, message.offset, _headers(event), message.value or b"")


def _staged_record(event: EventT[Any]) -> StagedRecord:
    return StagedRecord(event.message.offset, event.message.value or b"", _headers(event))


def _headers(event: EventT[Any]) -> Headers:
    headers: Any = event.message.headers or ()  # Faust leaves the headers a list of pairs
    return tuple(headers)


class _Worker(faust.Worker):
    """Faust's worker; its stop is reported and bounded in time."""

    def __init__(
        self,
        app: faust.App,
        settings: Settings,
        health: WorkerHealth,
        logging_config: dict[str, Any] | None,
    ) -> None:
        super().__init__(
            app, loglevel="INFO", redirect_stdouts=False, quiet=True, logging_config=logging_config
        )
        self._settings = settings
        self._health = health
        self._told = False

    async def stop(self) -> None:
        """Finishes what is in hand, commits, leaves the group; after ``stop_within_s`` it gives up."""
        if not self._told:
            self._told = True
            self._health.stops()
            end_within(self._settings.stop_within_s)
        await super().stop()


def run_worker(settings: Settings, worker: str, logging_config: dict[str, Any] | None = None) -> None:
    """Runs a worker until it is told to stop (SIGINT, SIGTERM) or must stop (:func:`fail_stop`).

    ``worker`` names it on this machine, stably across restarts. Faust configures logging anew: with
    ``logging_config``, or in its own way.
    """
    memory.tune()
    mode.loop.use("uvloop")
    registry, health = process_registry(settings.state_path / worker), WorkerHealth(settings)
    try:
        membership = Membership(settings, worker)
        with serving(settings, "worker", registry, health.report, worker):
            app = create_app(settings, membership, WorkerMetrics(registry), health)
            _Worker(app, settings, health, logging_config).execute_from_commandline()
    except Exception as error:
        fail_stop(error)
