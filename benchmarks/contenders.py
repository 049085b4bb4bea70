"""Who does the yardstick job: Roundhouse's worker, and other stream processors."""

import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from streams.settings import Settings
from streams.stack import Stack

PEERS = Path(__file__).parent / "peers"
_STREAMS = PEERS / "kafka_streams"
_QUIX_VENV = PEERS / "quix_venv"


class Contender(NamedTuple):
    """One implementation of the job: how to build it, and the command that runs it.

    ``events``: the two sizes from which its steady cost is taken.
    """

    build: Callable[[], None]
    command: Callable[[Settings], list[str]]
    events: tuple[int, int]

    def environment(self, settings: Settings) -> Mapping[str, str]:
        """Of its process."""
        return Stack(settings).environment


def _nothing() -> None:
    """Installed with the project."""


def _build_streams() -> None:
    command = [
        "mvn",
        "-q",
        "-B",
        "-f",
        str(_STREAMS / "pom.xml"),
        "package",
        "dependency:copy-dependencies",
    ]
    subprocess.run([*command, f"-DoutputDirectory={_STREAMS / 'target' / 'lib'}"], check=True)


def _streams(settings: Settings) -> list[str]:
    target = _STREAMS / "target"
    classes = f"{target / 'peer-kafka-streams-1.jar'}:{target / 'lib'}/*"
    home = str(settings.data_dir / "peer")
    where = settings.kafka_bootstrap, settings.topic_prefix, home
    return ["java", "-Xms1g", "-Xmx1g", "-XX:+UseParallelGC", "-cp", classes, "peer.Main", *where]


def _build_quix() -> None:
    """In a virtual environment of its own: it holds confluent-kafka to an older version."""
    if not (_QUIX_VENV / "ready").exists():
        shutil.rmtree(_QUIX_VENV, ignore_errors=True)
        venv.create(_QUIX_VENV, with_pip=True)
        pip = [str(_QUIX_VENV / "bin" / "pip"), "install", "--quiet"]
        subprocess.run([*pip, "-r", str(PEERS / "quix-requirements.txt")], check=True)
        (_QUIX_VENV / "ready").touch()


def _quix(settings: Settings) -> list[str]:
    home = str(settings.data_dir / "peer")
    where = settings.kafka_bootstrap, settings.topic_prefix, home
    return [str(_QUIX_VENV / "bin" / "python"), str(PEERS / "quix.py"), *where]


def _faust(settings: Settings) -> list[str]:
    home = str(settings.data_dir / "peer")
    where = settings.kafka_bootstrap, settings.topic_prefix, home
    return [sys.executable, str(PEERS / "stock_faust.py"), *where]


def _roundhouse(settings: Settings) -> list[str]:
    return [sys.executable, "-m", "streams.cli", "worker-process", "0"]


CONTENDERS = {
    "roundhouse": Contender(_nothing, _roundhouse, (400_000, 1_600_000)),
    "kafka-streams": Contender(_build_streams, _streams, (400_000, 1_600_000)),
    "quix": Contender(_build_quix, _quix, (50_000, 150_000)),
    "faust": Contender(_nothing, _faust, (10_000, 30_000)),
}
