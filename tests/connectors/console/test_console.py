"""The console: its JSON is compared with the database, and its pages are rendered by a browser."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from connectors.campaigns import evaluation
from connectors.campaigns.folder import Definitions
from connectors.campaigns.live import SETTLES_WITHIN, Live, Snapshot
from connectors.campaigns.model.definition import load
from connectors.clickhouse.query import query_rows
from connectors.console import operator
from connectors.console.app import PAGE, STATIC, create_app
from connectors.demo.run import accounts
from connectors.edge.tenants import Grant, Registry
from connectors.status.mending import MENDING
from streams.settings import Settings
from tests.browser import BROWSER, browsing
from tests.connectors.console.console import EXAMPLES, MIXED, Console, as_json, running
from tests.line import bet
from tests.waiting import WITHIN_S, wait_until


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console on the worked examples."""
    with running(tmp_path_factory.mktemp("console")) as found:
        yield found


def test_the_stream_names_campaigns_and_problems(console: Console) -> None:
    [overview] = console.told(lambda event: event["event"] == "overview")
    assert overview["data"] == {
        "names": sorted(c.name for c in Definitions(EXAMPLES).campaigns()),
        "wrong": [],
        "login": False,
    }
    assert console.get("/api/tenants").json()["tenants"] == ["aurora", "borealis", "cascade"]


def test_standings_are_the_evaluations(console: Console) -> None:
    campaign = load(EXAMPLES / "turnover-race.yaml").campaign
    shown = console.evaluated("turnover-race", "?limit=3&offset=1")
    as_of = datetime.fromisoformat(shown["standings"]["as_of"])
    result = evaluation.evaluate(console.settings, campaign, as_of)
    assert [(row["rank"], row["player"], Decimal(row["score"])) for row in shown["rows"]] == [
        (s.rank, s.player_id, s.score) for s in result.standings[1:4]
    ]
    assert shown["standings"]["players"] == len(result.standings)
    assert shown["standings"]["left_out"] == result.left_out
    assert (shown["state"], shown["tenant"], shown["currency"]) == ("over", "aurora", "EUR")


def test_a_players_view_has_its_standing_and_the_rule_for_each_entry(console: Console) -> None:
    leader = console.evaluated("turnover-race", "?limit=1")["rows"][0]
    shown = console.get(f"/api/campaigns/turnover-race/player?id={leader['player']}").json()
    assert shown["standing"] == leader
    assert shown["verdicts"]["counts"] == leader["entries"]
    counted = [row for row in shown["entries"] if row["verdict"] == "counts"]
    assert sum(Decimal(row["amount"]) for row in counted) == Decimal(leader["score"])
    nobody = console.get("/api/campaigns/turnover-race/player?id=nobody").json()
    assert (nobody["standing"], nobody["entries"]) == (None, [])


def test_an_effect_is_computed_on_demand_or_the_reason_is_given(console: Console) -> None:
    def effect_of(name: str) -> httpx.Response:
        console.evaluated(name)
        return httpx.post(f"{console.url}/api/campaigns/{name}/effect", timeout=WITHIN_S)

    answer = effect_of("turnover-race")
    assert answer.status_code == 503
    assert "too few to compare" in answer.json()["error"]  # nobody played before the one day
    found = effect_of("afternoon-race").json()
    assert (found["design"], found["treated"] > 1, found["control"] > 1) == ("hold-out", True, True)
    assert found["estimates"][0]["plain"]["low"] < found["estimates"][0]["plain"]["high"]


def test_a_campaign_is_evaluated_again_when_something_of_its_tenant_was_received(
    console: Console,
) -> None:
    campaign = load(EXAMPLES / "turnover-race.yaml").campaign
    published: list[Snapshot] = []
    live = Live(console.settings, lambda: [campaign], published.append)
    during = campaign.period.utc()[0]

    def look(now: float) -> bool:
        return live.look(datetime.now(UTC) + SETTLES_WITHIN, now)

    assert not look(0)  # it is over
    live.look(during, 0)
    live.snapshot("turnover-race")
    asked = time.monotonic()
    wait_until(lambda: not look(asked) and not published[-1].result.unsettled, "all is settled")
    looks = len(published)
    assert not look(asked + 100)
    console.post_items("borealis", [bet("of-another-tenant")])
    assert not look(asked + 200)
    console.post_items("aurora", [bet("of-this-tenant")])
    wait_until(lambda: look(asked + 300), "another look")
    assert len(published) == looks + 1


def test_the_line_is_told_with_its_accounts_and_how_far_it_is_behind(console: Console) -> None:
    def is_level(event: dict[str, Any]) -> bool:
        return event["event"] == "line" and set(event["data"]["lag"].values()) == {0}

    shown = console.told(is_level)[-1]["data"]
    now = accounts(console.settings)
    assert {row["tenant"]: row["received"] for row in shown["accounts"]} == {
        name: account["received"] for name, account in now.items()
    }
    assert sum(row["items"] for row in shown["minutes"]) == sum(a["received"] for a in now.values())
    assert set(shown["lag"]) == {"translate", "process", "sink"}


