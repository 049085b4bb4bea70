"""What the pages show of each form of campaign: stages, teams, steps, pools, and of the ledger."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import polars
import pytest

from connectors.campaigns import evaluation
from connectors.campaigns.evaluation import Result
from connectors.campaigns.model.definition import Campaign, load
from connectors.campaigns.settling.settle import Order, review, settle
from connectors.campaigns.standings import SCHEMA, Standings
from connectors.clickhouse.query import query_frame
from connectors.console import forms, settled
from tests.browser import BROWSER, Page, browsing
from tests.connectors.console.console import EXAMPLES, Console, running, tagged
from tests.line import bet
from tests.waiting import WITHIN_S, wait_until

AT = datetime(2026, 3, 14, 13, tzinfo=UTC)


def result_of(campaign: Campaign, **columns: list[Any]) -> Result:
    """A result with a row for each element of ``columns``; other columns say nothing."""
    rows = len(columns["player_id"])
    nothing = {
        name: [""] * rows if kind == polars.String() else [AT if name == "reached_at" else 0] * rows
        for name, kind in SCHEMA.items()
    }
    frame = polars.DataFrame(nothing | {"rank": list(range(1, rows + 1))} | columns, strict=False)
    return Result(campaign, AT, 0, Standings(frame), {})


def test_the_cut_lies_between_the_last_who_goes_on_and_the_first_who_does_not() -> None:
    campaign = load(EXAMPLES / "knockout.yaml").campaign  # eight go on, then the better half
    result = result_of(
        campaign,
        player_id=[*"abcde", *"fghij"],
        stage=[2] * 5 + [1] * 5,
        score=[90, 70, 50, 50, 10, 60, 40, 30, 20, 5],
    )
    first, second, last = forms.stages(campaign, result)
    # five of eight have played on; of the others the best three, f to h, could have
    assert (first["players"], first["going_on"]) == (10, 8)
    assert (first["last_in"], first["first_out"]) == (None, "20")
    assert (second["players"], second["going_on"]) == (5, 2)
    assert (second["last_in"], second["first_out"]) == ("70", "50")
    assert (last["players"], last["going_on"]) == (0, 0)


def test_the_budget_says_what_is_spent_left_and_unpaid_in_money_and_items() -> None:
    campaign = load(EXAMPLES / "spins-and-goods.yaml").campaign
    result = result_of(
        campaign,
        player_id=["a", "b", "c"],
        prize=[100, 0, 0],
        items=["1 cup, engraved", "20 free spins", ""],
        items_cost=[0, 2, 0],
    )
    found = forms.prizes(campaign, result)
    assert [found[name] for name in ("budget", "money", "items_cost", "spent", "left")] == [
        "130", "100", "2", "102", "28",
    ]  # fmt: skip
    assert (found["unpaid"], found["beyond"]) == (
        "0",
        1,
    )  # c has earned spins, which cost no prize money
    assert [rank["given"] for rank in found["ranks"]] == [1, 1, 0]


def test_a_row_differs_by_what_was_won_or_scored_and_not_by_its_rank_alone() -> None:
    campaign = load(EXAMPLES / "turnover-race.yaml").campaign
    before = result_of(campaign, player_id=["a", "b", "c"], score=[90, 70, 50], prize=[500, 200, 200])
    after = result_of(campaign, player_id=["new", "a", "b"], score=[95, 90, 60], prize=[500, 500, 200])
    frozen, now = before.standings.frame, after.standings.frame
    assert settled.differing(frozen, now)["player_id"].to_list() == ["b", "c"]
    assert settled.differing(now, frozen)["player_id"].to_list() == ["new", "b"]
    rows = settled.beside(frozen.with_row_index("position"), now)
    assert [(row["player"], row["differs"]) for row in rows] == [("a", False), ("b", True), ("c", True)]
    assert [row["other"] and (row["other"]["rank"], row["other"]["score"]) for row in rows] == [
        (2, "90"), (3, "60"), None,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console on the worked examples, some of whose players are in teams."""
    with running(tmp_path_factory.mktemp("forms")) as found:
        found.post_items("aurora", tagged(found.evaluated("turnover-race")["rows"]))
        yield found


