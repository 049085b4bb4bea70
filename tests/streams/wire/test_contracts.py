"""The contracts' published versions, and their records read by today's code."""

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fastavro import schemaless_writer

from streams.errors import NewerVersion
from streams.wire.avro import Reader, codec, frame
from streams.wire.contracts import (
    SCHEMA_IDS,
    contracts_directory,
    on_the_wire,
    published,
    schema,
    version_of,
    versions,
)
from tests.contracts import grown


def without_docs(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: without_docs(value) for key, value in node.items() if key != "doc"}
    return [without_docs(value) for value in node] if isinstance(node, list) else node


def test_every_published_file_is_listed_under_an_id_of_its_own() -> None:
    directory = contracts_directory() / "published"
    files = {path.relative_to(directory) for path in directory.glob("*/*.avsc")}
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


# Reading what another version has written ------------------------------------------------------

OLD = frame(1)
NEW = frame(2)


def reader(writer: dict[str, Any]) -> Reader:
    return Reader("outcome", NEW, lambda contract, frame: writer)


def outcome() -> dict[str, Any]:
    values = {"string": "t", "int": 3, "long": 1 << 40}
    bare = on_the_wire(schema("outcome"))
    return {f["name"]: values.get(str(f["type"]), "process") for f in bare["fields"]} | {
        "received_at": 7
    }


@pytest.mark.parametrize("place", [0, 5, 13])
def test_a_field_that_the_writer_had_in_any_place_is_passed_over(place: int) -> None:
    writer = grown("outcome", place, name="later", type="string", default="")
    out = BytesIO()
    schemaless_writer(out, on_the_wire(writer), outcome() | {"later": "x"})
    assert reader(writer).read(OLD + out.getvalue()) == outcome()


def test_a_field_that_the_writer_did_not_know_has_its_default() -> None:
    fields = [f for f in schema("window-changes")["fields"] if f["name"] != "position"]
    writer = schema("window-changes") | {"fields": fields}
    read = Reader("window-changes", NEW, lambda contract, frame: writer).read
    assert read(OLD + b"\x02a") == {"puts": b"a", "position": None}


def test_the_present_version_is_read_without_asking_for_its_schema() -> None:
    def nobody(contract: str, frame: bytes) -> dict[str, Any]:
        raise AssertionError

    value = NEW + codec("outcome").encode(outcome())
    assert Reader("outcome", NEW, nobody).read(value) == outcome()


def test_what_is_of_another_contract_or_not_framed_is_not_read() -> None:
    with pytest.raises(ValueError, match="written as Reject, not as the contract outcome"):
        reader(schema("reject")).read(OLD + b"x")
    with pytest.raises(ValueError, match="Confluent wire format"):
        reader(schema("outcome")).read(b"\x01rest")


def test_a_version_that_cannot_be_resolved_says_what_to_deploy() -> None:
    fields = [f for f in schema("outcome")["fields"] if f["name"] != "tenant"]
    writer = schema("outcome") | {"fields": fields}
    out = BytesIO()
    schemaless_writer(out, on_the_wire(writer), outcome())
    with pytest.raises(NewerVersion, match=r"outcome.*tenant.*Deploy here the version that wrote it"):
        reader(writer).read(OLD + out.getvalue())