def test_kpis_are_sorted_paged_and_summed_as_their_query_says(console: Console) -> None:
    def asked(query: str) -> dict[str, Any]:
        found: dict[str, Any] = console.get(f"/api/kpis/aurora?{query}").json()
        return found

    hours = asked("grain=hour")
    assert [row["period"] for row in hours["rows"]] == sorted(
        (row["period"] for row in hours["rows"]), reverse=True
    )
    games = asked("grain=day&by=game&sort=ggr&order=asc&limit=1000")
    assert len({row["value"] for row in games["rows"]}) > 5
    assert any(row["name"] for row in games["rows"])
    earned = [Decimal(row["ggr"]) for row in games["rows"]]
    assert earned == sorted(earned)
    second = asked("grain=day&by=game&sort=ggr&order=asc&limit=2&offset=2")
    assert second["rows"] == games["rows"][2:4]
    assert second["rows_in_all"] == len(games["rows"])
    lines = console.get("/api/kpis/aurora/csv?grain=day&by=game").text.splitlines()
    assert len(lines) == len(games["rows"]) + 1

    by_hand = {
        row["currency"]: (int(row["rounds"]), Decimal(row["stake"]), Decimal(row["earned"]))
        for row in query_rows(
            console.settings,
            "SELECT toString(currency) AS currency, count() AS rounds, toString(sum(rounds.stake)) "
            "AS stake, toString(sum(rounds.ggr)) AS earned FROM rounds WHERE tenant = 'aurora' "
            f"AND toDate(first_event_at) BETWEEN '{games['first']}' AND '{games['last']}' "
            "GROUP BY currency",
        )
    }
    for found in (hours, games):
        sums = {
            row["currency"]: (row["rounds"], Decimal(row["turnover"]), Decimal(row["ggr"]))
            for row in found["sums"]
        }
        assert sums == by_hand
    again = query_rows(console.settings, games["sql"])
    assert sorted(Decimal(row["ggr"]) for row in again) == earned


def test_kpis_of_cash_are_the_successful_payments(console: Console) -> None:
    def asked(query: str) -> dict[str, Any]:
        found: dict[str, Any] = console.get(f"/api/kpis/aurora?of=cash&grain=day&{query}").json()
        return found

    moved: dict[str, Any] = {"player_id": "p-1", "timestamp": "2026-03-14T12:00:00Z", "currency": "EUR"}
    moved |= {"amount": 30, "amount_eur": 30.0, "method": "bank"}
    console.post_items(
        "aurora",
        [
            {"event": kind, "data": {"unique_id": f"bank-{kind}", **moved}}
            for kind in ("deposit", "withdraw")
        ],
    )
    methods = asked("by=method&sort=deposited&order=asc&limit=1000")
    deposited = [Decimal(row["deposited"]) for row in methods["rows"]]
    assert deposited == sorted(deposited)
    assert {row["value"] for row in methods["rows"]} == {"bank", "card"}
    second = asked("by=method&sort=deposited&order=asc&limit=1&offset=1")
    assert (second["rows"], second["rows_in_all"]) == (methods["rows"][1:2], len(deposited))
    lines = console.get("/api/kpis/aurora/csv?of=cash&grain=day&by=method").text.splitlines()
    assert len(lines) == len(methods["rows"]) + 1
    again = query_rows(console.settings, methods["sql"])
    assert sorted(Decimal(row["deposited"]) for row in again) == deposited

    first: dict[tuple[str, str, str], tuple[str, str, Decimal]] = {}  # a payment has several states
    for row in query_rows(
        console.settings,
        "SELECT player_id, payment_id, direction, toString(currency) AS currency, "
        "toString(toDate(occurred_at)) AS day, toString(amount) AS amount FROM payments "
        "WHERE tenant = 'aurora' AND successful ORDER BY occurred_at, source_event, event_id",
    ):
        key = row["player_id"], row["payment_id"], row["direction"]
        first.setdefault(key, (row["day"], row["currency"], Decimal(row["amount"])))
    sums: dict[str, list[Any]] = {}
    for (_, _, direction), (day, currency, amount) in first.items():
        if methods["first"] <= day <= methods["last"] and direction in ("deposit", "withdrawal"):
            total = sums.setdefault(currency, [0, Decimal(0), 0, Decimal(0)])
            at = 0 if direction == "deposit" else 2
            total[at] += 1
            total[at + 1] += amount
    for found in (methods, asked("by=tenant"), asked("by=country")):
        assert {
            row["currency"]: [
                row["deposits"], Decimal(row["deposited"]),
                row["withdrawals"], Decimal(row["withdrawn"]),
            ]
            for row in found["sums"]
        } == sums  # fmt: skip
    one_day = asked(f"by=tenant&first={methods['last']}&last={methods['last']}")
    assert {row["period"][:10] for row in one_day["rows"]} == {methods["last"]}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/campaigns/nobody", 404),
        ("/api/campaigns/nobody/player?id=x", 404),
        ("/api/campaigns/turnover-race?limit=0", 400),
        ("/api/campaigns/turnover-race?limit=1001", 400),
        ("/api/campaigns/turnover-race?offset=-1", 400),
        ("/api/kpis/aurora?grain=century", 400),
        ("/api/kpis/aurora?by=moon", 400),
        ("/api/kpis/aurora?sort=moon", 400),
        ("/api/kpis/aurora?first=2026-02-30", 400),
        ("/api/kpis/aurora?of=moon", 400),
        ("/api/kpis/aurora?of=cash&by=game", 400),
        ("/api/kpis/aurora?of=cash&sort=ggr", 400),
        ("/api/campaigns/turnover-race/settlements/0?side=moon", 400),
        ("/api/campaigns/nobody/settlements/0", 404),
        ("/api/kpis/aurora/csv?grain=century", 400),
        ("/api/campaigns/turnover-race/teams?limit=0", 400),
        ("/api/campaigns/nobody/ledger", 404),
        ("/api/campaigns/nobody/occurrences", 200),
        ("/static/../app.py", 404),
        ("/api/kpis/'; DROP TABLE rounds_rows", 200),
        ("/nothing", 404),
    ],
)
def test_wrong_questions_are_answered_as_such(path: str, status: int, console: Console) -> None:
    assert console.get(path).status_code == status
    assert console.get("/api/kpis/aurora").json()["rows"]


