"""A console on a line that has processed a day, for the tests of both pages and for the screenshots."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from connectors.demo.day import NATIVE, Post, day
from connectors.demo.feed import feed
from connectors.demo.run import accounts, demo_keys, is_balanced
from connectors.edge.tenants import Registry
from connectors.local.stack import Stack, on_any_ports
from streams.settings import Settings
from tests.line import bet
from tests.waiting import WITHIN_S, wait_until

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "connectors" / "campaigns" / "examples"

MIXED = [bet("mine-1"), bet("mine-2", 5), bet("mine-3", currency="euro"), bet("mine-4")]
"""After a batch with the bets ``mine-1`` and ``mine-2``: a duplicate, a conflict, a rejected and an
accepted item."""


@dataclass
class Console:
    """The console, and the line that it shows."""

    settings: Settings
    environment: dict[str, str]
    keys: dict[str, str]
    url: str

    def get(self, path: str, tenant: str | None = None) -> httpx.Response:
        headers = {"x-api-key": self.keys[tenant]} if tenant else {}
        return httpx.get(self.url + path, headers=headers, timeout=WITHIN_S)

    def evaluated(self, name: str, query: str = "") -> dict[str, Any]:
        """The standings of a campaign, once there are any."""
        found: dict[str, Any] = {}

        def is_ready() -> bool:
            found.update(self.get(f"/api/campaigns/{name}{query}").json())
            return bool(found["standings"])

        wait_until(is_ready, f"standings of {name}")
        return found

    def told(
        self, last: Callable[[dict[str, Any]], bool], last_event_id: str | None = None
    ) -> list[dict[str, Any]]:
        """The events of the stream of one kind, up to and with the first that is the last wanted."""
        headers = {"last-event-id": last_event_id} if last_event_id else {}
        found: list[dict[str, Any]] = []
        with httpx.stream("GET", f"{self.url}/api/stream", headers=headers, timeout=WITHIN_S) as answer:
            fields: dict[str, Any] = {}
            for text in answer.iter_lines():
                name, _, value = text.partition(": ")
                if name:
                    fields[name] = json.loads(value) if name == "data" else value
                elif "data" in fields:
                    found.append(fields)
                    if last(fields):
                        break
                    fields = {}
        return [event for event in found if event["event"] == found[-1]["event"]]

    def post(self, posts: list[Post]) -> None:
        """Posts to the edge, and waits until ClickHouse has all items."""
        before = self._received()
        asyncio.run(feed(self._edge, self.keys, posts))
        self._settle(before + sum(post.items for post in posts))

    def post_items(self, tenant: str, items: list[Any]) -> str:
        """Posts native items, and waits until ClickHouse has their events and rejects; the batch id."""
        headers = {"x-api-key": self.keys[tenant]}
        answer = httpx.post(f"{self._edge}{NATIVE}", json=items, headers=headers, timeout=WITHIN_S)
        assert answer.status_code in (204, 422), answer.text
        batch_id = answer.headers["x-batch-id"]

        def is_shown() -> bool:
            found = self.get(f"/operator/api/v1/batches/{batch_id}", tenant).json().get("items", [])
            refused = [item for item in found if item["outcome"] in ("conflict", "rejected")]
            outcomes = {item["outcome"] for item in found}
            return (
                bool(found)
                and not outcomes & {"on_the_way", "counted"}
                and all("errors" in item for item in refused)
            )

        wait_until(is_shown, "the items of the batch")
        return batch_id

    def post_mixed(self, tenant: str) -> str:
        """Posts a batch with one item of each outcome; returns its id."""
        self.post_items(tenant, [bet("mine-1"), bet("mine-2")])
        return self.post_items(tenant, MIXED)

    @property
    def _edge(self) -> str:
        return f"http://{self.settings.edge_host}:{self.settings.edge_port}"

    def _received(self) -> int:
        return sum(account["received"] for account in accounts(self.settings).values())

    def _settle(self, due: int) -> None:
        def settled() -> bool:
            found = accounts(self.settings).values()
            return sum(account["received"] for account in found) >= due and all(map(is_balanced, found))

        wait_until(settled, "the posts in ClickHouse")


@contextmanager
def running(home: Path, campaigns: Path = EXAMPLES) -> Iterator[Console]:
    """Runs a line in memory, a console on a folder of campaigns, and a day of 2,000 events."""
    settings = on_any_ports(Settings(data_dir=home, live_share=1))
    with Stack(settings, in_memory=True) as stack:
        command = [sys.executable, "-m", "connectors.cli", "console", "--campaigns", str(campaigns)]
        with subprocess.Popen(
            command, env=stack.environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            found = Console(
                stack.settings,
                stack.environment,
                demo_keys(Registry(settings.tenants_path)),
                process.stdout.readline().strip(),
            )

            def answers() -> bool:
                try:
                    return found.get("/").status_code == 200
                except httpx.TransportError:
                    return False

            try:
                wait_until(answers, "the console")
                found.post(day(seed=17, events=2_000))
                yield found
            finally:
                process.terminate()


def tagged(rows: list[dict[str, Any]]) -> list[Any]:
    """Items that put players of standings into the teams red and blue by turns."""
    return [
        {
            "event": "player",
            "data": {
                "unique_id": f"team-{row['player']}",
                "timestamp": "2026-03-14T01:00:00Z",
                "player_id": row["player"],
                "tags": [f"team:{('red', 'blue')[number % 2]}"],
            },
        }
        for number, row in enumerate(rows)
    ]


def as_json(items: list[Any]) -> str:
    """The body of a request, as one would paste it."""
    return json.dumps({"items": items})
