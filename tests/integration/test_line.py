"""Raw records, stages and sink on a broker, in this process: no step loses or doubles an item."""

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import IsolationLevel, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from connectors.clickhouse.sink import ClickHouseTables, Sink, Tables
from connectors.clickhouse.targets import Target
from connectors.edge.writer import SMALL_BYTES, KafkaWriter
from streams.core.identity import partition_of
from streams.errors import InputGap, StateMismatch
from streams.kafka.admin import wait_for_broker
from streams.kafka.clients import client_config, committed_consumer, idempotent_producer
from streams.kafka.offsets import PartitionId, list_offsets, when_elected
from streams.kafka.schemas import Schemas
from streams.records.raw_batch import RawRecord, requests_of
from streams.records.staged_chunk import StagedRecord
from streams.records.topics import RAW, STAGED
from streams.runtime.stages_on_kafka import Process, Translate
from streams.settings import Settings
from streams.state.owned_partition import OwnedPartition, Shared, open_partition
from streams.state.owners import Lanes
from streams.state.recovery import Recoveries
from streams.state.rocksdb import Memory
from streams.state.table import Table
from streams.wire.avro import Container, codec, unframe
from tests.line import FRAMES, NATIVE, bet, casino, win
from tests.metrics import edge_metrics, sink_metrics, worker_metrics
from tests.waiting import WITHIN_S, wait_until

P1 = partition_of("acme|p-1", 4)  # the staged partition of player p-1


def read(settings: Settings, topic: str, *partitions: int) -> list[Message]:
    """All committed records of some partitions, up to their ends, in order.

    A broker answers a commit before its mark is in every partition: the end of what is committed
    is asked for until no transaction is open.
    """
    consumer = committed_consumer(settings, "test-reader", **{"fetch.wait.max.ms": 5})
    name = settings.topic_prefix + topic
    asked = [TopicPartition(name, partition, 0) for partition in partitions]
    admin = AdminClient(client_config(settings))
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]

    def ends(isolation: IsolationLevel) -> dict[PartitionId, int]:
        return when_elected(lambda: list_offsets(admin, asked, latest, isolation, WITHIN_S))

    wait_until(
        lambda: ends(IsolationLevel.READ_COMMITTED) == ends(IsolationLevel.READ_UNCOMMITTED),
        f"no open transaction in {name}",
    )
    consumer.assign(asked)
    found = []
    ended: set[int | None] = set()
    while len(ended) < len(partitions):
        message = consumer.poll(10)
        assert message is not None, "no end of partition within 10 s"
        error = message.error()
        if error is None:
            found.append(message)
        else:
            assert error.code() == KafkaError._PARTITION_EOF, error
            ended.add(message.partition())
    consumer.close()
    return sorted(found, key=lambda message: (message.partition(), message.offset()))


def headers_of_message(message: Message) -> list[tuple[str, bytes]]:
    headers: Any = message.headers() or []
    return list(headers)


def decoded(settings: Settings, topic: str, contract: str, partition: int = P1) -> list[dict[str, Any]]:
    messages = read(settings, topic, partition)
    return [codec(contract).decode(unframe(message.value() or b"")) for message in messages]


class Line:
    """A line whose steps a test calls one by one."""

    def __init__(self, settings: Settings, frames: Mapping[str, bytes] = FRAMES) -> None:
        self.settings = settings
        self.frames = frames
        self.cluster = wait_for_broker(settings)
        self.translate = Translate(settings, frames, threading.Lock(), worker_metrics())

    def post(self, items: list[Any], **batch: Any) -> None:
        writer = KafkaWriter(self.settings, edge_metrics())
        asyncio.run(writer.write(NATIVE._replace(**batch), json.dumps(items).encode(), 0))
        writer.close()

    def raw(self) -> list[RawRecord]:
        return [
            RawRecord(
                message.partition() or 0,
                message.offset() or 0,
                headers_of_message(message),
                message.value() or b"",
            )
            for message in read(self.settings, RAW, *range(self.settings.partitions))
        ]

    def staged(self, partition: int = P1) -> list[StagedRecord]:
        return [
            StagedRecord(message.offset() or 0, message.value() or b"", headers_of_message(message))
            for message in read(self.settings, STAGED, partition)
        ]

    def shared(self, worker: str, transactions: str = "partition") -> Shared:
        """What a process of a worker has, from its start."""
        settings = self.settings.model_copy(update={"transactions": transactions})
        lock, self.recoveries = threading.Lock(), Recoveries()
        schemas, metrics, memory = Schemas(settings, self.frames), worker_metrics(), Memory()
        lanes = Lanes(settings, worker, lock, metrics)
        return Shared(
            settings, worker, schemas, self.cluster, memory, lock, self.recoveries, metrics, lanes
        )

    def opened(self, partition: int = P1, worker: str = "w") -> OwnedPartition:
        return open_partition(self.shared(worker), partition)

    @contextmanager
    def owned(self, partition: int = P1, worker: str = "w") -> Iterator[OwnedPartition]:
        owned = self.opened(partition, worker)
        try:
            yield owned
        finally:
            owned.close()


