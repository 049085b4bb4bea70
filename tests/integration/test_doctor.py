"""``roundhouse doctor`` on sound and on broken brokers, registries and ClickHouses."""

import hashlib
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclOperation,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
    TopicDescription,
)

from connectors.cli.main import main
from connectors.clickhouse.migrate import migrate
from connectors.clickhouse.questions import ask
from connectors.doctor.clickhouse import (
    check_clickhouse,
    clock_finding,
    schema_finding,
    version_finding,
)
from connectors.doctor.findings import Finding, Severity
from connectors.doctor.kafka import (
    NEEDED_APIS,
    RIGHTS,
    broker_findings,
    broker_version_finding,
    check_kafka,
    check_registry,
    rights_findings,
    topic_findings,
)
from connectors.doctor.run import ROLES
from streams.records.topics import RAW, TOPICS, Topic
from streams.settings import Settings

TOPIC = {topic.name: topic for topic in TOPICS}


def faults(findings: Iterator[Finding]) -> list[tuple[str, str]]:
    """The checks that found a fault, each with the text of its finding."""
    return [(each.check, each.found) for each in findings if each.severity is not Severity.OK]


def alter(settings: Settings, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(
        ResourceType.TOPIC, settings.topic_prefix + topic, incremental_configs=[entry]
    )
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    admin.incremental_alter_configs([resource])[resource].result()


@pytest.mark.kafka
def test_topics_are_held_to_what_the_line_needs(real_settings: Settings) -> None:
    assert faults(check_kafka(real_settings, ROLES)) == []

    alter(real_settings, "staged", "retention.ms", "-1")  # unlimited retention is enough
    alter(real_settings, "state.window", "retention.ms", "86400000")
    alter(real_settings, "rounds", "cleanup.policy", "delete")
    alter(real_settings, RAW, "max.message.bytes", "1000")
    prefix = real_settings.topic_prefix
    assert sorted(faults(check_kafka(real_settings, ROLES))) == [
        ("kafka.topics", f"{prefix}{RAW}: max.message.bytes is 1000, the line needs 16777216"),
        ("kafka.topics", f"{prefix}rounds: cleanup.policy is delete, the line needs compact"),
        ("kafka.topics", f"{prefix}state.window: retention.ms is 86400000, the line needs 6048000000"),
    ]


@pytest.mark.kafka
def test_missing_topics_partitions_and_brokers_are_errors(real_settings: Settings) -> None:
    elsewhere = real_settings.model_copy(update={"topic_prefix": "nowhere."})
    [(check, found)] = faults(check_kafka(elsewhere, ROLES))
    assert check == "kafka.topics"
    assert found.startswith("missing: nowhere.awards, nowhere.canonical.custom-events, ")

    more = real_settings.model_copy(update={"partitions": 8, "replication_factor": 3})
    found_of = [found for _, found in faults(check_kafka(more, ROLES))]
    assert "1 brokers, ROUNDHOUSE_REPLICATION_FACTOR is 3" in found_of
    name = f"{real_settings.topic_prefix}{RAW}"
    assert f"{name} has 4 partitions, ROUNDHOUSE_PARTITIONS is 8" in found_of
    assert f"{name} has 1 replicas, ROUNDHOUSE_REPLICATION_FACTOR is 3" in found_of


def test_a_broker_that_is_too_old_is_an_error() -> None:
    apis = dict(NEEDED_APIS.values())
    assert broker_version_finding(1, apis).severity is Severity.OK
    finding = broker_version_finding(1, apis | {11: 4})
    assert (finding.severity, finding.found) == (
        Severity.ERROR,
        "broker 1 is too old: its JoinGroup API is missing or of an old version",
    )


@pytest.mark.kafka
def test_a_raw_record_from_the_future_is_a_warning(real_settings: Settings) -> None:
    producer = Producer({"bootstrap.servers": real_settings.kafka_bootstrap})
    later_ms = int((time.time() + 600) * 1000)
    producer.produce(f"{real_settings.topic_prefix}{RAW}", b"", timestamp=later_ms)
    producer.flush()
    [(check, found)] = faults(check_kafka(real_settings, ROLES))
    assert check == "kafka.clocks"
    assert "s in the future" in found


def test_no_broker_is_an_error_that_ends_the_checks_of_kafka(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.doctor.kafka.ANSWER_WITHIN_S", 0.1)
    settings = Settings(data_dir=tmp_path, kafka_bootstrap="127.0.0.1:1")
    [(check, found)] = faults(check_kafka(settings, ROLES))
    assert check == "kafka"
    assert "no Kafka broker at 127.0.0.1:1" in found


def test_broker_settings_that_the_line_cannot_live_with_are_errors() -> None:
    settings = Settings(session_timeout_s=10)
    bounds = {"group.min.session.timeout.ms": "6000", "group.max.session.timeout.ms": "1800000"}
    assert list(broker_findings(settings, bounds)) == []
    short = bounds | {"group.max.session.timeout.ms": "9000", "offsets.retention.minutes": "60"}
    assert [found for _, found in faults(broker_findings(settings, short))] == [
        "brokers allow session time-outs from 6000 to 9000 ms, ROUNDHOUSE_SESSION_TIMEOUT_S is "
        "10000 ms",
        "brokers forget a group's offsets after 60 minutes",
    ]


class Part:
    """A partition as a broker describes it."""

    def __init__(self, number: int, replicas: int, in_sync: int) -> None:
        self.id = number
        self.replicas = list(range(replicas))
        self.isr = list(range(in_sync))


def described(topic: Topic, parts: Any, *allowed: AclOperation) -> TopicDescription:
    made = TopicDescription.__new__(TopicDescription)
    made.name, made.partitions, made.authorized_operations = topic.name, parts, list(allowed)
    return made


def test_replicas_that_are_not_in_sync_are_a_warning() -> None:
    settings = Settings(partitions=2, replication_factor=3)
    topic = TOPIC[RAW]
    config = topic.config(settings.window_days, 3)
    parts = [Part(0, 3, 3), Part(1, 3, 2)]
    [finding] = topic_findings(settings, topic, described(topic, parts), config)
    assert (finding.severity, finding.found) == (
        Severity.WARNING,
        f"{RAW}: replicas of partitions [1] are not in sync",
    )
    alone = dict(config) | {"min.insync.replicas": "1"}
    [finding] = topic_findings(settings, topic, described(topic, [Part(0, 3, 3), Part(1, 3, 3)]), alone)
    assert finding.found == f"{RAW}: min.insync.replicas is 1, the line needs 2"


@pytest.mark.parametrize("role", ROLES)
def test_each_right_that_a_service_lacks_is_an_error(role: str) -> None:
    for name, needed in RIGHTS[role].items():
        topic = TOPIC[name]
        every = described(topic, [], AclOperation.DESCRIBE, *needed)
        assert list(rights_findings(name, topic, every, {role})) == []
        for lacking in needed:
            some = described(topic, [], AclOperation.DESCRIBE, *(needed - {lacking}))
            [finding] = rights_findings(name, topic, some, {role})
            assert finding.severity is Severity.ERROR
            assert f"lacks {lacking.name.capitalize()} on {name}" in finding.found
            assert f"--operation {lacking.name.capitalize()} --topic {name}" in finding.mend


def test_a_registry_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    class Subjects(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"[]"
            self.send_response(200 if self.path == "/subjects" else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Logs nothing."""

    with HTTPServer(("127.0.0.1", 0), Subjects) as server:
        Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        settings = Settings(data_dir=tmp_path, schema_registry_url=url)
        assert faults(check_registry(settings)) == []
    [(check, found)] = faults(check_registry(settings))
    assert check == "registry"
    assert url in found
    assert faults(check_registry(settings.model_copy(update={"schema_registry_url": None}))) == []


# ClickHouse ----------------------------------------------------------------------------------


def test_an_older_clickhouse_and_a_clock_that_differs_are_warnings() -> None:
    assert version_finding("25.8.2.29").severity is Severity.OK
    assert version_finding("25.3.1.1").severity is Severity.WARNING
    assert clock_finding(0.5).severity is Severity.OK
    assert "differs from this machine's by -3.0 s" in clock_finding(-3.0).found
    assert clock_finding(-3.0).severity is Severity.WARNING


def test_migrations_that_are_missing_changed_or_newer_are_found(tmp_path: Path) -> None:
    for name in ("0001_a.sql", "0002_b.sql"):
        (tmp_path / name).write_text(name)
    sound = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.glob("*.sql")
    }

    def found(applied: dict[str, str]) -> tuple[Severity, str]:
        finding = schema_finding(applied, tmp_path)
        return finding.severity, finding.found

    assert found(sound) == (Severity.OK, "2 migrations applied")
    assert found({"0001_a.sql": sound["0001_a.sql"]}) == (
        Severity.ERROR,
        "migrations are not applied: 0002_b.sql",
    )
    assert found(sound | {"0002_b.sql": "other"})[0] is Severity.ERROR
    assert found(sound | {"0003_c.sql": "newer"}) == (
        Severity.WARNING,
        "a newer version has migrated ClickHouse: 0003_c.sql",
    )


def test_a_clickhouse_without_its_schema_or_without_an_answer_is_an_error(chdb: Client) -> None:
    def answer(sql: str) -> str:
        return ask(chdb, sql, "json").decode()

    migrate(chdb, "doctor")
    assert faults(check_clickhouse("doctor", answer)) == []

    [(check, found)] = faults(check_clickhouse("never_migrated", answer))
    assert check == "clickhouse.schema"
    assert "database never_migrated cannot be read" in found

    def away(sql: str) -> str:
        raise ConnectionRefusedError("refused")

    assert faults(check_clickhouse("doctor", away)) == [
        ("clickhouse", "ClickHouse does not answer: refused")
    ]


# The command ---------------------------------------------------------------------------------


def test_the_command_exits_with_1_if_there_is_an_error_and_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.doctor.kafka.ANSWER_WITHIN_S", 0.1)
    monkeypatch.setenv("ROUNDHOUSE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ROUNDHOUSE_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    shown = CliRunner().invoke(main, ["doctor", "--role", "edge", "--json"])
    assert shown.exit_code == 1
    found = {each["check"]: each for each in json.loads(shown.stdout)}
    assert found["kafka"]["severity"] == found["tenants"]["severity"] == "error"
    assert "roundhouse tenant add NAME" in found["tenants"]["mend"]
    assert "clickhouse" not in found  # the doctor checks ClickHouse on the sink's machine


@pytest.mark.kafka
def test_the_command_exits_with_0_on_a_sound_worker(
    real_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDHOUSE_DATA_DIR", str(real_settings.data_dir))
    monkeypatch.setenv("ROUNDHOUSE_KAFKA_BOOTSTRAP", real_settings.kafka_bootstrap)
    monkeypatch.setenv("ROUNDHOUSE_TOPIC_PREFIX", real_settings.topic_prefix)
    shown = CliRunner().invoke(main, ["doctor", "--role", "worker"])
    assert (shown.exit_code, "ERROR" in shown.stdout) == (0, False), shown.stdout
    assert f"OK       kafka.topics: {len(TOPICS)} topics with 4 partitions each" in shown.stdout