def page_of(console: Console, name: str, path: str) -> dict[str, Any]:
    console.evaluated(name)
    answer = console.get(f"/api/campaigns/{name}/{path}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_each_stage_has_the_players_with_a_score_in_it_and_says_who_goes_on(console: Console) -> None:
    campaign = load(EXAMPLES / "knockout.yaml").campaign
    final = console.evaluated("knockout", "?limit=1000")
    for number, shown in enumerate(final["form_view"]["stages"], 1):
        stage = page_of(console, "knockout", f"stages/{number}?limit=1000")
        as_of = datetime.fromisoformat(stage["as_of"])
        result = evaluation.evaluate(console.settings, campaign.until_stage(number), as_of)
        placed = [each.player_id for each in result.standings if each.stage == number]
        assert [row["player"] for row in stage["rows"]] == placed
        assert shown["players"] == len(placed)
        going_on = {row["player"] for row in stage["rows"] if row["goes_on"]}
        assert len(going_on) == shown["going_on"]
        assert {row["player"] for row in final["rows"] if row["stage"] > number} <= going_on
    assert console.get("/api/campaigns/knockout/stages/4").status_code == 404


def test_teams_are_ranked_and_have_their_players_on_demand(console: Console) -> None:
    wait_until(lambda: page_of(console, "team-race", "teams")["teams"] == 2, "two teams")
    rows = page_of(console, "team-race", "teams")["rows"]
    assert [row["rank"] for row in rows] == [1, 2]
    assert {row["team"] for row in rows} == {"red", "blue"}
    for row in rows:
        players = page_of(console, "team-race", f"team?id={row['team']}")
        assert players["players"] == row["players"]
        scores = [Decimal(player["score"]) for player in players["rows"]]
        assert scores == sorted(scores, reverse=True)
        best = sum((Decimal(each["score"]) for each in players["rows"] if each["scores"]), Decimal(0))
        assert abs(best / 3 - Decimal(row["score"])) < Decimal("1e-17")
        assert sum(Decimal(player["prize"]) for player in players["rows"]) == Decimal(row["prize"])
    assert page_of(console, "team-race", "teams?search=blu")["rows"][0]["team"] == "blue"


def test_a_mission_has_a_funnel_and_each_player_its_place_in_it(console: Console) -> None:
    found = console.evaluated("welcome-path", "?limit=1000")
    steps = [row["step"] for row in found["rows"]]
    assert [step["reached"] for step in found["form_view"]["steps"]] == [
        sum(step >= number for step in steps) for number in (1, 2, 3)
    ]
    leader = found["rows"][0]
    shown = page_of(console, "welcome-path", f"player?id={leader['player']}")["steps"]
    assert sum(step["is_reached"] for step in shown) == leader["step"]
    assert [step["measure"] for step in shown] == ["deposits", "turnover", "rounds"]


def test_an_occurrence_that_is_settled_has_its_ledger_and_what_differs_since(console: Console) -> None:
    name, definition = "daily-race-2026-03-14", load(
        EXAMPLES / "daily-race.yaml", occurrence=datetime(2026, 3, 14)
    )  # fmt: skip
    assert page_of(console, name, "ledger") == {"settlements": []}
    order = Order(by="marketing", reason="a bet came late")
    settled = settle(console.settings, definition, order, print).settlement

    def ledger() -> dict[str, Any]:
        return page_of(console, name, "ledger")

    def compared() -> bool:
        found = ledger()
        return bool(found["settlements"]) and found["now"]["reason"] is None

    wait_until(compared, "the awards in ClickHouse")
    found = ledger()
    [first] = found["settlements"]
    assert (first["result_sha256"], first["settled_by"]) == (settled.result_sha256, "marketing")
    assert (found["is_same_definition"], found["now"]["differing"]) == (True, 0)
    intact = httpx.post(f"{console.url}/api/campaigns/{name}/hash", timeout=WITHIN_S)
    assert intact.json() == {"is_intact": True}
    awarded = [row for row in console.evaluated(name)["rows"] if Decimal(row["prize"])]
    occurrences = console.get(f"/api/campaigns/{name}/occurrences").json()
    assert [each["name"][-2:] for each in occurrences] == ["14", "13", "12"]
    assert [each["player"] for each in occurrences[0]["winners"]] == [
        row["player"] for row in awarded[:3]
    ]
    assert [bool(each["settled_at"]) for each in occurrences] == [True, False, False]

    late = {"player_id": "late", "round_id": "late", "timestamp": "2026-03-14T12:00:00Z"}
    console.post_items("aurora", [bet("late", 100_000, **late)])
    wait_until(lambda: ledger()["now"]["differing"] > 0, "what differs")
    assert {"player": "late", "step": 0, "before": "0", "after": "50"} in ledger()["now"]["differences"]
    corrected = review(console.settings, definition, order, print, publish=True)
    wait_until(lambda: ledger()["corrections_in_all"] == len(corrected.differences), "the corrections")
    wait_until(lambda: ledger()["now"].get("differing") == 0, "nothing that differs")
    corrections = ledger()["corrections"]
    assert {row["reason"] for row in corrections} == {"a bet came late"}
    assert ("late", "0", "50") in {(row["player"], row["before"], row["after"]) for row in corrections}
    first_now = console.get(f"/api/campaigns/{name}/occurrences").json()[0]["winners"][0]
    assert first_now == {"player": "late", "prize": "50"}


@pytest.fixture(scope="module")
def race(console: Console) -> str:
    """A race that was settled; a bet that came later makes its player the first."""
    name = "turnover-race"
    settle(console.settings, load(EXAMPLES / f"{name}.yaml"), Order("marketing"), print)
    late = bet("later", 200_000, player_id="later", round_id="later")
    console.post_items("aurora", [late])
    wait_until(lambda: console.evaluated(name)["rows"][0]["player"] == "later", "the late bet")
    wait_until(lambda: page_of(console, name, "ledger")["settlements"], "the settlement in ClickHouse")
    return name


def test_standings_that_were_settled_come_in_pages_beside_those_of_now(
    console: Console, race: str
) -> None:
    def asked(query: str) -> dict[str, Any]:
        return page_of(console, race, f"settlements/0?{query}")

    [settlement] = page_of(console, race, "ledger")["settlements"]
    frozen = asked("limit=1000")
    assert frozen["players"] == settlement["players"] == len(frozen["rows"])
    assert sum(Decimal(row["prize"]) for row in frozen["rows"]) == Decimal(settlement["prizes"])
    stored = query_frame(console.settings, frozen["sql"])
    assert [row["player"] for row in frozen["rows"]] == stored["player_id"].to_list()
    unlike = [row for row in frozen["rows"] if row["differs"]]
    assert asked("limit=1000&differing=1")["rows"] == unlike
    assert (frozen["differing"], asked("differing=1")["in_all"]) == (len(unlike), len(unlike))
    first, second, third = frozen["rows"][:3]  # ranks 2 and 3 have the same prize
    assert (first["prize"], first["other"]["prize"], first["differs"]) == ("500", "200", True)
    assert (second["rank"], second["other"]["rank"], second["differs"]) == (2, 3, False)
    assert (third["prize"], third["other"]["prize"], third["differs"]) == ("200", "25", True)
    assert asked("limit=2&offset=1")["rows"] == frozen["rows"][1:3]
    assert asked(f"search={second['player']}")["rows"] == [second]

    now = asked("side=now&limit=1000")
    assert [row["player"] for row in now["rows"]] == [
        row["player"] for row in console.evaluated(race, "?limit=1000")["rows"]
    ]
    assert (now["rows"][0]["player"], now["rows"][0]["other"]) == ("later", None)
    assert asked("side=now&differing=1&limit=1")["rows"] == now["rows"][:1]
    assert console.get(f"/api/campaigns/{race}/settlements/1").status_code == 404


def audited(page: Page, console: Console, path: str, waits: dict[str, str]) -> None:
    """Opens a page, waits for texts of elements, and looks at it in both colours and three widths, and
    at what moves if its viewer has asked for less motion.
    """
    page.open(f"{console.url}{path}")
    for element_id, part in waits.items():
        page.wait_for(element_id, part)
    for scheme in ("light", "dark"):
        for width in (390, 768, 1600):
            page.appear(width, 900, scheme)
            assert page.value("document.documentElement.scrollWidth") <= width
        assert page.problems() == []
    page.appear(1280, 900, "light", still=True)
    assert page.moving() == []
    page.appear(1280, 900, "light")


def chosen(page: Page, element_id: str, value: str) -> None:
    """Chooses an option of a list."""
    page.value(
        f"document.getElementById({element_id!r}).value = {value!r};"
        f"document.getElementById({element_id!r}).dispatchEvent(new Event('change', {{bubbles: true}}))"
    )


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH")
def test_a_browser_shows_what_each_form_adds(console: Console, race: str, tmp_path: Path) -> None:
    for name in ("knockout", "team-race", "welcome-path", "growing-pool", "spins-and-goods"):
        console.evaluated(name)
    with browsing(tmp_path) as page:
        page.appear(1280, 900, "light")
        audited(page, console, "/?tenant=aurora&by=game&grain=day", {"kpi-table": "turnover"})
        assert page.moving() == [".fresh"]
        page.value("document.querySelector('[data-key=\"sort ggr\"]').focus()")
        page.press("Enter")
        wait_until(lambda: page.value("document.querySelector('th[aria-sort]')?.innerText") == "GGR ▼")
        assert page.value("document.activeElement.dataset.key") == "sort ggr"
        page.value("document.querySelector('#kpi-sql').closest('details').open = true")
        assert "kpi_play_between(grain = 'day', by = 'game'" in page.text("kpi-sql")
        chosen(page, "of", "cash")
        page.wait_for("kpi-sql", "kpi_cash(grain = 'day', by = 'tenant'")  # cash has no games
        page.wait_for("kpi-table", "deposited")
        audited(page, console, "/?tenant=aurora&of=cash&by=method&grain=day", {"kpi-sums": "withdrawn"})

        audited(page, console, "/campaigns/knockout", {"stages": "the best 8", "stage": "as of"})
        page.value("document.querySelector('[data-key=\"stage 1\"]').focus()")
        page.press("Enter")
        page.wait_for("stage", "stage 1")
        page.wait_for("stage", "goes on")
        audited(page, console, "/campaigns/team-race", {"teams": "red"})
        page.value("document.querySelector('[data-key=\"team red\"]').click()")
        page.wait_for("members", "in the team's score")
        audited(
            page,
            console,
            "/campaigns/welcome-path",
            {"steps": "reached it", "prizes-section": "budget"},
        )
        page.value("document.querySelector('#standings button').click()")
        page.wait_for("player-steps", "reached")
        audited(page, console, "/campaigns/growing-pool", {"pool-words": "2 % of what"})
        audited(page, console, "/campaigns/spins-and-goods", {"prizes": "20 free spins"})
        audited(
            page, console, "/campaigns/daily-race-2026-03-14", {"occurrences": "daily-race-2026-03-12"}
        )
        audited(page, console, f"/campaigns/{race}", {"standings": "was not in the standings"})
        chosen(page, "side", "0")
        page.wait_for("standings", "now 3")
        assert "later" not in page.text("standings")
        audited(page, console, "/operator", {"sign-in": "API key"})
        assert page.text("problems") == ""
        assert page.errors == []
        assert all(url.startswith((console.url, "data:")) for url in page.requested)
