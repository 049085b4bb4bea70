"""The hash of a stored result can be computed with the commands of the page."""

from pathlib import Path

from connectors.campaigns.stored import run_query, standings_query

PAGE = Path(__file__).parent.parent.parent.parent / "docs" / "campaigns.md"


def test_the_page_has_the_queries_whose_answers_are_hashed() -> None:
    text = PAGE.read_text()
    for query in (standings_query("$RUN"), run_query("$RUN")):
        assert f'roundhouse sql "{query}" --format tsv | sha256sum' in text
