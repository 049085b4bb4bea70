"""The same tests run on each stand-in and on the real program, so that they keep the same behaviour.

The tests of the brokers, and of the line in memory, are in :mod:`tests.integration.test_broker`.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import quote

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from connectors.clickhouse.client import connect
from connectors.clickhouse.migrate import migrate
from connectors.clickhouse.questions import FORMATS, add_rows, ask
from connectors.clickhouse.sink import ClickHouseTables
from connectors.clickhouse.targets import TARGETS, Target
from connectors.edge.writer import SMALL_BYTES, KafkaWriter, Writer
from streams.core import profile as profiles
from streams.core import round as rounds
from streams.core.accounting import CountedAt, Outcome, Reason, Reject, encode_outcome, encode_reject
from streams.core.event import Kind
from streams.core.profile import Value, game_key, state_key, value_of
from streams.errors import DeliveryFailed
from streams.records.raw_batch import RawRecord, Request, headers_of, requests_of
from streams.records.topics import OUTCOMES, RAW
from streams.settings import Settings
from streams.stages.process import Effects, Lookup, ProfilePut
from streams.state.rocksdb import Memory
from streams.state.state_reader import StateReader
from streams.state.table import Table, Window
from streams.wire.avro import Container
from streams.wire.contracts import schema
from tests.clickhouse_server import PASSWORD, USER, running
from tests.docker import has_docker_engine
from tests.integration.test_line import headers_of_message, read
from tests.line import NATIVE
from tests.metrics import edge_metrics
from tests.standins import MemoryState, MemoryWriter

ROOT = Path(__file__).parent.parent.parent
BROKERS = ["memory", pytest.param("real", marks=pytest.mark.kafka)]


# The edge's writer ---------------------------------------------------------------------------


class Written(NamedTuple):
    """A writer, and a function that reads the requests it has written."""

    writer: Writer
    requests: Callable[[], list[Request]]


@pytest.fixture(params=["stand-in", *BROKERS])
def written(request: pytest.FixtureRequest) -> Iterator[Written]:
    if request.param == "stand-in":
        writer = MemoryWriter()
        yield Written(writer, lambda: list(writer.written))
        return
    settings = request.getfixturevalue("line_settings")(
        request.getfixturevalue(f"{request.param}_broker")
    )
    kafka = KafkaWriter(settings, edge_metrics())

    def requests() -> list[Request]:
        return [
            each
            for message in read(settings, RAW, *range(settings.partitions))
            for each in requests_of(
                RawRecord(0, 0, headers_of_message(message), message.value() or b"")
            )
        ]

    yield Written(kafka, requests)
    kafka.close()


def test_a_request_is_there_when_its_write_returns(written: Written) -> None:
    batch = NATIVE._replace(batch_id="one", idempotency_key="key")
    asyncio.run(written.writer.write(batch, b"[1]", 3))
    assert written.requests() == [Request(dict(headers_of(batch, 3)), b"[1]")]


def test_requests_at_the_same_time_are_each_there_with_their_own_headers_and_body(
    written: Written,
) -> None:
    bodies = {f"b-{number}": b"%d" % number for number in range(20)} | {"large": b" " * SMALL_BYTES * 2}

    async def write() -> None:
        writes = [
            written.writer.write(NATIVE._replace(batch_id=batch_id), body, 0)
            for batch_id, body in bodies.items()
        ]
        await asyncio.gather(*writes)

    asyncio.run(write())
    found = written.requests()
    assert len(found) == len(bodies)
    assert {each.headers["batch-id"].decode(): each.body for each in found} == bodies


def test_a_client_that_goes_away_takes_no_other_request_with_it(written: Written) -> None:
    async def write() -> None:
        writes = [
            asyncio.ensure_future(written.writer.write(NATIVE._replace(batch_id=name), b"[]", 0))
            for name in ("a", "goes away", "b")
        ]
        await asyncio.sleep(0)  # each has begun
        writes[1].cancel()
        await asyncio.gather(writes[0], writes[2])

    asyncio.run(write())
    assert {each.headers["batch-id"] for each in written.requests()} >= {b"a", b"b"}


def test_a_writer_with_a_broker_is_ready(written: Written) -> None:
    assert written.writer.kafka_away_s() is None


@pytest.fixture(params=["stand-in", "kafka"])
def without_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Writer]:
    if request.param == "stand-in":
        writer = MemoryWriter()
        writer.fails = True
        yield writer
        return
    settings = Settings(data_dir=tmp_path, kafka_bootstrap="127.0.0.1:1", ack_timeout_s=0.2)
    kafka = KafkaWriter(settings, edge_metrics())
    yield kafka
    kafka.close()


def test_a_write_that_no_broker_takes_raises_and_the_writer_is_not_ready(
    without_broker: Writer,
) -> None:
    with pytest.raises(DeliveryFailed):
        asyncio.run(without_broker.write(NATIVE, b"[]", 0))
    assert without_broker.kafka_away_s() is not None


# The state that processing looks up ----------------------------------------------------------


class Stored(Protocol):
    """State that can be read and written."""

    @property
    def lookup(self) -> Lookup: ...

    def store(self, effects: Effects) -> None: ...


class InMemory:
    """The stand-in for a partition's tables."""

    def __init__(self) -> None:
        self.lookup = MemoryState()

    def store(self, effects: Effects) -> None:
        self.lookup.store(effects)


