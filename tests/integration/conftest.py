"""Brokers and a ClickHouse for the tests: the in-memory cluster and, if a JDK is installed, a Kafka."""

import gc
import itertools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from connectors.clickhouse.client import connect
from connectors.clickhouse.migrate import migrate
from connectors.local import kafka as local
from connectors.local import memory_broker as memory
from connectors.local.ports import Ports
from streams.kafka.admin import ensure_topics, wait_for_broker
from streams.settings import Settings
from tests.schema_registry import fetch_jvm, running_registry
from tests.waiting import WITHIN_S

_numbers = itertools.count(1)


def _need_java_and_maven(what: str) -> None:
    missing = local.missing_tools()
    if missing:
        pytest.skip(f"{what} needs {' and '.join(missing)}, not found on the PATH")


@pytest.fixture(scope="session")
def memory_broker() -> Iterator[str]:
    """The address of librdkafka's in-memory cluster."""
    with memory.cluster() as bootstrap:
        yield bootstrap
        gc.collect()  # clients that are alive would complain about the end of their broker


@pytest.fixture(scope="session")
def real_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Kafka node that lives as long as the session."""
    _need_java_and_maven("a real Kafka")
    home = tmp_path_factory.mktemp("kafka")
    with Ports() as ports, open(home / "out.log", "wb") as out:
        nodes = local.nodes_of("127.0.0.1:0", ports)
        (command,) = local.prepare(local.fetch_jars(), home, nodes).values()
        with subprocess.Popen(command, stdout=out, stderr=out) as process:
            try:
                bootstrap = local.bootstrap_of(nodes)
                wait_for_broker(Settings(kafka_bootstrap=bootstrap), WITHIN_S)
                yield bootstrap
            finally:
                gc.collect()  # clients that are alive would complain about the end of their broker
                process.terminate()
                process.wait(WITHIN_S)


@pytest.fixture(scope="session")
def jvm() -> Path:
    """The directory of the Java programs that the tests run besides Kafka."""
    _need_java_and_maven("a schema registry")
    return fetch_jvm()


@pytest.fixture(scope="session")
def schema_registry(jvm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real schema registry that lives as long as the session."""
    with running_registry(jvm, tmp_path_factory.mktemp("registry") / "out.log") as url:
        yield url


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.kafka)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings of a line on each kind of broker; it shares no topics or databases with other lines."""
    made: Callable[[str], Settings] = request.getfixturevalue("line_settings")
    return made(request.getfixturevalue(f"{request.param}_broker"))


@pytest.fixture
def real_settings(line_settings: Callable[[str], Settings], real_broker: str) -> Settings:
    """Settings of a line on a real Kafka; it shares no topics or databases with other lines."""
    return line_settings(real_broker)


@pytest.fixture
def line_settings(tmp_path: Path) -> Callable[..., Settings]:
    """Makes settings for a broker and creates their topics."""

    def make(bootstrap: str, **more: Any) -> Settings:
        number = next(_numbers)
        made = Settings(
            data_dir=tmp_path,
            kafka_bootstrap=bootstrap,
            topic_prefix=f"t{number}.",
            clickhouse_database=f"t{number}",
            sink_linger_ms=20,
            session_timeout_s=6,
            **more,
        )
        ensure_topics(made)
        return made

    return make


@pytest.fixture(scope="session")
def chdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """chDB, in-process: one directory for the whole session, a database for each test."""
    client = connect(Settings(data_dir=tmp_path_factory.mktemp("clickhouse")))
    yield client
    client.close()


@pytest.fixture
def clickhouse(chdb: Client, settings: Settings) -> Client:
    """A migrated database for one test."""
    migrate(chdb, settings.clickhouse_database)
    return chdb
