"""Makes the pictures of the page for operators in ``docs/screenshots``: ``make screenshots``."""

import tempfile
from pathlib import Path

from tests.browser import Page, browsing
from tests.connectors.console.console import MIXED, Console, as_json, running

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


def main() -> None:
    """Runs a line with a demo day, and takes each picture."""
    TO.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as home,
        running(Path(home) / "line") as console,
        browsing(Path(home) / "profile") as page,
    ):
        page.appear(SIZES["wide"], 900, "light")
        use(page, console, console.post_mixed("aurora"))
        for scheme in ("light", "dark"):
            for name, width in SIZES.items():
                page.appear(width, 900, scheme)
                page.screenshot(TO / f"operator-{name}-{scheme}.png")


if __name__ == "__main__":
    main()