class InRocksDB:
    """The two tables of a partition in RocksDB, written as its owner writes them."""

    def __init__(self, path: Path) -> None:
        memory = Memory()
        self._window = Window(path / "window", "cluster", 3600, memory)
        self._profiles = Table(path / "profiles", "cluster", memory)
        self.lookup = StateReader(self._window, self._profiles, profiles.decode)

    def store(self, effects: Effects) -> None:
        values = {
            key.encode(): profiles.encode(put.kind, put.tenant, put.identity, put.profile)
            for key, put in effects.profiles.items()
        }
        self._window.write(effects.window, 1, 0)
        self._profiles.write(values, 1)
        self.lookup.forget(values)

    def close(self) -> None:
        self._window.close()
        self._profiles.close()


@pytest.fixture(params=["stand-in", "rocksdb"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stored]:
    if request.param == "stand-in":
        yield InMemory()
        return
    stored = InRocksDB(tmp_path)
    yield stored
    stored.close()


PLAYER = state_key(Kind.PLAYER, "acme|p-1")
GAME = game_key("acme", "g-1")


def named(kind: Kind, field: str, name: str) -> Effects:
    """The effects that put a profile with one field."""
    key, identity = (GAME, "g-1") if kind is Kind.GAME else (PLAYER, "p-1")
    profile = {field: Value(1, kind.contract, "e-1", name)}
    return Effects(profiles={key: ProfilePut(kind, "acme", identity, profile)})


def test_window_values_come_in_the_order_of_the_keys_and_none_for_what_is_unknown(
    state: Stored,
) -> None:
    state.store(Effects(window={b"a": b"1", b"b": b"2"}))
    state.store(Effects(window={b"a": b"3"}))
    assert list(state.lookup.window([b"b", b"c", b"a", b"b"])) == [b"2", None, b"3", b"2"]
    assert list(state.lookup.window([])) == []


def test_profiles_come_in_the_order_of_the_keys_and_none_for_who_is_unknown(state: Stored) -> None:
    state.store(named(Kind.PLAYER, "username", "asa"))
    state.store(named(Kind.GAME, "name", "Book"))
    game, nobody, player = state.lookup.profiles([GAME, "player|acme|p-2", PLAYER])
    assert nobody is None
    assert (value_of(player, "username"), value_of(game, "name")) == ("asa", "Book")


@pytest.mark.parametrize(("kind", "field"), [(Kind.PLAYER, "username"), (Kind.GAME, "name")])
def test_what_rounds_say_of_a_profile_is_that_of_its_newest_put(
    kind: Kind, field: str, state: Stored
) -> None:
    key = GAME if kind is Kind.GAME else PLAYER

    def runs() -> list[bytes]:
        return list(state.lookup.round_runs(kind, [key, "unknown", key]))

    unknown = rounds.encode_profile(kind, None)
    assert runs() == [unknown, unknown, unknown]
    for name in ("first", "second"):
        effects = named(kind, field, name)
        state.store(effects)
        known = rounds.encode_profile(kind, effects.profiles[key].profile)
        assert runs() == [known, unknown, known]


# ClickHouse over HTTP ------------------------------------------------------------------------


@contextmanager
def docker_server() -> Iterator[str]:
    """The DSN of a ClickHouse server in a container."""
    from testcontainers.clickhouse import ClickHouseContainer

    image = "clickhouse/clickhouse-server:25.8"
    with ClickHouseContainer(image, port=8123, username=USER, password=PASSWORD) as server:
        yield (
            f"http://{USER}:{quote(PASSWORD)}@{server.get_container_host_ip()}:"
            f"{server.get_exposed_port(8123)}"
        )


@pytest.fixture(
    scope="module",
    params=["embedded", "stand-in", pytest.param("server", marks=pytest.mark.docker)],
)
def clickhouse_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """chDB in this process, the stand-in server in front of chDB, and a real server."""
    if request.param == "embedded":
        yield request.getfixturevalue("chdb")
        return
    if request.param == "server" and not has_docker_engine():
        pytest.skip("no Docker engine answers")
    home = tmp_path_factory.mktemp("standin")
    server = docker_server() if request.param == "server" else running(home)
    with server as dsn:
        client = connect(Settings(clickhouse_dsn=dsn))
        yield client
        client.close()


@pytest.fixture
def clickhouse_tables(clickhouse_server: Client) -> ClickHouseTables:
    migrate(clickhouse_server, "standins")
    clickhouse_server.command("TRUNCATE TABLE outcomes_rows")
    return ClickHouseTables(lambda: clickhouse_server)


OUTCOME = Container(schema("outcome"))


def outcomes(*batches: str) -> list[bytes]:
    return [
        encode_outcome(
            Outcome.of(
                CountedAt(0, number, "process", 0, 0), NATIVE._replace(batch_id=batch), accepted=1
            )
        )
        for number, batch in enumerate(batches)
    ]


def refused() -> bytes:
    reason = Reason("rejected", "required", [], "item", b"{}")
    at = CountedAt(0, 0, "translate", 0, 0)
    return encode_reject(Reject.of(at, NATIVE._replace(batch_id="a"), 0, reason))


def stored(client: Client) -> list[str]:
    rows = client.query("SELECT batch_id FROM outcomes_rows ORDER BY batch_id").result_rows
    return [str(batch) for (batch,) in rows]


def test_an_insert_repeated_with_its_token_is_stored_once(
    clickhouse_server: Client, clickhouse_tables: ClickHouseTables
) -> None:
    target = TARGETS[OUTCOMES]
    for token in ("first", "first", "second"):
        clickhouse_tables.insert(target, OUTCOME, outcomes(f"{token}-a", f"{token}-b"), token)
    assert stored(clickhouse_server) == ["first-a", "first-b", "second-a", "second-b"]


@pytest.mark.parametrize("topic", ["outcomes", "rejects"])  # as columns, and as rows of Avro
def test_both_forms_of_a_block_are_taken(
    topic: str, clickhouse_server: Client, clickhouse_tables: ClickHouseTables
) -> None:
    rows = outcomes("a") if topic == OUTCOMES else [refused()]
    clickhouse_server.command(f"TRUNCATE TABLE {topic}_rows")
    container = Container(schema(TARGETS[topic].contract))
    clickhouse_tables.insert(TARGETS[topic], container, rows, f"one-{topic}")
    answer = clickhouse_server.query(f"SELECT batch_id, tenant FROM {topic}_rows").result_rows
    assert answer == [("a", "acme")]


def test_an_insert_into_no_table_and_a_wrong_query_raise(
    clickhouse_server: Client, clickhouse_tables: ClickHouseTables
) -> None:
    nowhere = Target("no_such_table", "outcome")
    with pytest.raises(ClickHouseError):
        clickhouse_tables.insert(nowhere, OUTCOME, outcomes("a"), "token")
    with pytest.raises(ClickHouseError):
        clickhouse_server.query("SELECT nonsense")
    assert stored(clickhouse_server) == []


def test_questions_are_answered_in_each_format(clickhouse_server: Client) -> None:
    assert ask(clickhouse_server, "SELECT 1 AS a, 'x' AS b", "csv") == b'"a","b"\n1,"x"\n'
    assert ask(clickhouse_server, "SELECT 1 AS a", "tsv") == b"a\n1\n"
    assert json.loads(ask(clickhouse_server, "SELECT 1 AS a", "json"))["data"] == [{"a": 1}]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "query", ["SELECT nonsense", "SELECT number, throwIf(number = 9) FROM numbers(10)"]
)
def test_nothing_of_a_question_that_fails_is_in_the_answer_to_the_next(
    clickhouse_server: Client, query: str, form: str
) -> None:
    with pytest.raises(ClickHouseError):
        ask(clickhouse_server, query, form)
    assert ask(clickhouse_server, "SELECT 1 AS x", "tsv") == b"x\n1\n"


def test_rows_of_a_command_come_back_with_their_exact_numbers_and_text(
    clickhouse_server: Client,
) -> None:
    migrate(clickhouse_server, "standins")
    clickhouse_server.command("TRUNCATE TABLE rates")
    rate = {"base": "SEK", "quote": "EUR", "source": "å\n'b'"}
    rates = {"2026-03-14": "0.090000000000000001", "2026-03-15": "12345678901234567890"}
    lines = [json.dumps(rate | {"day": day, "rate": each}).encode() for day, each in rates.items()]
    add_rows(clickhouse_server, "rates", b"\n".join(lines))
    found = clickhouse_server.query("SELECT rate, source FROM rates ORDER BY day").result_rows
    assert found == [(Decimal(each), "å\n'b'") for each in rates.values()]
