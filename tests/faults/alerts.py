"""Measures which alerts a fault raises in a real Prometheus, after how long, and when they cease.

``python -m tests.faults.alerts`` prints a Markdown table, row by row. Each fault lasts until its alerts
fire; the next one begins when no alert fires any more. The exit status is 1 if an alert did not fire or
did not cease. Prometheus is built by Go once.

Waits and ranges of the rules that are longer than :data:`LONG_S` are divided by :data:`FACTOR`: they
would make the run hours long.
"""

import argparse
import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import yaml

from connectors.local.ports import Ports
from streams.settings import Settings
from tests.connectors.prometheus.test_alerts import HOME, TAGS, alerts
from tests.faults.alert_faults import ALERT_FAULTS, AlertFault
from tests.faults.harness import Line, NotPossible, line
from tests.go_tools import go_tool
from tests.waiting import wait_until

log = logging.getLogger(__name__)

PROMETHEUS = "github.com/prometheus/prometheus/cmd/prometheus", "v0.316.0"
PREFIX = "Roundhouse"
EVERY_S = 5
LONG_S = 120
FACTOR = 5
FIRES_WITHIN_S = 300.0
CEASES_WITHIN_S = 300.0
SHOWS_WITHIN_S = 30.0
"""Within this time after a fault, whatever it raises is at least pending."""

_UNITS = {"s": 1, "m": 60, "h": 3600}
_RANGE = re.compile(r"(?<=\[)\d+[smh](?=\])|(?<=offset )\d+[smh]")


def _shortened(number: str, unit: str) -> str:
    seconds = int(number) * _UNITS[unit]
    return f"{seconds // FACTOR if seconds > LONG_S else seconds}s"


