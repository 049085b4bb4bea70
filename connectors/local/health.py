"""Is a service of this machine alive? For container health checks and people."""

import json
import time

import httpx

from streams.settings import Settings
from streams.state.recovery import Progress


def check(settings: Settings, what: str, name: str, max_age_s: float) -> str | None:
    """What is wrong with ``what`` (worker, sink or edge), or None."""
    if what == "worker":
        return _worker(settings, name, max_age_s)
    port = settings.sql_port if what == "sink" else settings.edge_port
    path = "/healthz" if what == "sink" else "/healthz/ready"
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5.0)
    except httpx.HTTPError as error:
        return f"{what} does not answer on port {port}: {error}"
    return None if answer.status_code == 200 else f"{what}: {answer.text.strip()}"


def _worker(settings: Settings, name: str, max_age_s: float) -> str | None:
    homes = sorted(settings.state_home.glob(f"{name}-*/alive.json"))
    if not homes:
        return f"no worker named {name} has run on {settings.state_home}"
    for path in homes:
        age = time.time() - json.loads(path.read_text())["at"]
        if age > max_age_s:
            return f"{path.parent.name} gave its last sign of life {age:.0f} s ago"
    return None


def recoveries(settings: Settings, name: str) -> list[str]:
    """What the workers named ``name`` have still to read before they work on a partition."""
    return [
        f"{path.parent.name}: {Progress.of(document)}"
        for path in sorted(settings.state_home.glob(f"{name}-*/alive.json"))
        for document in json.loads(path.read_text()).get("recoveries", ())
        if not document["done"]
    ]
