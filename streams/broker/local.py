"""A single Kafka node in KRaft mode, from the official jars."""

import shutil
import socket
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from streams.errors import ConfigurationError
from streams.topics import MESSAGE_BYTES_MAX

POM = Path(__file__).parent / "pom.xml"
JARS_HOME = Path(".kafka")
"""Where the jars are kept, relative to the working directory."""


def missing_tools() -> list[str]:
    """What is not installed of what a real Kafka needs."""
    return [tool for tool in ("java", "mvn") if shutil.which(tool) is None]


def fetch_jars(home: Path = JARS_HOME) -> Path:
    """The folder of Kafka's jars, filled by Maven if need be."""
    jars = home / "libs"
    complete = home / "complete"
    if not complete.exists():
        home.mkdir(parents=True, exist_ok=True)
        command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", f"-DoutputDirectory={jars.resolve()}"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise ConfigurationError(
                f"Maven could not fetch Kafka's jars:\n{result.stdout[-2000:]}{result.stderr[-2000:]}"
            )
        complete.touch()
    return jars.resolve()


def java(jars: Path, main: str, *arguments: str, heap: str = "256m") -> list[str]:
    """The command line of a class in the jars."""
    return [
        "java",
        f"-Xmx{heap}",
        "-XX:+UseSerialGC" if heap == "256m" else "-XX:+UseG1GC",
        "-Dlog4j2.level=WARN",
        "-cp",
        f"{jars}/*",
        main,
        *arguments,
    ]


def prepare(jars: Path, home: Path, bootstrap: str) -> list[str]:
    """Formats ``home`` for a node that listens on ``bootstrap``; returns the command that runs it."""
    host, _, port = bootstrap.rpartition(":")
    home.mkdir(parents=True, exist_ok=True)
    config = home / "server.properties"
    config.write_text(_properties(home.resolve(), host, int(port)))
    if not (home / "log" / "meta.properties").exists():
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        cluster = cluster.replace("-", "a", 1) if cluster.startswith("-") else cluster
        result = subprocess.run(
            java(jars, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config)),
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise ConfigurationError(
                f"Kafka's storage could not be formatted:\n{result.stdout}{result.stderr}"
            )
    return java(jars, "kafka.Kafka", str(config.resolve()), heap="1g")


def free_port() -> int:
    """A port of the loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _properties(home: Path, host: str, port: int) -> str:
    controller = f"127.0.0.1:{free_port()}"
    entries = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.bootstrap.servers": controller,
        "controller.quorum.voters": f"1@{controller}",
        "listeners": f"PLAINTEXT://{host}:{port},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{host}:{port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": home / "log",
        "auto.create.topics.enable": "false",
        "message.max.bytes": MESSAGE_BYTES_MAX,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        "log.cleaner.dedupe.buffer.size": 33_554_432,
    }
    return "".join(f"{key}={value}\n" for key, value in entries.items())