@pytest.fixture
def line(settings: Settings) -> Line:
    return Line(settings)


def test_the_edges_record_carries_body_and_headers(line: Line) -> None:
    line.post([bet("b")], idempotency_key="k")
    [record] = line.raw()
    assert json.loads(record.body) == [bet("b")]
    [request] = requests_of(record)
    assert request.headers["tenant"] == b"acme"
    assert request.headers["idempotency-key"] == b"k"


def test_small_requests_of_the_same_moment_share_a_record(line: Line) -> None:
    small = [json.dumps([bet(f"b{n}")]).encode() for n in range(40)]
    large = json.dumps([bet("large", comment="x" * SMALL_BYTES)]).encode()

    async def post() -> None:
        writer = KafkaWriter(line.settings, edge_metrics())
        writes = [
            writer.write(NATIVE._replace(batch_id=body.hex()), body, 0) for body in (*small, large)
        ]
        await asyncio.gather(*writes)
        writer.close()

    asyncio.run(post())
    records = line.raw()
    found = [requests_of(record) for record in records]
    assert sorted(len(requests) for requests in found) == [1, 40]
    bodies = [request.body for requests in found for request in requests]
    assert sorted(bodies) == sorted([*small, large])
    for requests in found:
        assert all(request.headers["batch-id"] == request.body.hex().encode() for request in requests)


def test_a_replay_by_translate_is_skipped_without_being_counted(line: Line, settings: Settings) -> None:
    #   raw: r0 r1 r2    translate: [r0 r1] crash [r0 r1 r2], grouped otherwise
    line.post([bet("b1"), bet("b2")])
    first = line.raw()
    line.translate(first)
    for n in range(3):
        line.post([bet(f"b{n}"), win(f"w{n}")])
    Translate(settings, FRAMES, threading.Lock(), worker_metrics())(line.raw())
    with line.owned() as owned:
        owned.apply(line.staged())
    outcomes = [o for o in decoded(settings, "outcomes", "outcome") if o["stage"] == "process"]
    assert sum(o["accepted"] for o in outcomes) == 6
    assert sum(o["duplicate"] for o in outcomes) == 2  # those that the client sent twice
    assert len({o["outcome_id"] for o in outcomes}) == len(outcomes) == 4


def test_records_that_come_again_are_skipped_and_a_missing_one_stops(line: Line) -> None:
    for n in range(3):
        line.post([bet(f"b{n}")])
        line.translate(line.raw()[-1:]) if n == 0 else Translate(
            line.settings, FRAMES, threading.Lock(), worker_metrics()
        )(line.raw())
    staged = line.staged()
    assert len(staged) == 3
    with line.owned() as owned:
        owned.apply(staged[:1])
        owned.apply(staged[:2])
        assert owned.expected == 2
        with pytest.raises(InputGap, match="offset 3 arrived where 2 was expected"):
            owned.apply([staged[2]._replace(offset=3)])


def test_state_is_built_again_from_the_changelog_when_its_directory_is_gone(line: Line) -> None:
    country = {
        "unique_id": "u",
        "timestamp": "2026-03-14T12:00:00Z",
        "player_id": "p-1",
        "country": "FI",
    }
    line.post([bet("b", 2), {"event": "player", "data": country}])
    line.translate(line.raw())
    with line.owned() as owned:
        owned.apply(line.staged())
        position = owned.position
    shutil.rmtree(line.settings.state_path)
    again = Translate(line.settings, FRAMES, threading.Lock(), worker_metrics())
    line.post([bet("b", 2), win("w", 5)])
    with line.owned() as owned:
        [progress] = line.recoveries.now()
        assert (progress.percent, progress.entries) == (100.0, 5)  # 2 ids, round, position; profile
        assert owned.position == position
        again(line.raw())
        owned.apply(line.staged())
    newest = decoded(line.settings, "rounds", "round")[-1]
    assert (newest["bet_count"], newest["win_count"], newest["player_country"]) == (1, 1, "FI")
    assert newest["revision"] == 2


