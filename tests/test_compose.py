"""The compose file, as far as it can be judged without a Docker engine; and with one, started."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
import yaml

from connectors.cli.main import main
from streams.records.topics import MESSAGE_BYTES_MAX
from streams.settings import Settings
from streams.wire import avro_encoder
from streams.wire.contracts import published
from tests.docker import has_docker_engine

ROOT = Path(__file__).parent.parent


@pytest.fixture
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def test_services_start_after_what_they_need_is_healthy(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        assert "healthcheck" in service, name
        for needed, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "healthcheck" in services[needed]


def test_our_services_run_commands_and_settings_that_exist(compose: dict[str, Any]) -> None:
    known = {f"ROUNDHOUSE_{name.upper()}" for name in Settings.model_fields}
    for name in ("edge", "worker", "sink", "console"):
        service = compose["services"][name]
        command, *options = service["command"].split()
        found = main.commands[command]
        assert isinstance(found, click.Command)
        found.make_context(command, options)
        assert set(service["environment"]) <= known
        assert service["healthcheck"]["test"][1:] == ["roundhouse", "health", name]
        volumes = {volume.split(":")[0] for volume in service["volumes"]}
        assert volumes <= set(compose["volumes"])


def test_grafana_finds_the_dashboard_and_the_database(compose: dict[str, Any]) -> None:
    mounted = dict(
        volume.split(":")[:2]
        for volume in compose["services"]["grafana"]["volumes"]
        if volume[0] == "."
    )
    assert all((ROOT / source).is_dir() for source in mounted)
    home = ROOT / "connectors" / "grafana"
    provider = yaml.safe_load((home / "provisioning/dashboards/roundhouse.yaml").read_text())
    assert provider["providers"][0]["options"]["path"] in mounted.values()
    source = yaml.safe_load((home / "provisioning/datasources/clickhouse.yaml").read_text())
    assert source["datasources"][0]["jsonData"]["host"] in compose["services"]
    dashboard = json.loads((home / "dashboards/roundhouse.json").read_text())
    uids = {panel["datasource"]["uid"] for panel in dashboard["panels"]}
    assert uids == {source["datasources"][0]["uid"]}


def test_the_broker_takes_our_largest_message(compose: dict[str, Any]) -> None:
    kafka = compose["services"]["kafka"]["environment"]
    assert int(kafka["KAFKA_MESSAGE_MAX_BYTES"]) == MESSAGE_BYTES_MAX


def test_the_image_copies_what_the_package_needs() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = set(re.findall(r"^COPY (\w+) \w+$", text, re.MULTILINE))
    assert copied == {"avro", "streams", "connectors"}


@pytest.mark.docker
@pytest.mark.skipif(not has_docker_engine(), reason="no Docker engine answers")
def test_the_compose_stack_becomes_healthy() -> None:
    from testcontainers.compose import DockerCompose

    with DockerCompose(ROOT, build=True, wait=True) as stack:
        host, port = stack.get_service_host_and_port("edge", 8080)
        assert httpx.get(f"http://{host}:{port}/readyz").status_code == 200


@pytest.mark.parametrize("compiler", [True, False], ids=["compiled", "pure"])
def test_the_wheel_holds_contracts_migrations_and_runs_without_the_checkout(
    tmp_path: Path, compiler: bool
) -> None:
    if compiler and avro_encoder.compiled is None:
        pytest.skip("installed without a C compiler")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        ".",
    ]
    environment = os.environ if compiler else os.environ | {"CC": "false"}
    subprocess.run(build, cwd=ROOT, env=environment, check=True, capture_output=True)
    [wheel] = tmp_path.glob("roundhouse-*.whl")
    home = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(home)
    assert not (home / "tests").exists()
    assert wheel.name.endswith("-py3-none-any.whl") != compiler
    script = (
        "import streams.wire.avro, pathlib; from streams.wire.avro import codec\n"
        "from streams.wire.contracts import SCHEMA_IDS, published\n"
        "assert pathlib.Path(streams.wire.avro.__file__).is_relative_to(pathlib.Path.cwd())\n"
        "[codec(name) for name in SCHEMA_IDS]\n"
        f"assert len(published()) == {len(published())}\n"
        f"from streams.wire.avro_encoder import compiled; assert (compiled is not None) is {compiler}\n"
        "from connectors.clickhouse.migrate import HERE; print(len(list(HERE.glob('*.sql'))))\n"
        "from connectors.local.kafka import POM; assert POM.exists()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=home, check=True, capture_output=True, text=True
    )
    assert int(result.stdout) == len(list((ROOT / "connectors/clickhouse/migrations").glob("*.sql")))
