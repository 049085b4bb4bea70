"""The AsyncAPI document is current, valid for AsyncAPI's own parser, and follows the settings."""

import fcntl
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from connectors.cli.asyncapi import RAW_HEADERS, as_yaml, document
from streams.core.event import Batch
from streams.records.raw_batch import headers_of, join_requests
from streams.records.topics import TOPICS
from streams.settings import Settings
from streams.wire.contracts import schema
from tests.waiting import WITHIN_S

ROOT = Path(__file__).parents[3]
NODE = ROOT / "tests" / "node"
_ERROR = 0  # severity of a diagnostic


def with_login(**more: Any) -> Settings:
    return Settings(
        kafka_bootstrap="one:9092,two:9092",
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_username="team",
        kafka_sasl_password=SecretStr("secret-word"),
        schema_registry_url="http://registry:8081",
        topic_prefix="live.",
        window_days=10,
        **more,
    )


@pytest.fixture(scope="module")
def parser() -> Path:
    """The directory in which npm has installed AsyncAPI's parser."""
    missing = [tool for tool in ("node", "npm") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"AsyncAPI's parser needs {' and '.join(missing)}, not found on the PATH")
    home = ROOT / ".tools" / "node"
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = (NODE / "package.json").read_text()
        installed = home / "installed.json"
        if not installed.exists() or installed.read_text() != wanted:
            (home / "package.json").write_text(wanted)
            command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
            subprocess.run(command, cwd=home, check=True)
            installed.write_text(wanted)
    return home


@pytest.mark.parametrize("settings", [Settings(), with_login()], ids=["local", "with a login"])
def test_asyncapis_own_parser_finds_no_error(settings: Settings, parser: Path) -> None:
    command = ["node", str(NODE / "validate.cjs")]
    result = subprocess.run(
        command, cwd=parser, input=as_yaml(settings), capture_output=True, text=True,
        timeout=WITHIN_S, check=True,
    )  # fmt: skip
    found = json.loads(result.stdout)
    assert [d for d in found["diagnostics"] if d["severity"] == _ERROR] == []
    assert found["channels"] == [settings.topic_prefix + topic.name for topic in TOPICS]


def test_asyncapis_own_parser_finds_what_is_wrong(parser: Path) -> None:
    wrong = document(Settings())
    wrong["components"]["messages"]["round"]["payload"]["schema"] = {"type": "nothing"}
    wrong["channels"]["rounds"]["bindings"]["kafka"]["partitions"] = 0
    result = subprocess.run(
        ["node", str(NODE / "validate.cjs")], cwd=parser, input=json.dumps(wrong),
        capture_output=True, text=True, timeout=WITHIN_S, check=True,
    )  # fmt: skip
    found = json.loads(result.stdout)["diagnostics"]
    paths = {"/".join(d["path"][:3]) for d in found if d["severity"] == _ERROR}
    assert {"components/messages/round", "channels/rounds/bindings"} <= paths


def test_the_document_in_docs_is_current() -> None:
    committed = (ROOT / "docs" / "asyncapi.yaml").read_text()
    assert committed == as_yaml(Settings()), "run `make asyncapi`"


def test_the_document_says_of_a_topic_what_the_broker_is_told() -> None:
    found = yaml.safe_load(as_yaml(with_login()))
    for topic in TOPICS:
        channel = found["channels"][topic.name]
        assert channel["address"] == f"live.{topic.name}"
        told = channel["bindings"]["kafka"]["topicConfiguration"]
        due = topic.config(10, 1)
        assert told.pop("cleanup.policy") == [due.pop("cleanup.policy")]
        assert {name: str(value) for name, value in told.items()} == due
        [name] = channel["messages"]
        message = found["components"]["messages"][name]
        assert message["bindings"]["kafka"].get("key", {}).get("description") == topic.key
        if topic.contract is not None:
            assert message["payload"]["schema"] == schema(topic.contract)


def test_the_headers_of_raw_batches_are_those_that_the_edge_writes() -> None:
    batch = Batch("acme", "gameball", "b", 1, True, False, "key", traceparent="00-1-1-01")
    assert None not in batch  # or a header would be left out
    one = headers_of(batch, invalid=0), b"[]"
    headers, _ = join_requests([one, one])
    assert {name for name, _ in headers} == set(RAW_HEADERS)
    message = document(Settings())["components"]["messages"]["raw-batches"]
    without = headers_of(batch._replace(idempotency_key=None, traceparent=None), invalid=0)
    assert message["headers"]["required"] == [name for name, _ in without]


@pytest.mark.parametrize(
    ("settings", "protocol", "types"),
    [
        (Settings(), "kafka", []),
        (Settings(kafka_security_protocol="SSL"), "kafka-secure", []),
        (
            Settings(kafka_security_protocol="SSL", kafka_certificate_file=Path("a.pem")),
            "kafka-secure",
            ["X509"],
        ),
        (Settings(kafka_security_protocol="SASL_PLAINTEXT"), "kafka", ["scramSha512"]),
        (with_login(kafka_sasl_mechanism="SCRAM-SHA-256"), "kafka-secure", ["scramSha256"]),
        (with_login(kafka_sasl_mechanism="PLAIN"), "kafka-secure", ["plain"]),
    ],
)
def test_a_server_names_the_security_that_is_set_and_no_secret(
    settings: Settings, protocol: str, types: list[str]
) -> None:
    found = document(settings)
    schemes = found["components"].get("securitySchemes", {})
    assert [scheme["type"] for scheme in schemes.values()] == types
    hosts = [server["host"] for server in found["servers"].values()]
    assert ",".join(hosts) == settings.kafka_bootstrap
    for server in found["servers"].values():
        assert server["protocol"] == protocol
        refs = [security["$ref"] for security in server.get("security", [])]
        assert refs == [f"#/components/securitySchemes/{name}" for name in schemes]
    assert "secret-word" not in as_yaml(settings)
