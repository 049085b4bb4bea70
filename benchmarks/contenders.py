"""The contenders of the yardstick job: Roundhouse's worker and other stream processors."""

import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from streams.settings import Settings

PEERS = Path(__file__).parent / "peers"
_STREAMS = PEERS / "kafka_streams"
_QUIX_VENV = PEERS / "quix_venv"


class Contender(NamedTuple):
    """One implementation of the job: how to build it, and the command of each of its processes.

    ``events``: the two sizes of input from which its steady cost is computed.
    """

    build: Callable[[], None]
    commands: Callable[[Settings], list[list[str]]]
    events: tuple[int, int]


def _nothing() -> None:
    """Builds nothing: the contender is installed with the project."""


def _build_streams() -> None:
    libraries = f"-DoutputDirectory={_STREAMS / 'target' / 'lib'}"
    goals = "package", "dependency:copy-dependencies", libraries
    command = ["mvn", "-q", "-B", "-f", str(_STREAMS / "pom.xml"), *goals]
    subprocess.run(command, check=True, stdout=sys.stderr)


def _streams(settings: Settings) -> list[list[str]]:
    target = _STREAMS / "target"
    classes = f"{target / 'peer-kafka-streams-1.jar'}:{target / 'lib'}/*"
    java = "java", "-Xms1g", "-Xmx1g", "-XX:+UseParallelGC", "-cp", classes
    return [[*java, "peer.Main", *_where(settings)]]


def _build_quix() -> None:
    """Installs Quix in a virtual environment of its own, since it needs an older confluent-kafka."""
    if not (_QUIX_VENV / "ready").exists():
        shutil.rmtree(_QUIX_VENV, ignore_errors=True)
        venv.create(_QUIX_VENV, with_pip=True)
        pip = [str(_QUIX_VENV / "bin" / "pip"), "install", "--quiet"]
        subprocess.run([*pip, "-r", str(PEERS / "quix-requirements.txt")], check=True)
        (_QUIX_VENV / "ready").touch()


def _quix(settings: Settings) -> list[list[str]]:
    return [[str(_QUIX_VENV / "bin" / "python"), str(PEERS / "quix.py"), *_where(settings)]]


def _faust(settings: Settings) -> list[list[str]]:
    return [[sys.executable, str(PEERS / "stock_faust.py"), *_where(settings)]]


def _where(settings: Settings) -> tuple[str, str, str]:
    """The arguments of a peer: the broker, the prefix of topics, and the directory of its state."""
    return settings.kafka_bootstrap, settings.topic_prefix, str(settings.data_dir / "peer")


def _roundhouse(processes: int) -> Callable[[Settings], list[list[str]]]:
    command = [sys.executable, "-m", "connectors.cli", "worker-process"]
    return lambda settings: [[*command, str(index)] for index in range(processes)]


CONTENDERS = {
    "roundhouse": Contender(_nothing, _roundhouse(1), (400_000, 1_600_000)),
    "roundhouse, two processes": Contender(_nothing, _roundhouse(2), (400_000, 1_600_000)),
    "kafka-streams": Contender(_build_streams, _streams, (400_000, 1_600_000)),
    "quix": Contender(_build_quix, _quix, (50_000, 150_000)),
    "faust": Contender(_nothing, _faust, (10_000, 30_000)),
}
