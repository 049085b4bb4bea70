"""The health of the processes of this machine, for container health checks and people."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx

from streams.settings import Settings
from streams.telemetry.status_server import status_folder

_WITHIN_S = 10.0


class Page(NamedTuple):
    """The status page of a process: its content, or None if it did not answer."""

    name: str
    address: str
    document: dict[str, Any] | None

    @property
    def is_well(self) -> bool:
        """Whether the process is live and ready."""
        return self.document is not None and self.document["live"] and self.document["ready"]

    def lines(self) -> Iterator[str]:
        """The page as text: one line for the state, and one line for each reason."""
        if self.document is None:
            yield f"{self.name}: does not answer on {self.address}; it was killed, or is starting again"
            return
        numbers = ", ".join(
            f"{name} {value:.0f}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.document.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        )
        yield f"{self.name}: {self.document['status']}{f' ({numbers})' if numbers else ''}"
        for reason in self.document["reasons"]:
            yield f"  {reason}"


def pages(settings: Settings, job: str, name: str = "") -> list[Page]:
    """The status pages of the processes of a kind (such as worker or sink), ordered by name.

    With ``name`` only those of ``<name>`` and ``<name>-0``, ``<name>-1``, ... .
    """
    found = []
    for path in sorted(status_folder(settings).glob("*.json")):
        try:
            [group] = json.loads(path.read_text())
        except ValueError:  # the process is writing the file at this moment
            continue
        base, _, number = path.stem.rpartition("-")
        if group["labels"]["job"] == job and (
            not name or path.stem == name or (base == name and number.isdecimal())
        ):
            [address] = group["targets"]
            found.append(Page(path.stem, address, _asked(address)))
    return found


def is_well(settings: Settings, job: str, name: str = "") -> bool:
    """Whether there is at least one such process, and all of them are live and ready."""
    found = pages(settings, job, name)
    return bool(found) and all(page.is_well for page in found)


def _asked(address: str) -> dict[str, Any] | None:
    host, _, port = address.rpartition(":")
    if host == "0.0.0.0":  # noqa: S104  # a process that listens everywhere listens on the loopback too
        host = "127.0.0.1"
    try:
        answer = httpx.get(f"http://{host}:{port}/healthz", timeout=_WITHIN_S)
        document: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError):
        return None
    return document
