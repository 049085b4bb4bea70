"""The contracts that stages write, and values of contracts for property tests."""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from streams.records.topics import AWARDS, CONTRACTS, SETTLEMENTS, STANDINGS, WEBHOOKS
from streams.wire.contracts import Schema, schema

OF_STAGES = {
    topic: contract
    for topic, contract in CONTRACTS.items()
    if topic not in (AWARDS, SETTLEMENTS, STANDINGS, WEBHOOKS)
}
"""The contracts of the topics that the stages write."""

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_SIMPLE: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "string": TEXT,
    "bytes": st.binary(max_size=20),
}


def records(
    node: Any, logical: Mapping[str, st.SearchStrategy[Any]] | None = None
) -> st.SearchStrategy[Any]:
    """Values of an Avro type, as they are on the wire; ``logical``: those of some logical types."""
    logical = logical or {}
    if isinstance(node, list):
        return st.one_of(*(records(branch, logical) for branch in node))
    node = node if isinstance(node, dict) else {"type": node}
    if node.get("logicalType") in logical:
        return logical[node["logicalType"]]
    kind = node["type"]
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if kind == "enum":
        return st.sampled_from(node["symbols"])
    if kind == "array":
        return st.lists(records(node["items"], logical), max_size=3)
    if kind == "map":
        return st.dictionaries(TEXT, records(node["values"], logical), max_size=3)
    assert kind == "record"
    fields = {field["name"]: records(field["type"], logical) for field in node["fields"]}
    return st.fixed_dictionaries(fields)


def grown(contract: str, at: int, **field: Any) -> Schema:
    """A contract as a later version may have it: with one more field, at index ``at``."""
    fields = list(schema(contract)["fields"])
    return schema(contract) | {"fields": [*fields[:at], {"doc": "New.", **field}, *fields[at:]]}


_SAMPLES = {
    "null": None,
    "boolean": True,
    "int": -7,
    "long": 1_773_500_000_000_001,
    "string": "Größe",
    "bytes": b"\xff\x01",
}


def sample(node: Any) -> Any:
    """A value of an Avro type, as it is on the wire: always the same, and with no part empty."""
    if isinstance(node, list):
        return sample(node[-1])
    if not isinstance(node, dict):
        return _SAMPLES[node]
    if node["type"] == "enum":
        return node["symbols"][-1]
    if node["type"] == "array":
        return [sample(node["items"])]
    if node["type"] == "map":
        return {"key": sample(node["values"])}
    if node["type"] == "record":
        return {field["name"]: sample(field["type"]) for field in node["fields"]}
    return sample(node["type"])
