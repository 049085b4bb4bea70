"""Finds the changes of a contract that must be refused: the field, the reason, and the remedy.

Old and new releases run side by side, and topics have records of both: the present schema must read the
records of every published version (backward), and every published version those of the present one
(forward). Apache Avro's own checker decides that, field by field; it ignores logical types, changed
defaults and ClickHouse's tables, so these are compared here.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaIncompatibilityType
from avro.errors import AvroException
from avro.schema import parse

from streams.wire.avro_encoder import encoder
from streams.wire.contracts import Schema, Version, on_the_wire, published_in

_Kinds = SchemaIncompatibilityType
PUBLISH = "Give it a version and an id: `make publish`."
_LOGICAL = ("logicalType", "precision", "scale")


class Refusal(NamedTuple):
    """A refused change, the reason, and the remedy; without ``field`` it concerns the whole record."""

    contract: str
    field: str
    why: str
    mend: str

    def __str__(self) -> str:
        place = ".".join(filter(None, (self.contract, self.field)))
        return f"{place}: {self.why}. {self.mend}"


def refusals(avro: Path, stored: Collection[str]) -> Iterator[Refusal]:
    """The refused changes in a directory with the layout of ``avro/``.

    ``stored``: the contracts that have a table in ClickHouse.
    """
    for contract in sorted(path.stem for path in avro.glob("*.avsc")):
        present = json.loads((avro / f"{contract}.avsc").read_text(encoding="utf-8"))
        earlier = [version for version in published_in(avro) if version.contract == contract]
        refused = list(_unusable(contract, present))
        if not refused:
            refused = _once(
                Refusal(contract, *found)
                for version in earlier
                for found in _changes(version, present, contract in stored)
            )
        yield from refused
        if not refused and (changed := unpublished(earlier, present)) is not None:
            yield Refusal(
                contract,
                changed,
                f"avro/{contract}.avsc is not what its newest published version says",
                PUBLISH,
            )


def unpublished(earlier: list[Version], present: Schema) -> str | None:
    """A field in which the present schema is not the newest version ("": not in a field), or None."""
    newest = without_docs(earlier[-1].schema) if earlier else {"fields": []}
    fields = without_docs(present)["fields"]
    if newest == without_docs(present):
        return None
    changed = [field["name"] for field in fields if field not in newest["fields"]]
    return str(changed[0]) if changed else ""


def without_docs(node: Any) -> Any:
    """A schema without its docs; a change of docs needs no new version."""
    if isinstance(node, dict):
        return {key: without_docs(value) for key, value in node.items() if key != "doc"}
    return [without_docs(value) for value in node] if isinstance(node, list) else node


def _once(refused: Iterable[Refusal]) -> list[Refusal]:
    """The first refusal of each field, since one change is usually refused for several versions."""
    return list({refusal.field: refusal for refusal in reversed(list(refused))}.values())[::-1]


def _unusable(contract: str, present: Schema) -> Iterator[Refusal]:
    for field in present["fields"]:
        alone = present | {"fields": [field]}
        try:
            parse(json.dumps(alone))
            encoder(on_the_wire(alone))
        except (AvroException, ValueError, TypeError, AttributeError) as error:
            yield Refusal(
                contract,
                field["name"],
                f"Avro or the encoder does not take the field ({error})",
                "Use a type of the list in streams/wire/avro_encoder.py, and a default of that type.",
            )


_Found = tuple[str, str, str]


def _changes(version: Version, present: Schema, stored: bool) -> Iterator[_Found]:
    old = version.schema
    if (old["name"], old.get("namespace")) != (present["name"], present.get("namespace")):
        yield "", f"the record was called {old['name']} in version {version.number}", "Keep its name."
        return
    was = {field["name"]: field for field in old["fields"]}
    now = {field["name"]: field for field in present["fields"]}
    for name in now.keys() - was.keys():
        if "default" not in now[name]:
            why = f"the field is new since version {version.number} and has no default"
            yield name, why, "Records without it could not be read: give it a default."
    for name in was.keys() - now.keys():
        if "default" not in was[name]:
            why = f"the field is gone, and consumers that know version {version.number} need it"
            yield name, why, "Keep it, and write an empty value where it says nothing any more."
    for name in now.keys() & was.keys():
        yield from _changed_field(version, was[name], now[name], stored)


def _changed_field(version: Version, was: Schema, now: Schema, stored: bool) -> Iterator[_Found]:
    name, number = now["name"], version.number
    for reader, writer, which in ((now, was, "backward"), (was, now, "forward")):
        for where, kind in _mismatches(reader, writer):
            yield where, _why(kind, number, which), _MEND.get(kind, "Keep the type; add another field.")
            return
    old, new = _meanings(was["type"], name), _meanings(now["type"], name)
    for place in old.keys() & new.keys():
        if old[place] != new[place]:
            why = f"its logical type is not that of version {number}"
            yield place, why, "The same bytes would mean something else: keep it, add another field."
    if was.get("default", was) != now.get("default", was):
        why = f"its default is not that of version {number}"
        yield name, why, "Records that were written without it would say something else: keep it."
    elif stored and old.keys() != new.keys():
        why = f"a record in it has other fields than in version {number}"
        yield name, why, "ClickHouse cannot fill them in rows of old versions: add a field beside it."


def _mismatches(reader: Schema, writer: Schema) -> Iterator[tuple[str, SchemaIncompatibilityType]]:
    """The paths within a field at which a reader's type cannot read a writer's, and the reasons."""
    reads, writes = (
        parse(json.dumps({"type": "record", "name": "R", "fields": [field]}))
        for field in (reader, writer)
    )
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(reads, writes)
    name = reader["name"]
    for kind in result.incompatibilities:
        yield max((_path(reader, where) for where in result.locations), key=len, default=name), kind


def _path(reader: Schema, location: str) -> str:
    """The names of the fields on a path of the checker, such as ``/fields/0/type/items/fields/2``."""
    node: Any = {"fields": [reader]}
    names = []
    for step in location.strip("/").split("/"):
        if isinstance(node, list) and step.isdigit() and int(step) < len(node):
            node = node[int(step)]
            if isinstance(node, dict) and "name" in node and "type" in node and "fields" not in node:
                names.append(node["name"])
        elif isinstance(node, dict) and step in node:
            node = node[step]
    return ".".join(dict.fromkeys(names))


def _why(kind: SchemaIncompatibilityType, number: int, which: str) -> str:
    if which == "backward":
        return f"the present schema cannot read it as version {number} wrote it ({kind.value})"
    return f"consumers that know version {number} cannot read it as it is written now ({kind.value})"


_MEND = {
    _Kinds.missing_enum_symbols: "Keep the symbols as they are; add a field of text beside it.",
    _Kinds.reader_field_missing_default_value: "Give the new field a default, and keep the others.",
    _Kinds.name_mismatch: "Keep the name of the type.",
}


def _meanings(node: Any, path: str = "") -> dict[str, tuple[object, ...]]:
    """The logical types within a type, by the path of field names."""
    if isinstance(node, list):
        return _meanings(next(branch for branch in node if branch != "null"), path)
    if not isinstance(node, dict):
        return {path: ()}
    found = {path: tuple(node.get(name) for name in _LOGICAL)}
    for inner in ("type", "items", "values"):
        if isinstance(node.get(inner), dict | list):
            found |= _meanings(node[inner], path)
    for field in node.get("fields", ()):
        found |= _meanings(field["type"], f"{path}.{field['name']}")
    return found
