"""The line with a Kafka that requires TLS and a login, and a ClickHouse with TLS and a password."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import SecretStr

from connectors.clickhouse.query import query
from connectors.demo.day import day
from connectors.demo.feed import feed
from connectors.demo.run import demo_keys
from connectors.doctor.findings import Severity
from connectors.doctor.run import examine
from connectors.edge.tenants import Registry
from connectors.local import kafka as local
from connectors.local.health import is_well
from connectors.local.ports import Ports
from connectors.local.stack import Stack
from connectors.local.supervisor import Supervisor
from streams.errors import BrokerUnavailable, ConfigurationError
from streams.kafka.admin import wait_for_broker
from streams.kafka.clients import sasl_login
from streams.settings import Settings
from tests.clickhouse_server import PASSWORD, USER
from tests.integration.test_stack import complete
from tests.oracle import expect
from tests.waiting import WITHIN_S, wait_until

LOGIN = "line"
SECRET = "only the line knows"

needs_kafka = pytest.mark.skipif(
    bool(local.missing_tools()),
    reason=f"a real Kafka needs {' and '.join(local.missing_tools())}",
)


class Certificates:
    """An authority's certificate, and a server's certificate with its key, as files."""

    def __init__(self, home: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        self.authority = home / "authority.pem"
        self.server = home / "server.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.server.write_bytes(pem + b"".join(blob.bytes() for blob in issued.cert_chain_pems))


@contextmanager
def secured_kafka(
    home: Path, certificates: Certificates, settings: Settings, ports: Ports
) -> Iterator[None]:
    """Runs a Kafka whose port in ``settings`` uses SASL_SSL; the user is created at a second port."""
    (node,) = local.nodes_of("127.0.0.1:0", ports)
    open_port = node.port
    (command,) = local.prepare(local.fetch_jars(), home / "kafka", [node]).values()
    outside = f"SASL_SSL://{settings.kafka_bootstrap}"
    inside = f"PLAINTEXT://127.0.0.1:{open_port}"
    entries = {
        "listeners": f"{inside},{outside},CONTROLLER://127.0.0.1:{node.controller_port}",
        "advertised.listeners": f"{inside},{outside}",
        "listener.security.protocol.map": (
            "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL"
        ),
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": certificates.server,
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
    }
    with open(home / "kafka" / node.name / "server.properties", "a") as file:
        file.writelines(f"{name}={value}\n" for name, value in entries.items())
    with (
        open(home / "kafka.log", "wb") as out,
        subprocess.Popen(command, stdout=out, stderr=out) as process,
    ):
        try:
            bare = Settings(kafka_bootstrap=f"127.0.0.1:{open_port}")
            wait_for_broker(bare, WITHIN_S)
            admin = AdminClient({"bootstrap.servers": bare.kafka_bootstrap, "log_level": 0})
            info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
            user = UserScramCredentialUpsertion(LOGIN, info, SECRET.encode())
            admin.alter_user_scram_credentials([user])[LOGIN].result()
            yield
        finally:
            process.terminate()


@needs_kafka
@pytest.mark.kafka
def test_the_line_with_tls_and_logins_on_both_sides(tmp_path: Path) -> None:
    with Ports() as ports:
        _run_secured(tmp_path, Certificates(tmp_path), ports)


def _run_secured(tmp_path: Path, certificates: Certificates, ports: Ports) -> None:
    clickhouse_port = ports.hold("the test's ClickHouse")
    settings = Settings(
        data_dir=tmp_path,
        kafka_bootstrap=f"127.0.0.1:{ports.hold('Kafka')}",
        edge_port=ports.hold("the test's edge"),
        sql_port=ports.hold("the test's sink"),
        kafka_security_protocol="SASL_SSL",
        kafka_ca_file=certificates.authority,
        kafka_sasl_username=LOGIN,
        kafka_sasl_password=SecretStr(SECRET),
        clickhouse_dsn=f"https://{USER}:{quote(PASSWORD)}@127.0.0.1:{clickhouse_port}",
        clickhouse_ca_file=certificates.authority,
    )
    server = [sys.executable, "-m", "tests.clickhouse_server", str(tmp_path / "server")]
    server += ["--port", str(clickhouse_port), "--certificate", str(certificates.server)]
    supervisor = Supervisor(tmp_path / "logs")
    stack = Stack(settings, supervisor=supervisor)
    with secured_kafka(tmp_path, certificates, settings, ports):
        try:
            wait_for_broker(settings, WITHIN_S)
            supervisor.start("clickhouse", server, os.environ)
            stack.start("sink", "sink")
            stack.start("edge", "edge")
            stack.start("worker-0", "worker-process", "0")

            def ready() -> bool:
                supervisor.check()
                return is_well(settings, "edge") and is_well(settings, "sink")

            wait_until(ready, "edge and sink")
            posts = day(seed=3, events=900)
            asyncio.run(feed(stack.edge_url, demo_keys(Registry(settings.tenants_path)), posts))
            expected = expect(posts)

            def stored() -> bool:
                supervisor.check()
                return complete(settings, expected)

            wait_until(stored, f"the day in ClickHouse; logs in {tmp_path / 'logs'}")
            findings = {each.severity for each in examine(settings)}
            assert Severity.ERROR not in findings
            assert int(query(settings, "SELECT count() FROM rounds", "tsv").splitlines()[1]) > 100
        finally:
            supervisor.stop()
        wrong = settings.model_copy(update={"kafka_sasl_password": SecretStr("guessed")})
        with pytest.raises(BrokerUnavailable, match=r"[Aa]uthentication failed"):
            wait_for_broker(wrong, 8)
        stranger = settings.model_copy(update={"kafka_ca_file": None})
        with pytest.raises(BrokerUnavailable, match="certificate"):
            wait_for_broker(stranger, 8)
    for log in (tmp_path / "logs").iterdir():
        assert SECRET not in log.read_text(), log.name
        assert PASSWORD not in log.read_text(), log.name


def test_a_login_without_a_name_or_password_is_a_clear_error() -> None:
    settings = Settings(kafka_security_protocol="SASL_SSL", kafka_sasl_username="line")
    with pytest.raises(ConfigurationError, match="ROUNDHOUSE_KAFKA_SASL_PASSWORD"):
        sasl_login(settings)
    assert SECRET not in repr(Settings(kafka_sasl_password=SecretStr(SECRET)))
