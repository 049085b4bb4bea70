"""Opening chDB, one process at a time, and a server that is not there."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.clickhouse.query import query
from streams.errors import ClickHouseUnavailable
from streams.settings import Settings

HOLDS = """
import sys
from connectors.clickhouse.client import connect
from streams.settings import Settings
client = connect(Settings.load())
client.command("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_told_that_the_first_holds_the_directory(tmp_path: Path) -> None:
    environment = os.environ | {"ROUNDHOUSE_DATA_DIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        second = subprocess.run(
            [sys.executable, "-P", "-m", "connectors.cli", "sql", "SELECT 1"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        holder.communicate("")
    assert "another process holds it" in second.stderr
    assert second.returncode == 78


def test_a_server_that_refuses_connections_is_away(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as server:
        port = server.getsockname()[1]
    settings = Settings(data_dir=tmp_path, clickhouse_dsn=f"http://u:p@127.0.0.1:{port}")
    with pytest.raises(ClickHouseUnavailable):
        query(settings, "SELECT 1")
