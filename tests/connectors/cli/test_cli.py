"""The command line: commands for tenants, settings, and messages for mistakes."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from connectors.cli.main import main
from connectors.clickhouse.migrate import HERE
from tests.waiting import WITHIN_S

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("ROUNDHOUSE_DATA_DIR", str(tmp_path))

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments)

    return invoke


def test_a_tenants_life(run: Run) -> None:
    key = run("tenant", "add", "acme", "--channel-merging").output.strip()
    second = run("tenant", "rotate", "acme").output.strip()
    assert key.startswith("rh_")
    listed = run("tenant", "list").output
    assert "acme  channel-merging=on  campaigns=on" in listed
    assert f"key {key.split('_')[1]}" in listed
    assert key not in listed
    assert run("tenant", "revoke", "acme", key.split("_")[1]).exit_code == 0
    assert key.split("_")[1] not in run("tenant", "list").output
    assert second.split("_")[1] in run("tenant", "list").output
    run("tenant", "set", "acme", "--no-campaigns", "--no-channel-merging")
    assert "acme  channel-merging=off  campaigns=off" in run("tenant", "list").output
    run("tenant", "set", "acme", "--items-per-s", "2500", "--bytes-per-s", "1e6")
    run("tenant", "set", "acme", "--bytes-per-s", "0")
    assert "campaigns=off  items_per_s=2500\n" in run("tenant", "list").output
    third = run("tenant", "rotate", "acme", "--scope", "read", "--expires-at", "2027-01-31").output
    listed = run("tenant", "list").output
    assert re.search(
        rf"key {third.split('_')[1]}  since .*  until 2027-01-31 00:00  may read\n", listed
    )


def test_a_test_tenant_stands_in_the_list_under_its_own_name(run: Run) -> None:
    run("tenant", "add", "acme")
    key = run("tenant", "add", "acme", "--test").output.strip()
    listed = run("tenant", "list").output
    assert "acme  channel-merging=off  campaigns=on\n" in listed
    assert f"acme.test  channel-merging=off  campaigns=on\n  key {key.split('_')[1]}  " in listed
    assert run("tenant", "set", "acme.test", "--channel-merging").exit_code == 0
    assert "acme  channel-merging=off" in run("tenant", "list").output


def test_mistakes_get_one_clear_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no tenant acme" in run("tenant", "rotate", "acme").output
    assert "say what to set" in run("tenant", "set", "acme").output
    monkeypatch.setenv("ROUNDHOUSE_EDGE_PORT", "http")
    result = run("tenant", "list")
    assert result.exit_code == 78
    assert "ROUNDHOUSE_EDGE_PORT: Input should be a valid integer" in result.output


def test_no_broker_says_how_to_get_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setattr("streams.kafka.admin.BROKER_WITHIN_S", 0.1)
    result = run("topics")
    assert "no Kafka broker at 127.0.0.1:1" in result.output
    assert "roundhouse up" in result.output


@pytest.mark.parametrize("role", ["edge", "worker"])
def test_a_wrong_setting_ends_processes_for_good(tmp_path: Path, role: str) -> None:
    """Only the processes that connect to Kafka find that the login is missing."""
    wrong = {
        "ROUNDHOUSE_DATA_DIR": str(tmp_path),
        "ROUNDHOUSE_EDGE_PORT": "0",
        "ROUNDHOUSE_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    }
    result = subprocess.run(
        [sys.executable, "-m", "connectors.cli", role, "--processes", "2"],
        env=os.environ | wrong,
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_S,
    )
    assert result.returncode == 78
    assert "set ROUNDHOUSE_KAFKA_SASL_USERNAME and" in result.stderr


def test_health_of_what_never_ran(run: Run) -> None:
    result = run("health", "worker")
    assert result.exit_code == 1
    assert "no worker has run" in result.output


def test_sql_without_a_stack_opens_chdb_itself(tmp_path: Path) -> None:
    def call(*arguments: str) -> tuple[int, str]:
        """Runs the command in a process of its own: chDB allows one directory per process."""
        result = subprocess.run(
            [sys.executable, "-m", "connectors.cli", *arguments],
            env=os.environ | {"ROUNDHOUSE_DATA_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        return result.returncode, result.stdout or result.stderr

    names = "".join(f"{path.name}\n" for path in sorted(HERE.glob("*.sql")))
    assert call("migrate") == (0, names)
    assert call("migrate") == (0, "nothing to do\n")
    assert call("sql", "SELECT count() AS n FROM rounds", "--format", "csv") == (0, '"n"\n0\n')
    status, refused = call("sql", "DROP TABLE rounds_rows")
    assert (status, "ask one question" in refused) == (1, True)
    status, wrong = call("sql", "SELECT nothing FROM nowhere")
    assert (status, "nowhere" in wrong) == (1, True)
