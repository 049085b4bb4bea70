"""The console: its JSON is compared with the database, and its page is rendered by a browser."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from connectors.campaigns import evaluation
from connectors.campaigns.definition import load
from connectors.console.app import PAGE
from connectors.demo.day import NATIVE, Post, day
from connectors.demo.feed import feed
from connectors.demo.run import accounts, demo_keys, is_balanced
from connectors.edge.tenants import Registry
from connectors.local.stack import Stack, on_any_ports
from streams.settings import Settings
from tests.waiting import WITHIN_S, wait_until

ROOT = Path(__file__).parent.parent.parent.parent
EXAMPLES = ROOT / "connectors" / "campaigns" / "examples"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass
class Console:
    """A console on a line that has processed a day."""

    settings: Settings
    keys: dict[str, str]
    url: str

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=WITHIN_S)

    def post(self, posts: list[Post]) -> None:
        url = f"http://{self.settings.edge_host}:{self.settings.edge_port}"
        before = sum(account["received"] for account in accounts(self.settings).values())
        asyncio.run(feed(url, self.keys, posts))
        due = before + sum(post.items for post in posts)

        def settled() -> bool:
            found = accounts(self.settings).values()
            return sum(account["received"] for account in found) >= due and all(map(is_balanced, found))

        wait_until(settled, "the posts in ClickHouse")


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console on the worked examples."""
    settings = on_any_ports(Settings(data_dir=tmp_path_factory.mktemp("console")))
    with Stack(settings, in_memory=True) as stack:
        command = [sys.executable, "-m", "connectors.cli", "console"]
        with subprocess.Popen(
            command, env=stack.environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            found = Console(
                stack.settings,
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


def test_the_overview_names_campaigns_and_tenants(console: Console) -> None:
    overview = console.get("/api/overview").json()
    assert {entry["name"] for entry in overview["campaigns"]} == {
        p.stem for p in EXAMPLES.glob("*.yaml")
    }
    assert overview["tenants"] == ["aurora", "borealis", "cascade"]
    assert overview["wrong"] == []


def test_standings_are_the_evaluations(console: Console) -> None:
    shown = console.get("/api/standings/turnover-race?top=3").json()
    campaign = load(EXAMPLES / "turnover-race.yaml").campaign
    result = evaluation.evaluate(console.settings, campaign)
    assert [(s["rank"], s["player"]) for s in shown["standings"]] == [
        (s.rank, s.player_id) for s in result.standings[:3]
    ]
    assert shown["players"] == len(result.standings)
    assert (shown["state"], shown["tenant"], shown["currency"]) == ("over", "aurora", "EUR")


def test_the_line_is_shown_with_its_accounts_and_how_far_it_is_behind(console: Console) -> None:
    answer = console.get("/api/line")
    assert answer.status_code == 200, answer.text
    wait_until(lambda: set(console.get("/api/line").json()["lag"].values()) == {0}, "no lag")
    shown = console.get("/api/line").json()
    now = accounts(console.settings)
    assert {row["tenant"]: row["received"] for row in shown["accounts"]} == {
        name: account["received"] for name, account in now.items()
    }
    assert sum(row["items"] for row in shown["minutes"]) == sum(a["received"] for a in now.values())
    assert set(shown["lag"]) == {"translate", "process", "sink"}


def test_kpis_come_in_the_order_of_time(console: Console) -> None:
    rows = console.get("/api/kpis/aurora?grain=hour").json()
    assert [row["period"] for row in rows] == sorted(row["period"] for row in rows)
    assert len(rows) > 5


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/standings/nobody", 404),
        ("/api/standings/turnover-race?top=0", 400),
        ("/api/kpis/aurora?grain=century", 400),
        ("/api/kpis/'; DROP TABLE rounds_rows", 200),
        ("/nothing", 404),
    ],
)
def test_wrong_questions_are_answered_as_such(path: str, status: int, console: Console) -> None:
    assert console.get(path).status_code == status
    assert console.get("/api/kpis/aurora").json()


def test_the_page_asks_nobody_but_its_own_server() -> None:
    text = PAGE.read_text()
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text
    assert "<script src" not in text
    assert '<link rel="stylesheet' not in text


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH")
def test_a_browser_shows_leader_charts_and_accounts(console: Console, tmp_path: Path) -> None:
    def shown() -> str:
        assert BROWSER
        command = [
            BROWSER,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ]
        command += [f"--user-data-dir={tmp_path}", "--virtual-time-budget=6000", "--dump-dom"]
        command += [f"{console.url}/?campaign=turnover-race&tenant=aurora"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=True)
        return result.stdout

    page = shown()
    standings = console.get("/api/standings/turnover-race").json()
    assert standings["standings"][0]["player"] in page
    assert 'aria-label="turnover EUR and GGR over time"' in page
    assert page.count("<polyline") >= 3
    assert "items received" in page
    assert 'class="wrong"' not in page

    bet = {
        "unique_id": "whale", "timestamp": "2026-03-14T23:00:00Z", "player_id": "the-whale",
        "game_id": "g", "round_id": "whale", "amount": 1_000_000, "currency": "EUR",
        "is_win": False, "is_bonus": False,
    }  # fmt: skip
    body = json.dumps({"items": [{"event": "gameround", "data": bet}]}).encode()
    console.post([Post("aurora", NATIVE, body, 1, 0)])
    page = shown()
    table = page[page.index('id="standings"') :]
    assert table.index("the-whale") < table.index(standings["standings"][0]["player"])
