"""The console: its JSON is compared with the database, and its pages are rendered by a browser."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.routing import Route

from connectors.campaigns import evaluation
from connectors.campaigns.definition import load
from connectors.console import operator
from connectors.console.app import PAGE, create_app
from connectors.demo.day import NATIVE, Post
from connectors.demo.run import accounts
from connectors.edge.tenants import Grant, Registry
from connectors.status.mending import MENDING
from streams.settings import Settings
from tests.browser import BROWSER, browsing
from tests.connectors.console.console import MIXED, ROOT, Console, as_json, running
from tests.line import bet
from tests.waiting import WITHIN_S, wait_until

EXAMPLES = ROOT / "connectors" / "campaigns" / "examples"


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console on the worked examples."""
    with running(tmp_path_factory.mktemp("console")) as found:
        yield found


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


@pytest.mark.parametrize("page", [PAGE, operator.PAGE], ids=lambda page: page.stem)
def test_a_page_asks_nobody_but_its_own_server(page: Path) -> None:
    text = page.read_text()
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


# The page for operators ----------------------------------------------------------------------


def test_questions_of_the_page_need_a_key_that_may_read(console: Console) -> None:
    assert console.get("/operator").status_code == 200
    for path in ("batches", "errors", "api/v1/batches/x", "api/v1/events/native/login/x"):
        assert console.get(f"/operator/{path}").json()["code"] == "no_key"
    posts_only = Registry(console.settings.tenants_path).rotate("aurora", Grant(("post",)))
    answer = httpx.get(f"{console.url}/operator/batches", headers={"x-api-key": posts_only})
    assert (answer.status_code, answer.json()["code"]) == (403, "wrong_scope")


def test_the_newest_batches_and_errors_are_those_of_the_keys_tenant(console: Console) -> None:
    batch_id = console.post_items("borealis", [bet("b-1"), bet("b-2", currency="euro"), bet("b-1")])
    shown = console.get("/operator/batches", "borealis").json()
    assert shown["tenant"] == "borealis"
    assert shown["batches"][0] | {"received_at": ""} == {
        "batch_id": batch_id, "source": "native", "received_at": "", "received": 3, "accepted": 1,
        "duplicate": 1, "conflict": 0, "rejected": 1, "on_the_way": 0,
    }  # fmt: skip
    assert 1 < len(shown["batches"]) <= 20
    times = [batch["received_at"] for batch in shown["batches"]]
    assert times == sorted(times, reverse=True)
    others = console.get("/operator/batches", "aurora").json()["batches"]
    assert batch_id not in {batch["batch_id"] for batch in others}
    errors = {
        error["code"]: error for error in console.get("/operator/errors", "borealis").json()["errors"]
    }
    example = errors["malformed"]["example"]
    assert (example["batch_id"], example["index"]) == (batch_id, 1)
    assert json.loads(example["item"])["data"]["unique_id"] == "b-2"
    assert errors["malformed"]["mend"] == MENDING["malformed"]


def test_a_pasted_batch_is_tried_and_not_stored(console: Console) -> None:
    def tried(body: str, source: str = "native") -> httpx.Response:
        return httpx.post(
            f"{console.url}/operator/dry-run/{source}",
            content=body,
            headers={"x-api-key": console.keys["aurora"]},
        )

    found = tried(as_json([bet("t-1"), bet("t-2", currency="euro")])).json()
    assert (found["valid"], found["invalid"]) == (1, 1)
    assert found["items"][0]["idempotency_key"]["tenant"] == "aurora"
    assert (tried("{").status_code, tried("{").json()["code"]) == (400, "not_json")
    assert tried("{}", "other").status_code == 404
    events = "/operator/api/v1/events/native/gameround/t-1"
    assert console.get(events, "aurora").json()["code"] == "unknown_event_id"


def test_without_the_page_for_the_team_every_question_needs_a_key(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path), EXAMPLES, operators_only=True)
    paths = {route.path for route in app.routes if isinstance(route, Route)}
    assert all(path.startswith("/operator") for path in paths)


def test_the_page_admits_its_own_script_alone(console: Console) -> None:
    headers = console.get("/operator").headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; connect-src 'self'")
    assert "unsafe" not in policy
    assert headers["cache-control"] == "no-store"


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH")
def test_an_operator_uses_the_page_with_the_keyboard(console: Console, tmp_path: Path) -> None:
    batch_id = console.post_mixed("aurora")
    key = console.keys["aurora"]
    with browsing(tmp_path) as page:
        page.appear(1280, 900, "light")
        page.open(f"{console.url}/operator")
        page.tab_to("key")
        page.type("rh_0_wrong")
        page.press("Enter")
        page.wait_for("state", "unknown or was revoked")
        page.tab_to("key")
        page.type(key)
        page.press("Enter")
        page.wait_for("batches", batch_id[:8])
        assert page.text("tenant") == "aurora"
        page.wait_for("errors", f"To mend it: {MENDING['id_conflict']}")

        page.tab_to("batch-id")
        page.type(batch_id)
        page.press("Enter")
        page.wait_for("found", "received 4, accepted 1, duplicate 1, conflict 1, rejected 1")
        assert "amount\t1\t5" in page.text("found")
        assert MENDING["malformed"] in page.text("found")

        page.tab_to("event-id")
        page.type("mine-2")
        page.press("Enter")
        page.wait_for("found", "gameround mine-2")
        assert "id_conflict" in page.text("found")

        page.tab_to("body")
        page.type(as_json([*MIXED, bet("tried")]))
        page.press("Tab")
        page.press("Enter")
        page.wait_for("tried", "5 items: 4 valid, 1 invalid")

        newer = console.post_items("aurora", [bet("mine-5", player_id="<img src=x onerror=alert(1)>")])
        page.wait_for("batches", newer[:8])  # the page asks again by itself

        for width in (360, 768, 1600):
            page.appear(width, 800, "dark")
            assert page.value("document.documentElement.scrollWidth") <= width
        stored = page.value("JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie])")
        assert json.loads(stored) == [{"api-key": key}, {}, ""]
        assert key not in page.value("location.href + document.documentElement.outerHTML")
        page.tab_to("forget")
        page.press("Enter")
        wait_until(lambda: page.value("document.getElementById('page').hidden") is True)
        assert page.value("sessionStorage.length") == 0
        assert page.errors == []
        assert all(url.startswith((console.url, "data:")) for url in page.requested)
        assert not any(key in url for url in page.requested)
