"""A change of a contract is refused if old and new releases could not read each other's records."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams.wire.avro import resolving
from streams.wire.contracts import Version, on_the_wire, published, published_in, schema
from tests.compatibility import refusals
from tests.publish import STORED, golden_path, publish, readable

ROOT = Path(__file__).parent.parent
AVRO = ROOT / "avro"

Change = Callable[[dict[str, Any]], object]


def field(schema: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(field for field in schema["fields"] if field["name"] == name)
    return found


def refused(home: Path, contract: str, change: Change) -> list[str]:
    """The refusals for a copy of ``avro/`` in which a contract was changed."""
    shutil.copytree(AVRO, home / "avro")
    path = home / "avro" / f"{contract}.avsc"
    schema = json.loads(path.read_text())
    change(schema)
    path.write_text(json.dumps(schema))
    return [str(refusal) for refusal in refusals(home / "avro", STORED)]


def test_no_contract_is_refused() -> None:
    assert [str(refusal) for refusal in refusals(AVRO, STORED)] == []


def add(**new: Any) -> Change:
    return lambda schema: schema["fields"].insert(3, {"doc": "New.", **new})


def replaced(name: str, /, **new: Any) -> Change:
    return lambda schema: field(schema, name).update(new)


CHANGES = {
    "a new field without a default": (
        "login",
        add(name="device", type="string"),
        r"login\.device: the field is new since version 1 and has no default\. .*give it a default",
    ),
    "a field that is gone": (
        "payment",
        lambda schema: schema["fields"].remove(field(schema, "event_id")),
        r"payment\.event_id: the field is gone, and consumers that know version 1 need it\. Keep it",
    ),
    "a field with another name": (
        "round",
        replaced("bet_count", name="bets"),
        r"round\.bets: the field is new.*\n.*round\.bet_count: the field is gone",
    ),
    "a type that old records are not of": (
        "outcome",
        replaced("received", type="string"),
        r"outcome\.received: the present schema cannot read it as version 1 wrote it",
    ),
    "a type that published readers do not take": (
        "outcome",
        replaced("received", type="long"),
        r"outcome\.received: consumers that know version 1 cannot read it as it is written now",
    ),
    "an enum with one symbol more": (
        "login",
        lambda schema: field(schema, "source")["type"]["symbols"].append("other"),
        r"login\.source: consumers that know version 1 .*missing_enum_symbols.*field of text beside it",
    ),
    "an enum with one symbol less": (
        "login",
        lambda schema: field(schema, "source")["type"]["symbols"].pop(),
        r"login\.source: the present schema cannot read it as version 1 wrote it",
    ),
    "another type within a record within a list": (
        "sports-bet",
        lambda schema: replaced("is_live", type="string")(field(schema, "selections")["type"]["items"]),
        r"sports-bet\.selections\.is_live: the present schema cannot read it",
    ),
    "a field without a default within a record within a map": (
        "profile",
        lambda schema: add(name="weight", type="int")(field(schema, "fields")["type"]["values"]),
        r"profile\.fields\.weight: .*Give the new field a default",
    ),
    "a field within a record that ClickHouse keeps": (
        "sports-bet",
        lambda schema: add(name="leg", type="int", default=0)(
            field(schema, "selections")["type"]["items"]
        ),
        r"sports-bet\.selections: a record in it has other fields.*add a field beside it",
    ),
    "another scale": (
        "payment",
        lambda schema: field(schema, "amount")["type"].update(scale=2),
        r"payment\.amount: its logical type is not that of version 1\. The same bytes would mean",
    ),
    "another unit of time": (
        "login",
        replaced("occurred_at", type={"type": "long", "logicalType": "timestamp-millis"}),
        r"login\.occurred_at: its logical type is not that of version 1",
    ),
    "another default": (
        "window-changes",
        lambda schema: field(schema, "position").pop("default"),
        r"window-changes\.position: its default is not that of version 1",
    ),
    "a default of another type": (
        "login",
        add(name="device", type="string", default=7),
        r"login\.device: Avro or the encoder does not take the field",
    ),
    "a type that no encoder writes": (
        "login",
        add(name="odds", type=["string", "null"], default=""),
        r"login\.odds: Avro or the encoder does not take the field .*unions of null",
    ),
    "another name of the record": (
        "login",
        lambda schema: schema.update(name="SignIn"),
        r"login: the record was called Login in version 1\. Keep its name",
    ),
    "a right change without a version of its own": (
        "login",
        add(name="device", type="string", default=""),
        r"login\.device: avro/login\.avsc is not what its newest.*an id: `make publish`",
    ),
}


@pytest.mark.parametrize(("contract", "change", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_a_change_that_breaks_a_reader_is_refused_with_its_field_and_its_mending(
    contract: str, change: Change, message: str, tmp_path: Path
) -> None:
    found = "\n".join(refused(tmp_path, contract, change))
    assert re.search(message, found), found
    assert all(line.startswith(contract) for line in found.splitlines())


def test_a_change_of_docs_is_no_other_version(tmp_path: Path) -> None:
    assert refused(tmp_path, "login", replaced("tenant", doc="The tenant.")) == []


# Versions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", published(), ids=lambda v: f"{v.contract}-{v.number}")
def test_todays_code_reads_what_every_version_wrote(version: Version) -> None:
    golden = json.loads(golden_path(ROOT, version).read_text())
    record = resolving(version.contract, version.schema)(bytes.fromhex(golden["datum"]))
    for field in on_the_wire(schema(version.contract))["fields"]:
        name = field["name"]
        written = golden["record"].get(name, readable(field.get("default")))
        assert readable(record[name]) == written, name


def test_publishing_gives_a_change_a_version_an_id_and_golden_bytes(tmp_path: Path) -> None:
    shutil.copytree(AVRO, tmp_path / "avro")
    assert publish(tmp_path, "9.9.9") == []
    for contract in ("login", "staged-chunk"):
        path = tmp_path / "avro" / f"{contract}.avsc"
        changed = json.loads(path.read_text())
        add(name="device", type="bytes", default="\u00ff")(changed)
        path.write_text(json.dumps(changed))
    newest = max(version.schema_id for version in published())
    made = publish(tmp_path, "9.9.9")
    assert [(version.contract, version.schema_id) for version in made] == [
        ("login", newest + 1),
        ("staged-chunk", newest + 2),
    ]
    assert [v for v in published_in(tmp_path / "avro") if v.release == "9.9.9"] == made
    assert list(refusals(tmp_path / "avro", STORED)) == []
    golden = json.loads(golden_path(tmp_path, made[0]).read_text())
    assert golden["record"]["device"] == {"hex": "ff01"}


def test_nothing_is_published_while_a_change_is_refused(tmp_path: Path) -> None:
    shutil.copytree(AVRO, tmp_path / "avro")
    changes = {"login": add(name="a", type="int"), "game": add(name="b", type="int", default=1)}
    for contract, change in changes.items():
        path = tmp_path / "avro" / f"{contract}.avsc"
        changed = json.loads(path.read_text())
        change(changed)
        path.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=r"login\.a: the field is new"):
        publish(tmp_path, "9.9.9")
    assert published_in(tmp_path / "avro") == published()
