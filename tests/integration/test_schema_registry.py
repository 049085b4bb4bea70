"""Standard deserializers read every topic, with a real schema registry and with the edge as one."""

import json
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn
from confluent_kafka.schema_registry import (
    ConfigCompatibilityLevel,
    Schema,
    SchemaRegistryClient,
    ServerConfig,
)
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext
from starlette.applications import Starlette

from connectors.edge.schemas import Schemas
from streams.core.event import to_json
from streams.kafka.admin import ensure_topics
from streams.kafka.clients import idempotent_producer
from streams.kafka.schema_ids import frames
from streams.kafka.schemas import learned
from streams.records.raw_batch import RawRecord
from streams.records.topics import SCHEMAS
from streams.settings import Settings
from streams.wire.avro import codec, frame, unframe
from streams.wire.contracts import SCHEMA_IDS, published, schema
from tests.contracts import OF_STAGES
from tests.integration.test_golden import requests
from tests.integration.test_line import Line, read
from tests.schema_registry import JVM, consumer_command
from tests.waiting import WITHIN_S

pytestmark = pytest.mark.kafka

COMPATIBILITY = ConfigCompatibilityLevel.FULL_TRANSITIVE
PARTITIONS = range(4)
SMALL_BYTES = 50_000
"""Larger requests have many similar events: they would take time and add no kind of record."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ADDED = {"name": "added_later", "type": ["null", "string"], "default": None, "doc": "A new field."}
ABSENT, PRESENT = b"\x00", b"\x02\x06new"
"""The added field as Avro: its default, and the text ``new``."""


class Found(NamedTuple):
    """A record as it was read from its topic."""

    partition: int
    offset: int
    value: bytes

    @property
    def datum(self) -> bytes:
        """The record without the added field."""
        return unframe(self.value).removesuffix(PRESENT) if self.is_new else unframe(self.value)

    @property
    def is_new(self) -> bool:
        """Whether it was written with the added field."""
        return self.value.endswith(PRESENT)


class Mixed(NamedTuple):
    """Topics in which records of a contract's present and next version alternate."""

    settings: Settings
    registry: str
    found: dict[str, list[Found]]

    def name(self, topic: str) -> str:
        return f"{self.settings.topic_prefix}{topic}"


def next_version(contract: str) -> dict[str, Any]:
    return new_fields(contract, [*schema(contract)["fields"], ADDED])


def new_fields(contract: str, fields: Sequence[Any]) -> dict[str, Any]:
    return schema(contract) | {"fields": fields}


@contextmanager
def edge(settings: Settings) -> Iterator[str]:
    """Serves the edge's schemas over HTTP."""
    schemas = Schemas(settings.topic_prefix, published(), partial(learned, settings), WITHIN_S)
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=schemas.routes()), log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def avro(made: dict[str, Any]) -> Schema:
    return Schema(json.dumps(made), "AVRO")


def registered(settings: Settings, client: SchemaRegistryClient) -> dict[str, int]:
    """Registers the next version of each contract in the registry; returns the ids.

    The registry is configured to refuse a schema that is not compatible with all earlier versions.
    """
    frames(settings)  # registers the present versions
    ids = {}
    for topic, contract in OF_STAGES.items():
        subject = f"{settings.topic_prefix}{topic}-value"
        client.set_config(subject, ServerConfig(compatibility=COMPATIBILITY))
        ids[contract] = client.register_schema(subject, avro(next_version(contract)))
        needed = new_fields(contract, [*schema(contract)["fields"], {"name": "x", "type": "string"}])
        with pytest.raises(SchemaRegistryError) as refused:
            client.register_schema(subject, avro(needed))
        assert refused.value.http_status_code == HTTPStatus.CONFLICT
    return ids


def put_on_the_topic(settings: Settings) -> dict[str, int]:
    """Publishes the next versions on the topic from which the edge reads newer workers' schemas."""
    ids = {contract: number + 100 for contract, number in SCHEMA_IDS.items()}
    producer = idempotent_producer(settings)
    for contract, number in ids.items():
        text = json.dumps(next_version(contract))
        producer.produce(settings.topic_prefix + SCHEMAS, text, str(number), partition=0)
    assert producer.flush(WITHIN_S) == 0
    return ids


