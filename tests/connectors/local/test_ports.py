"""Ports that are held for processes which start later."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.local.ports import Ports
from streams.errors import PortInUse

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ports are held on Linux alone")


def listener(port: int, *, reuse: bool) -> socket.socket:
    found = socket.socket()
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        found.bind(("127.0.0.1", port))
        found.listen()
    except OSError:
        found.close()
        raise
    return found


@pytest.fixture
def busy() -> Iterator[int]:
    """A port on which this process listens."""
    with listener(0, reuse=True) as found:
        yield found.getsockname()[1]


def test_a_server_can_listen_on_a_held_port_again_and_again() -> None:
    with Ports() as ports:
        port = ports.hold("TEST_PORT")
        for _ in range(2):
            with (
                listener(port, reuse=True) as server,
                socket.create_connection(("127.0.0.1", port)) as client,
            ):
                server.accept()[0].close()
                assert client.recv(1) == b""


def test_a_held_port_is_taken_for_all_others_until_it_is_given_back() -> None:
    with Ports() as ports:
        port = ports.hold("TEST_PORT")
        with pytest.raises(OSError, match="in use"):
            listener(port, reuse=False)
    listener(port, reuse=False).close()


def test_a_port_on_which_a_process_listens_is_refused_with_its_holder_and_the_remedy(busy: int) -> None:
    with Ports() as ports, pytest.raises(PortInUse) as refused:
        ports.hold("ROUNDHOUSE_EDGE_PORT", port=busy)
    assert f"port {busy} is in use by process {os.getpid()} (" in str(refused.value)
    assert "set ROUNDHOUSE_EDGE_PORT to another port" in str(refused.value)


COMMANDS = {
    "up": ("EDGE", "up", "--memory"),
    "edge": ("EDGE", "edge"),
    "sink": ("SQL", "sink"),
    "console": ("CONSOLE", "console"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_whose_port_is_busy_ends_with_one_line(name: str, busy: int, tmp_path: Path) -> None:
    setting, *command = COMMANDS[name]
    result = subprocess.run(
        [sys.executable, "-m", "connectors.cli", *command],
        env=os.environ
        | {"ROUNDHOUSE_DATA_DIR": str(tmp_path), f"ROUNDHOUSE_{setting}_PORT": str(busy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 78
    [line] = result.stderr.splitlines()
    assert line.startswith(f"Error: port {busy} is in use by process {os.getpid()} (")
