"""Kafka in KRaft mode, one node or several, from the official jars."""

import fcntl
import logging
import shutil
import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from connectors.local.ports import Ports
from streams.errors import ConfigurationError
from streams.kafka.admin import wait_for_broker
from streams.records.topics import MESSAGE_BYTES_MAX
from streams.settings import Settings

log = logging.getLogger(__name__)

POM = Path(__file__).parent / "pom.xml"
SETTING = "ROUNDHOUSE_KAFKA_BOOTSTRAP"
ARCHIVED_WITHIN_S = 120.0
JARS_DIR = Path(".kafka")
"""Where the jars are kept, relative to the working directory."""


def missing_tools() -> list[str]:
    """The missing tools that a real Kafka needs."""
    return [tool for tool in ("java", "mvn") if shutil.which(tool) is None]


def fetch_jars() -> Path:
    """The directory of Kafka's jars; the first call downloads them with Maven."""
    jars = JARS_DIR / "libs"
    complete = JARS_DIR / "complete"
    JARS_DIR.mkdir(parents=True, exist_ok=True)
    with open(JARS_DIR / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes may need the jars at the same time
        if not complete.exists():
            log.info("fetching Kafka's jars with Maven into %s, once", JARS_DIR)
            _copy_jars(jars)
            _archive_classes(jars.resolve())
            complete.touch()
    return jars.resolve()


def _copy_jars(jars: Path) -> None:
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={jars.resolve()}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ConfigurationError(
            f"Maven could not fetch Kafka's jars:\n{result.stdout[-2000:]}{result.stderr[-2000:]}"
        )


def _archive_of(jars: Path) -> Path:
    return jars.parent / "kafka.jsa"


def _archive_classes(jars: Path) -> None:
    """Runs a node once and archives its loaded classes: later nodes start in half the time.

    A different JVM cannot use the archive, reports this, and starts without it. A JVM cannot start with
    the archive that it will write, so the archive of an interrupted run is removed first.
    """
    _archive_of(jars).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="roundhouse-kafka-") as directory, Ports() as ports:
        nodes = nodes_of("127.0.0.1:0", ports)
        [[program, *options]] = prepare(jars, Path(directory), nodes).values()
        command = [program, f"-XX:ArchiveClassesAtExit={_archive_of(jars)}", *options]
        settings = Settings(kafka_bootstrap=bootstrap_of(nodes), kafka_security_protocol="PLAINTEXT")
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, stdout=quiet, stderr=quiet) as node:
            try:
                wait_for_broker(settings, ARCHIVED_WITHIN_S)
            finally:
                node.terminate()


def java(jars: Path, main: str, *arguments: str, heap: str, collector: str) -> list[str]:
    """The command line that runs a class of the jars."""
    return [
        "java",
        f"-Xms{heap}",
        f"-Xmx{heap}",
        f"-XX:+Use{collector}GC",
        *([f"-XX:SharedArchiveFile={archive}"] if (archive := _archive_of(jars)).exists() else []),
        "-Dlog4j2.level=WARN",
        "-cp",
        f"{jars}/*",
        main,
        *arguments,
    ]


class Node(NamedTuple):
    """A broker that is also a controller: its ports for clients and for controllers."""

    number: int
    host: str
    port: int
    controller_port: int

    @property
    def name(self) -> str:
        """The name of the node's process and directory."""
        return f"kafka-{self.number}"


def nodes_of(bootstrap: str, ports: Ports) -> list[Node]:
    """A node for each ``host:port`` of a comma-separated list, with its ports held; port 0 means any
    port.
    """
    addresses = [address.rpartition(":") for address in bootstrap.split(",")]
    if not all(host and port.isdecimal() for host, _, port in addresses):
        raise ConfigurationError(
            f"{SETTING} is {bootstrap!r}: to start brokers here it must be host:port, "
            "or several joined by commas, one for each broker to start"
        )
    return [
        Node(number, host, ports.hold(SETTING, host, int(port)), ports.hold(SETTING))
        for number, (host, _, port) in enumerate(addresses, 1)
    ]


def bootstrap_of(nodes: Sequence[Node]) -> str:
    """The bootstrap servers of ``nodes``."""
    return ",".join(f"{node.host}:{node.port}" for node in nodes)


def prepare(jars: Path, directory: Path, nodes: Sequence[Node]) -> dict[str, list[str]]:
    """Formats a directory for each node; returns the commands that run them, by name."""
    cluster = _cluster_id(directory)
    commands = {}
    for node in nodes:
        folder = directory / node.name
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "server.properties"
        config.write_text(_properties(folder.resolve(), node, nodes))
        if not (folder / "log" / "meta.properties").exists():
            result = subprocess.run(
                java(
                    jars,
                    "kafka.tools.StorageTool",
                    *("format", "-t", cluster, "-c", str(config)),
                    heap="256m",
                    collector="Serial",
                ),
                capture_output=True,
                text=True,
                check=False,
            )
            if result.returncode:
                raise ConfigurationError(
                    f"Kafka's storage could not be formatted:\n{result.stdout}{result.stderr}"
                )
        commands[node.name] = java(
            jars, "kafka.Kafka", str(config.resolve()), heap="512m", collector="G1"
        )
    return commands


def _cluster_id(directory: Path) -> str:
    path = directory / "cluster-id"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        path.write_text(cluster.replace("-", "a", 1) if cluster.startswith("-") else cluster)
    return path.read_text()


def _properties(directory: Path, node: Node, nodes: Sequence[Node]) -> str:
    controller = f"127.0.0.1:{node.controller_port}"
    voters = ",".join(f"{each.number}@127.0.0.1:{each.controller_port}" for each in nodes)
    replicas = min(3, len(nodes))
    entries = {
        "process.roles": "broker,controller",
        "node.id": node.number,
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://{node.host}:{node.port},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{node.host}:{node.port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": directory / "log",
        "auto.create.topics.enable": "false",
        "message.max.bytes": MESSAGE_BYTES_MAX,
        "replica.fetch.max.bytes": MESSAGE_BYTES_MAX,
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": max(1, replicas - 1),
        "transaction.state.log.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        "log.cleaner.dedupe.buffer.size": 33_554_432,
    }
    return "".join(f"{key}={value}\n" for key, value in entries.items())
