"""Starts a Kafka node for one measurement."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from connectors.local import kafka as local
from connectors.local.ports import Ports
from streams.kafka.admin import wait_for_broker
from streams.settings import Settings


class Node(NamedTuple):
    """The settings of a line on a Kafka node, and the node's process."""

    settings: Settings
    pid: int


@contextmanager
def kafka(home: Path) -> Iterator[Node]:
    """Starts a Kafka node for a line in ``home``; the node ends with the block."""
    with Ports() as ports:
        nodes = local.nodes_of("127.0.0.1:0", ports)
        settings = Settings(data_dir=home, kafka_bootstrap=local.bootstrap_of(nodes))
        (command,) = local.prepare(local.fetch_jars(), home / "kafka", nodes).values()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as node:
            try:
                wait_for_broker(settings, 60)
                yield Node(settings, node.pid)
            finally:
                node.terminate()