def shortened_rules(text: str) -> str:
    """The rules with every wait, range and offset above :data:`LONG_S` divided by :data:`FACTOR`."""
    loaded = yaml.safe_load(text)
    for group in loaded["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = _shortened(rule["for"][:-1], rule["for"][-1])
            rule["expr"] = _RANGE.sub(
                lambda found: _shortened(found[0][:-1], found[0][-1]), rule["expr"]
            )
    return str(yaml.safe_dump(loaded))


class Now(NamedTuple):
    """The names of the alerts that fire, and of those whose wait is not over."""

    firing: frozenset[str]
    pending: frozenset[str]


class Firing:
    """Records when alerts fire; a thread asks Prometheus every second."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopping = threading.Event()
        self.now = Now(frozenset(), frozenset())
        self.seen: dict[str, list[float]] = {}
        """By alert, the times of the monotonic clock at which it was firing."""
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
        self._thread.start()

    def since(self, moment: float) -> dict[str, list[float]]:
        """The alerts that have fired after ``moment``, and when."""
        found = {name: [at for at in times if at > moment] for name, times in self.seen.items()}
        return {name: times for name, times in found.items() if times}

    def _run(self) -> None:
        while not self._stopping.wait(1.0):
            moment = time.monotonic()
            answer = httpx.get(f"{self._url}/api/v1/alerts", timeout=60).raise_for_status()
            states = [
                (alert["labels"]["alertname"].removeprefix(PREFIX), alert["state"])
                for alert in answer.json()["data"]["alerts"]
            ]
            firing = frozenset(name for name, state in states if state == "firing")
            for name in firing:
                self.seen.setdefault(name, []).append(moment)
            self.now = Now(firing, frozenset(name for name, state in states if state == "pending"))

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()


@contextmanager
def prometheus(settings: Settings, home: Path, every_s: int = EVERY_S) -> Iterator[str]:
    """Runs Prometheus with the alerts on the processes of a line; yields its address.

    It scrapes the processes, and evaluates the alerts, every ``every_s`` seconds.
    """
    home.mkdir(parents=True, exist_ok=True)
    files = str(settings.data_dir.resolve() / "status" / "*.json")
    discovery = {"files": [files], "refresh_interval": "2s"}
    config = {
        "global": {"scrape_interval": f"{every_s}s", "evaluation_interval": f"{every_s}s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [{"job_name": "roundhouse", "file_sd_configs": [discovery]}],
    }
    (home / "prometheus.yml").write_text(yaml.safe_dump(config))
    (home / "alerts.yml").write_text(shortened_rules((HOME / "alerts.yml").read_text()))
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


def quiet(firing: Firing, within_s: float) -> bool:
    """Waits until no alert fires or is pending; returns whether none fires in the end."""
    deadline = time.monotonic() + within_s
    while firing.now != Now(frozenset(), frozenset()) and time.monotonic() < deadline:
        time.sleep(1)
    return not firing.now.firing


class Struck(NamedTuple):
    """The rows of a fault, and whether its alerts all fired and ceased."""

    rows: list[str]
    as_expected: bool


def strike(target: Line, fault: AlertFault, firing: Firing) -> Struck:
    """Causes one fault until its alerts fire, and waits until none fires."""
    target.check()
    began = time.monotonic()
    expected = set(fault.alerts)
    try:
        with fault.harm(target):
            deadline = time.monotonic() + FIRES_WITHIN_S
            while not expected <= firing.since(began).keys() and time.monotonic() < deadline:
                time.sleep(0.5)
            mended = time.monotonic()
    except NotPossible as error:
        return Struck([f"| {fault.name} | | not run: {error} | | |"], False)
    time.sleep(max(0.0, mended + SHOWS_WITHIN_S - time.monotonic()))
    ceased = quiet(firing, CEASES_WITHIN_S)
    raised, still = firing.since(began), firing.now.firing
    head = f"| {fault.name} | {mended - began:.0f}"
    rows = []
    for name, times in sorted(raised.items(), key=lambda entry: entry[1][0]):
        alert = name if name in expected else f"({name})"
        end = "still fires" if name in still else f"{max(0, times[-1] - mended):.0f}"
        rows.append(f"{head} | {alert} | {times[0] - began:.0f} | {end} |")
    rows += [f"{head} | {name} | never | |" for name in sorted(expected - raised.keys())]
    rows = rows or [f"{head} | none | | |"]
    return Struck(rows, ceased and expected <= raised.keys())


def run(faults: Sequence[AlertFault], keep: Path | None) -> bool:
    """Prints the table; returns whether every fault raised its alerts and all of them ceased."""
    well = True
    with (
        tempfile.TemporaryDirectory(prefix="roundhouse-alerts-") as folder,
        line(
            Path(folder) / "line",
            1,
            server=True,
            items_per_s=300,
            long=True,
            books=False,
            stuck_after_s=30,
        ) as target,
        prometheus(target.settings, keep or Path(folder) / "prometheus") as url,
    ):
        firing = Firing(url)
        target.at_work()
        time.sleep(60)  # some alerts cannot fire in the first minute of a line
        quiet(firing, CEASES_WITHIN_S)
        print("| fault | lasted, s | alert | fired after, s | ceased after the end, s |")
        print("|---|---|---|---|---|", flush=True)
        for fault in faults:
            struck = strike(target, fault, firing)
            well = well and struck.as_expected
            print("\n".join(struck.rows), flush=True)
            log.warning("load average %.1f", os.getloadavg()[0])
        firing.stop()
    missing = {alert["alert"].removeprefix(PREFIX) for alert in alerts()} - firing.seen.keys()
    print(f"\nNot raised in this run: {', '.join(sorted(missing)) or 'none'}.", flush=True)
    return well


def main() -> None:
    """Runs the faults; the exit status says whether all went as expected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", nargs="*", default=[""], help="faults whose names contain one of these"
    )
    parser.add_argument("--keep", type=Path, help="folder for Prometheus's data")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    faults = [fault for fault in ALERT_FAULTS if any(only in fault.name for only in arguments.only)]
    sys.exit(not run(faults, arguments.keep))


if __name__ == "__main__":
    main()