FILES = [PAGE, operator.PAGE, PAGE.parent / "login.html", *STATIC.iterdir()]


@pytest.mark.parametrize("page", FILES, ids=lambda page: page.name)
def test_a_page_asks_nobody_but_its_own_server(page: Path) -> None:
    text = page.read_text()
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text
    assert not re.search(r'(src|href)="(?!/|data:,"|\$)', text)


def test_the_page_of_campaigns_admits_its_own_files_alone(console: Console) -> None:
    for path in ("/", "/campaigns/turnover-race"):
        policy = console.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
    assert console.get("/static/console.js").headers["content-type"].startswith("text/javascript")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH")
def test_a_browser_shows_the_campaigns_and_their_movement(console: Console, tmp_path: Path) -> None:
    with browsing(tmp_path) as page:
        page.appear(1280, 900, "light")
        page.open(f"{console.url}/?tenant=aurora")
        page.wait_for("over", "Turnover race")
        page.wait_for("line-figures", "items received")
        page.wait_for("kpi-figures", "active players")
        assert page.value("document.querySelectorAll('#kpi-chart polyline').length") == 2
        page.value("document.getElementById('by').value = 'game'")
        page.value("document.getElementById('kpi-form').dispatchEvent(new Event('change'))")
        page.wait_for("kpi-table", "turnover")

        page.open(f"{console.url}/campaigns/turnover-race")
        page.wait_for("figures", "players with a score")
        leader = console.evaluated("turnover-race", "?limit=1")["rows"][0]["player"]
        page.wait_for("standings", leader)
        assert "bonus money" in page.text("left-out")
        page.tab_to("search")
        page.type(leader)
        page.press("Enter")
        page.wait_for("standings-pages", "whose id has")
        page.press("Tab")
        page.value("document.querySelector('#standings button').focus()")
        page.press("Enter")
        page.wait_for("player-figures", "entries that counted")
        assert page.value("document.activeElement.id") == "player-section"
        page.wait_for("verdicts", "counts")
        page.value("document.getElementById('measure').focus()")
        page.press("Enter")
        page.wait_for("effect-state", "too few to compare")
        page.open(f"{console.url}/campaigns/afternoon-race")
        page.wait_for("standings", "turnover")
        page.value("document.getElementById('measure').click()")
        page.wait_for("effect", "ngr")
        assert re.search(r"\d+\.\d\d \[.+, .+\]", page.text("effect"))

        console.post_items("aurora", [bet("whale", 1_000_000, player_id="<b>the-whale", round_id="w")])
        page.open(f"{console.url}/campaigns/turnover-race")
        page.wait_for("standings", "<b>the-whale")  # the page is told; it does not ask again
        page.wait_for("standings", "new")
        first = page.value("document.querySelector('#standings tbody tr').innerText")
        assert "<b>the-whale" in first
        for width in (360, 768, 1600):
            page.appear(width, 800, "dark")
            assert page.value("document.documentElement.scrollWidth") <= width
        assert page.text("problems") == ""
        assert page.errors == []
        assert all(url.startswith((console.url, "data:")) for url in page.requested)


def test_a_console_with_an_open_page_ends_when_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "campaigns").mkdir()
    environment = os.environ | {"ROUNDHOUSE_DATA_DIR": str(tmp_path), "ROUNDHOUSE_CONSOLE_PORT": "0"}
    command = [sys.executable, "-m", "connectors.cli", "console", "--campaigns"]
    with subprocess.Popen(
        [*command, str(tmp_path / "campaigns")], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        url = process.stdout.readline().strip()

        def answers() -> bool:
            try:
                return httpx.get(url).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answers, "the console")
        with httpx.stream("GET", f"{url}/api/stream", timeout=WITHIN_S) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "retry: 2000"
            process.terminate()
            for _ in lines:  # the answer has an end
                pass
        assert process.wait(WITHIN_S) == 0


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
    app = create_app(Settings(data_dir=tmp_path), None)
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
