"""The sink: several versions of a contract, also newer than its tables, and topics with few rows."""

from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer

from connectors.clickhouse.sink import Sink
from streams.errors import NewerVersion
from streams.kafka.clients import idempotent_producer
from streams.kafka.offsets import committed_offset
from streams.settings import Settings
from streams.wire.avro import frame
from streams.wire.avro_encoder import encoder
from streams.wire.contracts import Schema, on_the_wire, schema
from tests.contracts import grown, sample
from tests.integration.test_line import question, running, tables
from tests.line import FRAMES
from tests.metrics import sink_metrics
from tests.waiting import wait_until

pytestmark = pytest.mark.parametrize("settings", ["memory"], indirect=True)

LATER = frame(1000)
GROWN = grown("login", 2, name="channel", type="string", default="web")
KNOWN = {FRAMES["login"]: schema("login"), FRAMES["payment"]: schema("payment")}
LOGINS, PAYMENTS = "canonical.logins", "canonical.payments"


class Topics:
    """Topics to which a test writes rows."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.producer: Producer = idempotent_producer(settings)

    def write(self, topic: str, before: bytes, written_as: Schema, **values: Any) -> None:
        value = before + encoder(on_the_wire(written_as))(sample(written_as) | values)
        self.producer.produce(self.settings.topic_prefix + topic, value, partition=0)
        self.producer.flush()


@pytest.fixture
def topics(settings: Settings) -> Topics:
    return Topics(settings)


@pytest.fixture
def known() -> dict[bytes, Schema]:
    """The schemas that the sink can find, by frame."""
    return dict(KNOWN)


@pytest.fixture
def sink(
    settings: Settings, clickhouse: Client, known: dict[bytes, Schema], monkeypatch: pytest.MonkeyPatch
) -> Sink:
    monkeypatch.setattr("connectors.clickhouse.sink.PAUSE_S", (0.01, 0.05))

    def schema_of(contract: str, before: bytes) -> Schema:
        if before not in known:
            raise NewerVersion("nobody knows schema id 1000")
        return known[before]

    return Sink(settings, tables(clickhouse), schema_of, sink_metrics())


def events(client: Client, settings: Settings, table: str, *columns: str) -> list[Any]:
    names = ", ".join(("event_id", *columns))
    return question(client, settings, f"SELECT {names} FROM {table} ORDER BY event_id")


#   offset  0          1           2           3          (logins; partition 0)
#   version 1          2           1           2
def test_rows_of_two_versions_in_one_topic_are_all_stored(
    topics: Topics, sink: Sink, known: dict[bytes, Schema], settings: Settings, clickhouse: Client
) -> None:
    clickhouse.command("ALTER TABLE logins_rows ADD COLUMN channel String DEFAULT 'web'")
    known[LATER] = GROWN
    for number, (before, written_as) in enumerate(
        [(FRAMES["login"], schema("login")), (LATER, GROWN)] * 2
    ):
        topics.write(LOGINS, before, written_as, event_id=f"e-{number}", channel="app")
    with running(sink):
        wait_until(lambda: len(events(clickhouse, settings, "logins_rows")) == 4)
    found = events(clickhouse, settings, "logins_rows", "channel")
    assert found == [("e-0", "web"), ("e-1", "app"), ("e-2", "web"), ("e-3", "app")]


@pytest.mark.parametrize("missing", ["schema", "column"])
def test_a_topic_waits_where_a_field_could_be_lost_and_the_others_go_on(
    missing: str,
    topics: Topics,
    sink: Sink,
    known: dict[bytes, Schema],
    settings: Settings,
    clickhouse: Client,
) -> None:
    if missing == "column":
        known[LATER] = GROWN
    topics.write(LOGINS, FRAMES["login"], schema("login"), event_id="e-0")
    topics.write(LOGINS, LATER, GROWN, event_id="e-1", channel="app")
    topics.write(LOGINS, FRAMES["login"], schema("login"), event_id="e-2")
    with running(sink):
        wait_until(lambda: sink.waiting() != {})
        topics.write(PAYMENTS, FRAMES["payment"], schema("payment"), event_id="e-3")
        wait_until(lambda: events(clickhouse, settings, "payments_rows") == [("e-3",)])
        wait_until(lambda: events(clickhouse, settings, "logins_rows") == [("e-0",)])
        [(place, why)] = sink.waiting().items()
        assert place == f"{settings.topic_prefix}{LOGINS}[0]"
        assert ("schema id 1000" if missing == "schema" else "no column for channel") in why

        clickhouse.command("ALTER TABLE logins_rows ADD COLUMN channel String DEFAULT 'web'")
        known[LATER] = GROWN
        wait_until(lambda: len(events(clickhouse, settings, "logins_rows")) == 3)
        wait_until(lambda: sink.waiting() == {})
    found = events(clickhouse, settings, "logins_rows", "channel")
    assert found == [("e-0", "web"), ("e-1", "app"), ("e-2", "web")]


def test_what_waits_for_more_rows_is_not_committed_until_it_is_inserted(
    topics: Topics, sink: Sink, settings: Settings, clickhouse: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.clickhouse.sink.FEW_SHARE", 2.0)
    monkeypatch.setattr("connectors.clickhouse.sink.FEW_PAUSE_S", 3600.0)

    def pay(number: int) -> None:
        topics.write(PAYMENTS, FRAMES["payment"], schema("payment"), event_id=f"e-{number}")

    def committed(topic: str) -> int:
        prefix = settings.topic_prefix
        return committed_offset(settings, f"{prefix}sink", prefix + topic, 0)

    with running(sink):
        pay(0)
        wait_until(lambda: committed(PAYMENTS) > 0)
        first = committed(PAYMENTS)
        pay(1)
        wait_until(lambda: sink.pending_rows == 1)
        topics.write(LOGINS, FRAMES["login"], schema("login"), event_id="e-2")
        wait_until(lambda: committed(LOGINS) > 0)
        assert committed(PAYMENTS) == first
        assert events(clickhouse, settings, "payments_rows") == [("e-0",)]
    assert events(clickhouse, settings, "payments_rows") == [("e-0",), ("e-1",)]
    assert committed(PAYMENTS) > first
