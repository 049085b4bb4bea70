"""Measures which alerts a fault raises in a real Prometheus, and from when to when they fire.

``python -m tests.faults.alerts`` prints a table. Prometheus is built by Go once; ``--keep`` names a
directory in which the scraped samples are kept for inspection.
"""

import argparse
import json
import logging
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import yaml
from confluent_kafka import Producer

from connectors.local.ports import Ports
from streams.core.event import Batch
from streams.records.raw_batch import headers_of
from streams.records.topics import RAW
from tests.connectors.prometheus.test_alerts import HOME, TAGS
from tests.faults import faults
from tests.faults.faults import Fault
from tests.faults.harness import Line, NotPossible, line
from tests.go_tools import go_tool
from tests.waiting import wait_until

log = logging.getLogger(__name__)

PROMETHEUS = "github.com/prometheus/prometheus/cmd/prometheus", "v0.316.0"
EVERY_S = 5
OUTAGE_S = 60
QUIET_WITHIN_S = 120
"""An alert whose expression covers several minutes may fire for longer; the table then says so."""


def down(names: Callable[[Line], list[str]], target: Line) -> None:
    with target.down(*names(target)):
        time.sleep(OUTAGE_S)


def again_and_again(target: Line) -> None:
    for _ in range(4):
        target.kill(target.workers[0])
        time.sleep(3 * EVERY_S)


def foreign_records(target: Line) -> None:
    """Another program writes records to the edge's topic that the edge would have refused."""
    producer = Producer({"bootstrap.servers": target.settings.kafka_bootstrap})
    batch = Batch("acme", "native", "foreign", int(time.time() * 1e6), True, False, None)
    headers = headers_of(batch, invalid=0)
    for _ in range(5):
        producer.produce(
            target.settings.topic_prefix + RAW,
            b'[{"event":"gameround"}]',
            headers=headers,  # type: ignore[arg-type]  # declared with a wider type of pair
        )
    producer.flush(30)


FAULTS = [
    Fault("worker: kill -9", faults.kill_a_worker),
    Fault("worker: kill -9 again and again", again_and_again),
    Fault("worker: one of two down for 60 s", partial(down, lambda target: target.workers[:1])),
    Fault("worker: all down for 60 s", partial(down, lambda target: target.workers)),
    Fault("disk: state deleted", faults.state_deleted),
    Fault("disk: full", faults.disk_full),
    Fault("edge: down for 60 s", partial(down, lambda target: ["edge"])),
    Fault("sink: down for 60 s", partial(down, lambda target: ["sink"])),
    Fault("ClickHouse: away for 60 s", faults.clickhouse_away),
    Fault("ClickHouse: answers errors for 20 s", faults.clickhouse_answers_errors),
    Fault("broker: away for 60 s", faults.broker_away),
    Fault("broker: too slow to acknowledge", faults.broker_too_slow),
    Fault("raw.batches: another program writes to it", foreign_records),
]


class Firing:
    """Records when alerts fire; a thread asks Prometheus every second."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopping = threading.Event()
        self.seen: dict[str, list[float]] = {}
        """By alert, the times of the monotonic clock at which it was firing."""
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
        self._thread.start()

    def now(self) -> set[str]:
        try:
            answer = httpx.get(f"{self._url}/api/v1/alerts", timeout=30).raise_for_status()
        except httpx.TransportError:
            return set()
        alerts = answer.json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def _run(self) -> None:
        while not self._stopping.wait(1.0):
            moment = time.monotonic()
            for name in self.now():
                self.seen.setdefault(name, []).append(moment)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()


@contextmanager
def prometheus(target: Line, home: Path) -> Iterator[str]:
    """Runs Prometheus with the alerts on the processes of a line; yields its address."""
    home.mkdir(parents=True, exist_ok=True)
    files = str(target.settings.data_dir.resolve() / "status" / "*.json")
    discovery = {"files": [files], "refresh_interval": "2s"}
    config = {
        "global": {"scrape_interval": f"{EVERY_S}s", "evaluation_interval": f"{EVERY_S}s"},
        "rule_files": [str(HOME / "alerts.yml")],
        "scrape_configs": [{"job_name": "roundhouse", "file_sd_configs": [discovery]}],
    }
    (home / "prometheus.yml").write_text(yaml.safe_dump(config))
    with Ports() as ports, open(home / "log", "wb") as out:
        address = f"127.0.0.1:{ports.hold('the Prometheus of the faults')}"
        command = [
            str(go_tool(*PROMETHEUS, TAGS)),
            f"--config.file={home / 'prometheus.yml'}",
            f"--storage.tsdb.path={home / 'data'}",
            f"--web.listen-address={address}",
        ]
        ports.close()
        with subprocess.Popen(command, stdout=out, stderr=out) as process:
            try:
                wait_until(lambda: _is_ready(address), "Prometheus")
                yield f"http://{address}"
            finally:
                process.terminate()
                process.wait(60)


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/-/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def strike(target: Line, fault: Fault, firing: Firing) -> str:
    """Causes one fault; returns its row of the table."""
    before, began = firing.now(), time.monotonic()
    try:
        fault.harm(target)
    except NotPossible as error:
        return f"| {fault.name} | not run: {error} | | |"
    harm_s = time.monotonic() - began
    deadline = time.monotonic() + QUIET_WITHIN_S
    time.sleep(4 * EVERY_S)  # alerts that have become pending by now fire within this time
    while firing.now() - before and time.monotonic() < deadline:
        time.sleep(1)
    raised = {
        name: [moment - began for moment in moments if moment > began]
        for name, moments in firing.seen.items()
        if name not in before and moments[-1] > began
    }
    still = firing.now()
    cells = [
        f"{name}: {times[0]:.0f} to {'after the table' if name in still else f'{times[-1]:.0f}'} s"
        for name, times in sorted(raised.items(), key=lambda entry: entry[1][0])
    ]
    return f"| {fault.name} | {harm_s:.0f} s | {'<br>'.join(cells) or 'none'} | {', '.join(before)} |"


def main() -> None:
    """Prints the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="faults whose names contain this")
    parser.add_argument("--keep", type=Path, help="folder for Prometheus's data")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    with (
        tempfile.TemporaryDirectory(prefix="roundhouse-alerts-") as folder,
        line(Path(folder), 1, server=True, items_per_s=300, long=True, books=False) as target,
        prometheus(target, arguments.keep or Path(folder) / "prometheus") as url,
    ):
        firing = Firing(url)
        target.at_work()
        time.sleep(60)  # some alerts cannot fire in the first minute of a line
        print("| fault | harm took | alerts that fired, s after the harm began | fired before |")
        print("|---|---|---|---|", flush=True)
        for fault in FAULTS:
            if arguments.only in fault.name:
                print(strike(target, fault, firing), flush=True)
        firing.stop()
        print(json.dumps(sorted(firing.seen)), flush=True)


if __name__ == "__main__":
    main()
