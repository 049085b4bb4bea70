"""Makes the pictures of the console's pages in ``docs/screenshots``: ``make screenshots``."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from connectors.campaigns.model.definition import load
from connectors.campaigns.settling.settle import Order, review, settle
from tests.browser import Page, browsing
from tests.connectors.console.console import EXAMPLES, MIXED, Console, as_json, running
from tests.line import bet
from tests.waiting import wait_until

TO = Path(__file__).parent.parent / "docs" / "screenshots"
SIZES = {"wide": 1280, "narrow": 390}


def use(page: Page, console: Console, batch_id: str) -> None:
    """Signs in as aurora, opens the batch, and tries another."""
    page.open(f"{console.url}/operator")
    page.tab_to("key")
    page.type(console.keys["aurora"])
    page.press("Enter")
    page.wait_for("batches", batch_id[:8])
    page.wait_for("errors", "id_conflict")
    page.tab_to("batch-id")
    page.type(batch_id)
    page.press("Enter")
    page.wait_for("found", "amount")
    page.tab_to("body")
    page.type(as_json(MIXED[2:]))
    page.press("Tab")
    page.press("Enter")
    page.wait_for("tried", "1 valid, 1 invalid")


def campaigns(folder: Path) -> Path:
    """The worked examples, some of which run until the day after tomorrow."""
    folder.mkdir()
    end = f"to: {datetime.now(UTC) + timedelta(days=2):%Y-%m-%d}"
    for path in EXAMPLES.glob("*.yaml"):
        text = path.read_text()
        if path.stem in ("afternoon-race", "turnover-race", "best-multiplier", "winning-streak"):
            text = text.replace("to: 2026-03-15", end) + "budget: 1500\n"
        if path.stem in ("knockout", "growing-pool", "team-race"):
            text = text.replace("to: 2026-03-15", end)
        (folder / path.name).write_text(text)
    return folder


def open_campaign(page: Page, console: Console) -> None:
    """Opens a race with its leader and its effect, after a bet that has moved others."""
    console.evaluated("afternoon-race")
    more = {"player_id": "au17.666-p00009", "round_id": "climb", "timestamp": "2026-03-14T15:00:00Z"}
    console.post_items("aurora", [bet("climber", 40, **more)])
    page.open(f"{console.url}/campaigns/afternoon-race")
    page.wait_for("standings", "▼")
    page.value("document.querySelector('#standings button').click()")
    page.wait_for("player-figures", "entries that counted")
    page.value("document.getElementById('measure').click()")
    page.wait_for("effect", "ngr")


def open_tournament(page: Page, console: Console) -> None:
    """Opens a tournament at its first stage."""
    console.evaluated("knockout")
    page.open(f"{console.url}/campaigns/knockout")
    page.wait_for("stage", "as of")
    page.value("document.querySelector('[data-key=\"stage 1\"]').click()")
    page.wait_for("stage", "goes on")


def open_settled(page: Page, console: Console, folder: Path) -> None:
    """Opens an occurrence that was settled, corrected, and would be other since."""
    name, day = "daily-race-2026-03-14", datetime(2026, 3, 14)
    definition, order = (
        load(folder / "daily-race.yaml", occurrence=day),
        Order("marketing", "late bets"),
    )

    def differing(most: float) -> None:
        def is_shown() -> bool:
            now = console.get(f"/api/campaigns/{name}/ledger").json().get("now") or {}
            return 0 <= now.get("differing", -1) <= most and (most < 1 or now["differing"] > 0)

        wait_until(is_shown, "the ledger")

    def late(number: int, stake: int) -> None:
        more = {"player_id": f"au17.666-p0000{number}", "timestamp": "2026-03-14T12:00:00Z"}
        console.post_items("aurora", [bet(f"late-{number}", stake, round_id=f"late-{number}", **more)])
        differing(float("inf"))

    console.evaluated(name)
    settle(console.settings, definition, order, print)
    differing(0)
    late(7, 60)
    review(console.settings, definition, order, print, publish=True)
    differing(0)
    late(6, 90)
    page.open(f"{console.url}/campaigns/{name}")
    for element_id in ("differences", "corrections", "occurrences"):
        page.wait_for(element_id, "au17")
    page.wait_for("standings", "was ")


def pictures(page: Page, name: str) -> None:
    """A picture in each size and colour scheme."""
    for scheme in ("light", "dark"):
        for size, width in SIZES.items():
            page.screenshot(TO / f"{name}-{size}-{scheme}.png", width, scheme)


def main() -> None:
    """Runs a line with a demo day, and takes each picture."""
    TO.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        with (
            running(home / "line", campaigns(home / "campaigns")) as console,
            browsing(home / "profile") as page,
        ):
            page.appear(SIZES["wide"], 900, "light")
            page.open(f"{console.url}/?tenant=aurora&by=provider&grain=day")
            for text in ("leader", "budget left"):
                page.wait_for("running", text)
            wait_until(lambda: "being computed" not in page.text("running"), "all standings")
            page.wait_for("kpi-table", "turnover")
            page.wait_for("line-figures", "items received")
            pictures(page, "campaigns")
            page.appear(SIZES["wide"], 900, "light")
            open_campaign(page, console)
            pictures(page, "campaign")
            page.appear(SIZES["wide"], 900, "light")
            open_tournament(page, console)
            pictures(page, "tournament")
            page.appear(SIZES["wide"], 900, "light")
            open_settled(page, console, home / "campaigns")
            pictures(page, "settled")
            page.appear(SIZES["wide"], 900, "light")
            use(page, console, console.post_mixed("aurora"))
            pictures(page, "operator")


if __name__ == "__main__":
    main()
