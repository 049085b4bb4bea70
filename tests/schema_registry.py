"""A schema registry for the tests: Apicurio's, from Maven, with its Confluent-compatible API.

Its data are in memory. The module also gets the classes of a consumer on a JVM.
``tests/jvm/pom.xml`` lists both.
"""

import fcntl
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from connectors.local.ports import Ports
from tests.waiting import WITHIN_S, wait_until

JVM = Path(__file__).parent / "jvm"
ROOT = Path(__file__).parent.parent


def fetch_jvm(home: Path = ROOT / ".tools" / "jvm") -> Path:
    """The directory of the Java classes that the tests run; Maven fills it if necessary."""
    home.mkdir(parents=True, exist_ok=True)
    complete = home / "complete"
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes of the tests may need it at once
        if not complete.exists():
            command = ["mvn", "-q", "-B", "-f", str(JVM / "pom.xml"), f"-Dhome={home}", "package"]
            subprocess.run(command, check=True)
            option = f"-XX:ArchiveClassesAtExit={_archive(home)}"
            with _running(home, option, home / "registry.log"):
                pass
            complete.touch()
    return home


@contextmanager
def running_registry(home: Path, log: Path) -> Iterator[str]:
    """Runs a registry until the block ends; yields the address of its Confluent-compatible API."""
    with _running(home, f"-XX:SharedArchiveFile={_archive(home)}", log) as url:
        yield url


def consumer_command(home: Path, source: Path, *arguments: str) -> Sequence[str]:
    """The command line of a Java program that is one file and reads Avro with the registry."""
    options = ["-Xmx256m", "-XX:+UseSerialGC", "-cp", f"{home / 'consumer'}/*"]
    return ["java", *options, str(source), *arguments]


def _archive(home: Path) -> Path:
    """The archive of the registry's loaded classes, with which it starts in a quarter of the time."""
    return home / "registry.jsa"


@contextmanager
def _running(home: Path, option: str, log: Path) -> Iterator[str]:
    [program] = (home / "registry").glob("*-runner.jar")
    with Ports() as ports, open(log, "wb") as out:
        port = ports.hold("the registry's port")
        environment = os.environ | {
            "APICURIO_STORAGE_KIND": "sql",
            "APICURIO_STORAGE_SQL_KIND": "h2",  # in memory
            "QUARKUS_HTTP_HOST": "127.0.0.1",
            "QUARKUS_HTTP_PORT": str(port),
            "QUARKUS_LOG_LEVEL": "WARN",
        }
        command = ["java", "-Xmx256m", "-XX:+UseSerialGC", option, "-jar", str(program)]
        url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
        with subprocess.Popen(command, stdout=out, stderr=out, env=environment) as process:
            try:
                wait_until(lambda: process.poll() is not None or _answers(url), "the registry's answer")
                assert process.poll() is None, f"the registry ended: see {log}"
                yield url
            finally:
                process.terminate()
                process.wait(WITHIN_S)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/subjects", timeout=5.0).status_code == 200
    except httpx.HTTPError:
        return False
