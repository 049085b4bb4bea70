"""The whole line on one machine: broker, edge, workers and sink as supervised processes."""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import SecretStr

from connectors.local import kafka as local
from connectors.local import memory_broker as memory
from connectors.local.health import is_well
from connectors.local.ports import Ports
from connectors.local.supervisor import MORE_TO_STOP_S, Supervisor
from streams.errors import BrokerUnavailable, ConfigurationError, NotRunning
from streams.kafka.admin import wait_for_broker
from streams.settings import Settings

READY_WITHIN_S = 90.0


class Stack:
    """A stack that starts on entry and stops on exit. ``settings`` are those of its processes, ports
    included.

    A port that is 0 in the settings becomes any free port on entry, and stays the same until the
    exit. With ``in_memory`` nothing is kept: ``data_dir`` should be a temporary directory. Tests
    pass ``program``, the command line before the names of Roundhouse's own commands, and a
    ``supervisor``.
    """

    def __init__(
        self,
        settings: Settings,
        in_memory: bool = False,
        processes: int = 1,
        *,
        program: Sequence[str] = (sys.executable, "-P", "-m", "connectors.cli"),
        supervisor: Supervisor | None = None,
    ) -> None:
        if in_memory:
            settings = settings.model_copy(update={"partitions": memory.PARTITIONS})
        self.settings = settings
        self.in_memory = in_memory
        self.processes = processes
        self.program = program
        self.supervisor = supervisor or Supervisor(
            settings.data_dir / "logs", stop_within_s=settings.stop_within_s + MORE_TO_STOP_S
        )
        self.brokers: list[str] = []
        self._ports = Ports()

    def __enter__(self) -> Self:
        self.settings.data_dir.mkdir(parents=True, exist_ok=True)
        try:
            self._take_ports()
            self._start_broker()
            wait_for_broker(self.settings, READY_WITHIN_S)
            for name in ("sink", "edge"):
                self.start(name, name)
            for index in range(self.processes):
                self.start(f"worker-{index}", "worker-process", str(index))
            self._wait_until_ready()
        except BaseException:
            self.supervisor.stop()
            self._ports.close()
            raise
        self._write_state()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._state_path.unlink(missing_ok=True)
        self.supervisor.stop()
        self._ports.close()

    def _take_ports(self) -> None:
        """Holds the ports of edge and sink. Raises ``PortInUse``."""
        host, edge, sql = self.settings.edge_host, self.settings.edge_port, self.settings.sql_port
        self.settings = self.settings.model_copy(
            update={
                "edge_port": self._ports.hold("ROUNDHOUSE_EDGE_PORT", host, edge),
                "sql_port": self._ports.hold("ROUNDHOUSE_SQL_PORT", port=sql),
            }
        )

    @property
    def edge_url(self) -> str:
        """The address to which operators post."""
        return f"http://{self.settings.edge_host}:{self.settings.edge_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with this stack's settings."""
        values = {
            f"ROUNDHOUSE_{name.upper()}": (
                value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            )
            for name, value in self.settings.model_dump().items()
            if value is not None
        }
        return {**os.environ, **values}

    def start(self, name: str, *arguments: str) -> int:
        """Starts ``roundhouse <arguments>`` as a supervised process; returns its pid."""
        command = [*self.program, *arguments]
        return self.supervisor.start(name, command, self.environment, group=arguments[0])

    def _start_broker(self) -> None:
        directory = self.settings.data_dir
        if self.in_memory:
            address = directory / "broker-address"
            address.unlink(missing_ok=True)
            self.start("broker", "memory-broker", str(address))
            bootstrap = memory.wait_for_address(address)
            self.settings = self.settings.model_copy(update={"kafka_bootstrap": bootstrap})
            return
        missing = local.missing_tools()
        if missing:
            raise ConfigurationError(
                f"a real Kafka needs {' and '.join(missing)}, not found on the PATH. Install a JDK "
                "(17 or newer) and Maven, or use --memory."
            )
        nodes = local.nodes_of(self.settings.kafka_bootstrap, self._ports)
        self.settings = self.settings.model_copy(update={"kafka_bootstrap": local.bootstrap_of(nodes)})
        self.brokers = [node.name for node in nodes]
        for name, command in local.prepare(local.fetch_jars(), directory / "kafka", nodes).items():
            self.supervisor.start(name, command, os.environ)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        for name in ("edge", "sink"):
            while not is_well(self.settings, name):
                self.supervisor.check()
                if time.monotonic() > deadline:
                    raise BrokerUnavailable(
                        f"{name} is not ready after {READY_WITHIN_S:.0f} s; see "
                        f"{self.settings.data_dir / 'logs' / name}.log"
                    )
                time.sleep(0.1)

    @property
    def _state_path(self) -> Path:
        return self.settings.data_dir / "run.json"

    def _write_state(self) -> None:
        state = {
            "pid": os.getpid(),
            "edge_url": self.edge_url,
            "sql_port": self.settings.sql_port,
            "kafka_bootstrap": self.settings.kafka_bootstrap,
            "partitions": self.settings.partitions,
            "processes": self.supervisor.pids(),
        }
        self._state_path.write_text(json.dumps(state, indent=2))


class Running:
    """A stack that another process started on the same data directory."""

    def __init__(self, settings: Settings) -> None:
        path = settings.data_dir / "run.json"
        try:
            state = json.loads(path.read_text())
            os.kill(state["pid"], 0)
        except (OSError, ValueError, KeyError):
            raise NotRunning(
                f"no stack runs on {settings.data_dir}; `roundhouse up` starts one"
            ) from None
        self.edge_url: str = state["edge_url"]
        self.sql_port: int = state["sql_port"]


def on_any_ports(settings: Settings, brokers: int = 1) -> Settings:
    """Settings for a :class:`Stack` and a console on any free ports, so several can run at once."""
    return settings.model_copy(
        update={
            "kafka_bootstrap": ",".join(["127.0.0.1:0"] * brokers),
            "edge_port": 0,
            "sql_port": 0,
            "console_port": 0,
        }
    )