@pytest.fixture(scope="module", params=["registry", "edge"])
def mixed(
    request: pytest.FixtureRequest, real_broker: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mixed]:
    """Topics with the output of both stages for every kind of every format, in both versions."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("mixed"),
        kafka_bootstrap=real_broker,
        topic_prefix=f"mixed-{request.param}.",
    )
    ensure_topics(settings)
    if request.param == "edge":
        with edge(settings) as url, SchemaRegistryClient({"url": url}) as client:
            ids = put_on_the_topic(settings)
            # now the client has cached the latest version
            assert client.get_schema(ids["round"]).schema_str
            yield Mixed(settings, url, written(settings, ids))
    else:
        url = request.getfixturevalue("schema_registry")
        settings = settings.model_copy(update={"schema_registry_url": url})
        with SchemaRegistryClient({"url": url}) as client:
            ids = registered(settings, client)
        yield Mixed(settings, url, written(settings, ids))


def written(settings: Settings, ids: Mapping[str, int]) -> dict[str, list[Found]]:
    """Runs the stages, and writes a copy of each of their records in the next version."""
    line = Line(settings, frames(settings))
    small = [request for request in requests() if len(request[1]) < SMALL_BYTES]
    for number, (headers, body) in enumerate(small):
        line.translate([RawRecord(number % 4, number // 4, headers, body)])
    for partition in PARTITIONS:
        with line.owned(partition) as owned:
            owned.apply(line.staged(partition))
    producer = idempotent_producer(settings)
    for topic, contract in OF_STAGES.items():
        name = f"{settings.topic_prefix}{topic}"
        for message in read(settings, topic, *PARTITIONS):
            value = frame(ids[contract]) + unframe(message.value() or b"") + PRESENT
            producer.produce(name, value, message.key(), partition=message.partition() or 0)
    assert producer.flush(WITHIN_S) == 0
    return {topic: _found(settings, topic) for topic in OF_STAGES}


def _found(settings: Settings, topic: str) -> list[Found]:
    return [
        Found(message.partition() or 0, message.offset() or 0, message.value() or b"")
        for message in read(settings, topic, *PARTITIONS)
    ]


def plain(value: Any) -> Any:
    """A value of the Python deserializer in the form that :func:`to_json` gives it."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return (value - EPOCH) // timedelta(microseconds=1)
    return value.hex() if isinstance(value, bytes) else value


@pytest.mark.parametrize("reader", ["the writer's", "present", "next", "latest"])
def test_pythons_avro_deserializer_reads_old_and_new_records_of_every_topic(
    reader: str, mixed: Mixed
) -> None:
    with SchemaRegistryClient({"url": mixed.registry}) as client:
        for topic, contract in OF_STAGES.items():
            into = {"present": schema(contract), "next": next_version(contract)}.get(reader)
            deserialize = AvroDeserializer(
                client, into and json.dumps(into), conf={"use.latest.version": reader == "latest"}
            )
            context = SerializationContext(mixed.name(topic), MessageField.VALUE)
            assert len(mixed.found[topic]) > 1
            for record in mixed.found[topic]:
                read_as = plain(deserialize(record.value, context))
                if reader in ("next", "latest") or (reader == "the writer's" and record.is_new):
                    assert read_as.pop("added_later") == ("new" if record.is_new else None)
                assert read_as == json.loads(to_json(contract, codec(contract).decode(record.datum)))


def test_javas_avro_deserializer_reads_old_and_new_records_of_every_topic(
    mixed: Mixed, jvm: Path, tmp_path: Path
) -> None:
    arguments = [mixed.settings.kafka_bootstrap, mixed.registry]
    for topic, contract in OF_STAGES.items():
        for version, into in ("present", schema(contract)), ("next", next_version(contract)):
            path = tmp_path / f"{contract}-{version}.avsc"
            path.write_text(json.dumps(into))
            arguments += [mixed.name(topic), str(path)]
    command = consumer_command(jvm, JVM / "ReadTopics.java", *arguments)
    result = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert result.returncode == 0, result.stderr
    found = {}
    for line in result.stdout.splitlines():
        name, reader, partition, offset, datum = line.split()
        found[name, reader, int(partition), int(offset)] = bytes.fromhex(datum)
    for topic, contract in OF_STAGES.items():
        decode = codec(contract).decode
        for record in mixed.found[topic]:
            at = record.partition, record.offset
            added = PRESENT if record.is_new else ABSENT
            as_present = found.pop((mixed.name(topic), f"{contract}-present.avsc", *at))
            as_next = found.pop((mixed.name(topic), f"{contract}-next.avsc", *at))
            assert decode(as_present) == decode(record.datum)
            assert as_next.endswith(added)
            assert decode(as_next.removesuffix(added)) == decode(record.datum)
    assert not found
