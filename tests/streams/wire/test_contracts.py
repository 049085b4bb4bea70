"""The contracts' published versions, and today's code on what they wrote."""

from pathlib import Path
from typing import Any

import pytest

from streams.wire.contracts import SCHEMA_IDS, home, published, schema, version_of, versions


def without_docs(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: without_docs(value) for key, value in node.items() if key != "doc"}
    return [without_docs(value) for value in node] if isinstance(node, list) else node


def test_every_published_file_is_listed_under_an_id_of_its_own() -> None:
    files = {path.relative_to(home() / "published") for path in home().glob("published/*/*.avsc")}
    assert files == {Path(v.contract, f"{v.number}.avsc") for v in published()}
    assert len({version.schema_id for version in published()}) == len(published())


@pytest.mark.parametrize("contract", SCHEMA_IDS)
def test_versions_count_from_one_and_the_newest_is_what_is_written_today(contract: str) -> None:
    found = versions(contract)
    assert [version.number for version in found] == list(range(1, len(found) + 1))
    assert without_docs(found[-1].schema) == without_docs(schema(contract))
    assert version_of(SCHEMA_IDS[contract]) == found[-1]


def test_an_id_that_was_never_given_has_no_version() -> None:
    assert version_of(0) is None
    assert versions("no-such-contract") == ()
