"""The contracts under ``avro/``: what is written today, and every version ever published. Pure.

``avro/<contract>.avsc`` is the present schema. ``avro/published/<contract>/<n>.avsc`` is its version n
and is never changed; ``avro/published/ids.json`` gives each version the schema id that stands in frames
where no schema registry is configured. The present schema is the newest version but for its docs.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

Schema = dict[str, Any]
"""An Avro record schema as JSON."""

_HERE = Path(__file__).resolve().parent
_HOMES = (_HERE / "_avro", _HERE.parent.parent / "avro")  # in a wheel, in a checkout


class Version(NamedTuple):
    """A published version of a contract.

    ``schema_id`` is its built-in id, ``number`` counts the versions of the contract from 1, and
    ``release`` is the first that wrote it.
    """

    schema_id: int
    contract: str
    number: int
    release: str
    schema: Schema


def contracts_directory() -> Path:
    """The directory ``avro/``, in a checkout or in a wheel."""
    return next((path for path in _HOMES if path.is_dir()), _HOMES[-1])


@cache
def schema(contract: str) -> Schema:
    """The present schema. Raises ``FileNotFoundError`` if there is no such contract."""
    return _read(contracts_directory() / f"{contract}.avsc")


@cache
def published() -> tuple[Version, ...]:
    """Every published version of every contract, by rising schema id."""
    return published_in(contracts_directory())


def published_in(avro: Path) -> tuple[Version, ...]:
    """Every published version in another directory that is laid out like ``avro/``."""
    folder = avro / "published"
    listed = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
    found = [
        Version(
            entry["id"],
            entry["contract"],
            entry["version"],
            entry["release"],
            _read(folder / entry["contract"] / f"{entry['version']}.avsc"),
        )
        for entry in listed
    ]
    return tuple(sorted(found, key=lambda version: version.schema_id))


@cache
def versions(contract: str) -> tuple[Version, ...]:
    """The published versions of a contract, the oldest first; none if there is no such contract."""
    return tuple(version for version in published() if version.contract == contract)


@cache
def version_of(schema_id: int) -> Version | None:
    """The published version that has a built-in id."""
    return next((version for version in published() if version.schema_id == schema_id), None)


def on_the_wire(node: Any) -> Any:
    """An Avro type as its values stand in records here: without logical types, defaults as values.

    In a schema the default of bytes is text, and that of a record may leave fields out.
    """
    if isinstance(node, list):
        return [on_the_wire(branch) for branch in node]
    if not isinstance(node, dict):
        return node
    if "logicalType" in node:
        return node["type"]
    bare = {key: on_the_wire(node[key]) if key in _TYPES else node[key] for key in node}
    if "fields" in node:
        bare["fields"] = [_field_on_the_wire(field) for field in node["fields"]]
    return bare


_TYPES = frozenset(("type", "items", "values"))


def _field_on_the_wire(field: Schema) -> Schema:
    bare = field | {"type": on_the_wire(field["type"])}
    if "default" in field:
        bare["default"] = _default(bare["type"], field["default"])
    return bare


def _default(kind: Any, text: Any) -> Any:
    """The value that a default, as it stands in a schema, has in a record."""
    if isinstance(kind, list):  # a default is of the first branch
        return _default(kind[0], text)
    if kind == "bytes":
        return text.encode("latin-1")
    if isinstance(kind, dict):
        if kind["type"] == "array":
            return [_default(kind["items"], entry) for entry in text]
        if kind["type"] == "map":
            return {key: _default(kind["values"], entry) for key, entry in text.items()}
        if kind["type"] == "record":
            return {
                field["name"]: _default(field["type"], text[field["name"]])
                if field["name"] in text
                else field["default"]
                for field in kind["fields"]
            }
    return text


def _read(path: Path) -> Schema:
    return cast(Schema, json.loads(path.read_text(encoding="utf-8")))


SCHEMA_IDS = {version.contract: version.schema_id for version in published()}
"""The schema id of each contract's present version, for frames without a registry."""