def test_what_rounds_say_of_a_player_follows_the_newest_profile(line: Line) -> None:
    def say(number: int, country: str) -> dict[str, Any]:
        data = {"unique_id": f"p{number}", "timestamp": f"2026-03-0{number}T12:00:00Z"}
        return {"event": "player", "data": data | {"player_id": "p-1", "country": country}}

    with line.owned() as owned:
        for number, items in enumerate(
            [[bet("b1")], [say(1, "FI"), bet("b2")], [bet("b3"), say(2, "SE")], [bet("b4")]]
        ):
            line.post(items)
            line.translate(line.raw()[number:])
            owned.apply(line.staged())
    sent = decoded(line.settings, "rounds", "round")
    assert [round_["player_country"] for round_ in sent] == [None, "FI", "SE", "SE"]


def test_a_crash_between_commit_and_local_write_is_repaired(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.post([bet("b")])
    line.translate(line.raw())

    def crash(self: Table, puts: Mapping[bytes, bytes], offset: int) -> None:
        raise OSError("killed before the write")

    with line.owned() as owned, monkeypatch.context() as patch:
        patch.setattr(Table, "write", crash)
        with pytest.raises(OSError, match="killed"):
            owned.apply(line.staged())
    with line.owned() as owned:
        owned.apply(line.staged())
    assert len(decoded(line.settings, "canonical.game-transactions", "game-transaction")) == 1


@pytest.mark.kafka
def test_a_crash_before_the_commit_leaves_nothing_behind(
    real_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(real_settings)
    line.post([bet("b")])
    line.translate(line.raw())
    with line.owned() as owned:
        producer = owned.lane.producer
        sent = owned._send

        def crash(topic: str, *rest: Any) -> None:
            sent(topic, *rest)
            producer.flush()
            raise OSError("killed within the transaction")

        monkeypatch.setattr(owned, "_send", crash)
        with pytest.raises(OSError, match="killed"):
            owned.apply(line.staged())
    with line.owned() as owned:
        owned.apply(line.staged())
    assert len(decoded(real_settings, "canonical.game-transactions", "game-transaction")) == 1


def test_state_of_another_cluster_is_not_used(line: Line) -> None:
    with line.owned():
        pass
    line.cluster = "another"
    with pytest.raises(StateMismatch, match="another Kafka cluster"), line.owned():
        pass


def test_a_staged_record_that_translate_did_not_write_is_refused_and_the_line_goes_on(
    line: Line,
) -> None:
    producer = idempotent_producer(line.settings)
    for strange in (b"\x00\x00\x00\x00\x01rubbish", FRAMES["staged-chunk"] + b"rubbish", b"", None):
        producer.produce(line.settings.topic_prefix + STAGED, strange, partition=P1)
    producer.flush()
    line.post([bet("b")])
    line.translate(line.raw())
    with line.owned() as owned:
        owned.apply(line.staged())
    rejects = decoded(line.settings, "rejects", "reject")
    assert [reject["code"] for reject in rejects] == ["not_staged"] * 4
    assert all(reject["errors"][0]["message"] for reject in rejects)
    assert len(decoded(line.settings, "rounds", "round")) == 1


def test_a_gap_is_asked_for_again_once_and_then_stops(line: Line) -> None:
    for n in range(3):
        line.post([bet(f"b{n}")])
        Translate(line.settings, FRAMES, threading.Lock(), worker_metrics())(line.raw()[n:])
    staged = line.staged()
    sought = []

    async def run() -> None:
        async def seek(partition: int, offset: int) -> None:
            sought.append((partition, offset))

        process = Process(line.shared("w").lanes, line.opened, seek)
        assert await process({P1: staged[:1]}) == set()  # not assigned yet
        process.assign([P1])
        assert await process({P1: staged[1:2]}) == set()  # a gap: go back
        await process.seek()
        assert await process({P1: staged[2:3]}) == set()  # was fetched before the seek
        await process.seek()
        assert await process({P1: staged}) == {P1}
        assert process.positions() == {P1: 2}
        assert await process({P1: [StagedRecord(5, b"")]}) == set()
        await process.seek()
        with pytest.raises(InputGap, match="was expected, also after"):
            await process({P1: [StagedRecord(4, b"")]})
        await process.close()

    asyncio.run(run())
    assert sought == [(P1, 0), (P1, 3)]


def test_the_transaction_of_open_partitions_does_not_wait_for_one_that_is_opening(line: Line) -> None:
    player = next(name for n in range(99) if partition_of(f"acme|{(name := f'p-{n}')}", 4) != P1)
    other = partition_of(f"acme|{player}", 4)
    line.post([bet("b"), bet("c", player_id=player)])
    line.translate(line.raw())
    shared, goes_on = line.shared("w", "worker"), threading.Event()

    def opened(partition: int) -> OwnedPartition:
        assert partition == P1 or goes_on.wait(WITHIN_S)
        return open_partition(shared, partition)

    async def run() -> None:
        async def seek(partition: int, offset: int) -> None:
            raise AssertionError("there is no gap")

        process = Process(shared.lanes, opened, seek)
        process.assign([P1, other])
        while not process.opened()[P1]:
            await asyncio.sleep(0.01)
        work = {P1: line.staged(P1), other: line.staged(other)}
        applying = asyncio.create_task(process(work))
        while process.positions()[P1] < 0:
            await asyncio.sleep(0.01)
        goes_on.set()
        assert await applying == {P1, other}
        await process.close()

    asyncio.run(run())
    assert len(decoded(line.settings, "rounds", "round", P1)) == 1
    assert len(decoded(line.settings, "rounds", "round", other)) == 1


@pytest.mark.kafka
def test_the_largest_body_passes(real_settings: Settings) -> None:
    """10,000 items in just under 10 MB become one raw record and several chunks; none is lost."""
    line = Line(real_settings)
    filler = "x" * 240
    items = [
        bet(f"b-{n}-{filler}", 1, round_id=f"r-{n}-{filler}", player_id="p-1" + filler)
        for n in range(10_000)
    ]
    assert 9_000_000 < len(json.dumps(items)) < 10_000_000
    line.post(items)
    line.translate(line.raw())
    partition = partition_of("acme|p-1" + filler, 4)
    staged = line.staged(partition)
    assert len(staged) > 1
    with line.owned(partition) as owned:
        owned.apply(staged)
    outcomes = decoded(real_settings, "outcomes", "outcome", partition)
    assert sum(o["accepted"] for o in outcomes if o["stage"] == "process") == 10_000
    assert len(decoded(real_settings, "rounds", "round", partition)) == 10_000


# The sink ------------------------------------------------------------------------------------


@contextmanager
def running(sink: Sink) -> Iterator[None]:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            sink.run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        sink.stop()
        thread.join()
        if errors:
            raise errors[0]


def tables(client: Client) -> ClickHouseTables:
    return ClickHouseTables(lambda: client)


def a_sink(settings: Settings, tables: Tables) -> Sink:
    return Sink(settings, tables, Schemas(settings, FRAMES).schema_of, sink_metrics())


def fill(line: Line) -> None:
    line.post([bet("b", 2), win("w", 5), {"event": "x"}])
    fasttrack: dict[str, Any] = {"source": "fasttrack"}
    line.post(
        [casino("bet", "c", 7, round_id="r-2"), casino("rollbackbet", "d", 7, round_id="r-2")],
        **fasttrack,
    )
    line.translate(line.raw())
    with line.owned() as owned:
        owned.apply(line.staged())


def question(client: Client, settings: Settings, sql: str) -> list[Any]:
    client.database = settings.clickhouse_database
    return list(client.query(sql).result_rows)


def test_what_was_posted_can_be_asked_for_in_sql(
    line: Line, settings: Settings, clickhouse: Client
) -> None:
    fill(line)
    with running(a_sink(settings, tables(clickhouse))):
        wait_until(lambda: question(clickhouse, settings, "SELECT count() FROM rounds") == [(2,)])
        wait_until(
            lambda: (
                question(clickhouse, settings, "SELECT sum(unsettled), count() FROM accounting")
                == [(0, 1)]
            )
        )
    rows = question(
        clickhouse, settings, "SELECT round_id, stake, payout, ggr FROM rounds ORDER BY round_id"
    )
    assert rows == [("r-1", 2, 5, -3), ("r-2", 0, 0, 0)]
    assert question(
        clickhouse, settings, "SELECT received, accepted, rejected, unsettled FROM accounting"
    ) == [(5, 4, 1, 0)]


class Flaky:
    """Tables whose first inserts fail, either before or after the rows are stored."""

    def __init__(self, inner: Tables, before: int = 0, after: int = 0) -> None:
        self.inner, self.before, self.after = inner, before, after
        self.attempts = 0

    def lacking(self, target: Target, container: Container) -> list[str]:
        return self.inner.lacking(target, container)

    def insert(self, target: Target, container: Container, rows: list[bytes], token: str) -> None:
        self.attempts += 1
        if self.before:
            self.before -= 1
            raise ClickHouseError("away")
        self.inner.insert(target, container, rows, token)
        if self.after:
            self.after -= 1
            raise ClickHouseError("answered too late")


@pytest.mark.parametrize("fault", ["before", "after"])
def test_clickhouse_away_or_too_late_loses_and_doubles_nothing(
    fault: str, line: Line, settings: Settings, clickhouse: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.clickhouse.sink.PAUSE_S", (0.01, 0.05))
    fill(line)
    flaky = Flaky(tables(clickhouse), **{fault: 4})
    with running(a_sink(settings, flaky)):
        wait_until(
            lambda: question(clickhouse, settings, "SELECT count() FROM game_transactions") == [(4,)]
        )
        wait_until(
            lambda: (
                question(clickhouse, settings, "SELECT sum(unsettled), count() FROM accounting")
                == [(0, 1)]
            )
        )
    assert flaky.attempts > 4
    assert question(clickhouse, settings, "SELECT count() FROM game_transactions_rows") == [(4,)]


def test_offsets_do_not_move_while_clickhouse_is_away(
    line: Line, settings: Settings, clickhouse: Client
) -> None:
    fill(line)
    away = Flaky(tables(clickhouse), before=1_000_000)
    sink = a_sink(settings, away)
    with running(sink):
        wait_until(lambda: away.attempts > 0)
        assert sink.away_since is not None
    topic = TopicPartition(settings.topic_prefix + "canonical.game-transactions", P1)
    consumer = committed_consumer(settings, f"{settings.topic_prefix}sink")
    assert [place.offset for place in consumer.committed([topic], timeout=WITHIN_S)] == [-1001]
    consumer.close()


def test_a_sink_that_dies_before_its_commit_doubles_nothing(
    line: Line, settings: Settings, clickhouse: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(line)
    with monkeypatch.context() as patch:
        patch.setattr("connectors.clickhouse.sink.TopicPartition", _raise)
        sink = a_sink(settings, tables(clickhouse))
        with pytest.raises(OSError, match="killed"), running(sink):
            wait_until(lambda: sink.rows_inserted > 0)
    line.post([bet("e", 1, round_id="r-3")])
    Translate(settings, FRAMES, threading.Lock(), worker_metrics())(line.raw())
    with line.owned() as owned:
        owned.apply(line.staged())
    with running(a_sink(settings, tables(clickhouse))):
        wait_until(lambda: question(clickhouse, settings, "SELECT count() FROM rounds") == [(3,)])
        wait_until(
            lambda: question(clickhouse, settings, "SELECT count() FROM game_transactions") == [(5,)]
        )
    assert question(clickhouse, settings, "SELECT sum(bet_amount) FROM rounds") == [(10,)]


def _raise(*args: Any) -> None:
    raise OSError("killed between insert and commit")


def test_an_id_counts_once_within_the_window_and_again_after_twice_its_length(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = 86_400.0
    clock = SimpleNamespace(now=1_800_000_000.0)
    module = SimpleNamespace(time=lambda: clock.now, monotonic=time.monotonic)
    monkeypatch.setattr("streams.state.owned_partition.time", module)
    line.settings = line.settings.model_copy(update={"window_days": 1})
    begun = clock.now
    #          0       just inside   over; a new generation   just inside its window   forgotten
    moments = (0.0, day - 1, day, 2 * day - 1, 2 * day, 2 * day + 1)
    for number, moment in enumerate(moments):
        clock.now = begun + moment
        with line.owned() as owned:  # opened again each time, as after a restart
            line.post([bet("again"), bet(f"other {number}", round_id=f"r{number}")])
            Translate(line.settings, FRAMES, threading.Lock(), worker_metrics())(line.raw())
            owned.apply(line.staged())
    counted = [o for o in decoded(line.settings, "outcomes", "outcome") if o["stage"] == "process"]
    assert [o["accepted"] for o in counted] == [2, 1, 1, 1, 1, 2]
    assert [o["duplicate"] for o in counted] == [0, 1, 1, 1, 1, 0]


def test_state_that_was_damaged_is_kept_aside_and_built_again(line: Line) -> None:
    line.post([bet("b", 2)])
    line.translate(line.raw())
    with line.owned() as owned:
        owned.apply(line.staged())
    home = line.settings.state_path / "w" / f"partition-{P1}"
    for current in home.rglob("CURRENT"):
        current.write_text("")
    line.post([bet("b", 2), win("w", 5)])
    Translate(line.settings, FRAMES, threading.Lock(), worker_metrics())(line.raw())
    with line.owned() as owned:
        owned.apply(line.staged())
    newest = decoded(line.settings, "rounds", "round")[-1]
    assert (newest["bet_count"], newest["win_count"], newest["revision"]) == (1, 1, 2)
    assert home.with_name(f"{home.name}.damaged").is_dir()
