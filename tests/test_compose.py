"""The compose file is checked without a Docker engine, and started where there is one."""

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
from connectors.edge.schemas import COMPATIBILITY
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
            of_needed = services[needed].get("profiles")
            assert of_needed is None or of_needed == service.get("profiles")


def test_the_line_runs_without_what_is_there_to_look_at_it(compose: dict[str, Any]) -> None:
    profiles = {name: service.get("profiles") for name, service in compose["services"].items()}
    assert {name for name, found in profiles.items() if found == ["monitoring"]} == {
        "prometheus",
        "grafana",
    }
    assert {name for name, found in profiles.items() if found == ["ui"]} == {"console", "kafka-ui"}
    assert {"edge", "worker", "sink"} <= {name for name, found in profiles.items() if found is None}


def test_our_services_run_commands_and_settings_that_exist(compose: dict[str, Any]) -> None:
    known = {f"ROUNDHOUSE_{name.upper()}" for name in Settings.model_fields}
    for name in ("edge", "worker", "sink", "webhooks", "standings", "console"):
        service = compose["services"][name]
        command, *options = service["command"].split()
        found = main.commands[command]
        if isinstance(found, click.Group):
            found = found.commands[options.pop(0)]
        volumes = dict(volume.split(":")[1::-1] for volume in service["volumes"])  # by path
        here = [str(ROOT / volumes[each]) if each in volumes else each for each in options]
        found.make_context(command, here)
        assert set(service["environment"]) <= known
        assert service["healthcheck"]["test"][1:] == ["roundhouse", "health", name]
        named = {volume for volume in volumes.values() if volume[0] != "."}
        assert named <= set(compose["volumes"])


def test_prometheus_finds_the_processes_and_the_rules(compose: dict[str, Any]) -> None:
    service = compose["services"]["prometheus"]
    [folder] = [volume.split(":")[0] for volume in service["volumes"] if volume[0] == "."]
    home = ROOT / folder
    config = yaml.safe_load((home / "prometheus.yml").read_text())
    assert all((home / name).exists() for name in config["rule_files"])
    found = set()
    for job in config["scrape_configs"]:
        [discovery] = job["dns_sd_configs"]
        found |= {(name, discovery["port"]) for name in discovery["names"]}
    expected = set()
    for name in ("edge", "worker", "sink", "webhooks", "standings"):
        environment = compose["services"][name]["environment"]
        assert environment["ROUNDHOUSE_STATUS_HOST"] == "0.0.0.0"
        first = int(environment["ROUNDHOUSE_STATUS_PORT"])
        command = compose["services"][name]["command"].split()
        processes = int(command[-1]) if "--processes" in command else 1
        supervisors = 1 if name == "worker" else 0  # its port follows those of its processes
        expected |= {(name, first + number) for number in range(processes + supervisors)}
    assert found == expected


def test_grafana_finds_the_dashboards_and_the_databases(compose: dict[str, Any]) -> None:
    mounted = dict(
        volume.split(":")[:2]
        for volume in compose["services"]["grafana"]["volumes"]
        if volume[0] == "."
    )
    assert all((ROOT / source).is_dir() for source in mounted)
    home = ROOT / "connectors" / "grafana"
    provider = yaml.safe_load((home / "provisioning/dashboards/roundhouse.yaml").read_text())
    assert provider["providers"][0]["options"]["path"] in mounted.values()
    sources = {}
    for name in ("clickhouse", "prometheus"):
        loaded = yaml.safe_load((home / f"provisioning/datasources/{name}.yaml").read_text())
        [sources[name]] = loaded["datasources"]
    assert sources["clickhouse"]["jsonData"]["host"] in compose["services"]
    assert httpx.URL(sources["prometheus"]["url"]).host in compose["services"]
    for dashboard, source in (("roundhouse", "clickhouse"), ("on-call", "prometheus")):
        panels = json.loads((home / f"dashboards/{dashboard}.json").read_text())["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        uids = {panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"}
        assert uids == {sources[source]["uid"]}


def test_the_registry_holds_new_versions_to_what_is_promised(compose: dict[str, Any]) -> None:
    registry = compose["services"]["schema-registry"]["environment"]
    assert registry["SCHEMA_REGISTRY_SCHEMA_COMPATIBILITY_LEVEL"].upper() == COMPATIBILITY


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
        f"from streams.stages import process, translate; assert process.COMPILED is {compiler}\n"
        f"assert translate.COMPILED is {compiler}\n"
        "from connectors.clickhouse.migrate import HERE; print(len(list(HERE.glob('*.sql'))))\n"
        "from connectors.local.kafka import POM; assert POM.exists()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=home, check=True, capture_output=True, text=True
    )
    assert int(result.stdout) == len(list((ROOT / "connectors/clickhouse/migrations").glob("*.sql")))
