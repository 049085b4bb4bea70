"""Makes a next version of Roundhouse: a copy of this one in which two contracts have one more field.

The contract of game transactions gets it in the middle, that of players at the end. The translation of
native items fills the field, and ClickHouse's tables get a column for it.
"""

import json
import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
FIELD = "channel"
CONTRACTS = {"game-transaction": "type", "player": "email"}
"""By contract, the field after which the new field is added."""

MIGRATION = """
ALTER TABLE game_transactions_rows
    ADD COLUMN IF NOT EXISTS channel Nullable(String) COMMENT 'New.' AFTER type;

ALTER TABLE player_events_rows
    ADD COLUMN IF NOT EXISTS channel Nullable(String) COMMENT 'New.';
"""


def next_version(home: Path) -> Path:
    """Makes the copy in ``home`` if it does not exist; returns the ``PYTHONPATH`` that runs it."""
    if not home.exists():
        copy = home.with_suffix(".new")
        ignored = shutil.ignore_patterns("__pycache__")
        for folder in ("streams", "connectors", "avro"):
            shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
        for contract, after in CONTRACTS.items():
            _grow(copy / "avro", contract, after)
        native = copy / "streams" / "formats" / "native.py"
        text = native.read_text()
        for old, new in (
            ('"type": "win" if', f'"{FIELD}": self.currency,\n                "type": "win" if'),
            ("username=self.username,", f"username=self.username,\n            {FIELD}=self.currency,"),
        ):
            assert text.count(old) == 1, f"native.py has changed: {old}"
            text = text.replace(old, new)
        native.write_text(text)
        (copy / "connectors/clickhouse/migrations/9000_channel.sql").write_text(MIGRATION)
        copy.rename(home)
    return home


def schema_ids(home: Path) -> dict[str, int]:
    """The ids of the contracts with the added field."""
    listed = json.loads((home / "avro" / "published" / "ids.json").read_text())
    return {entry["contract"]: entry["id"] for entry in listed if entry["contract"] in CONTRACTS}


def _grow(avro: Path, contract: str, after: str) -> None:
    path = avro / f"{contract}.avsc"
    schema = json.loads(path.read_text())
    names = [field["name"] for field in schema["fields"]]
    field = {"name": FIELD, "type": ["null", "string"], "default": None, "doc": "New."}
    schema["fields"].insert(names.index(after) + 1, field)
    path.write_text(json.dumps(schema))
    ids = avro / "published" / "ids.json"
    listed: list[dict[str, Any]] = json.loads(ids.read_text())
    version = 1 + max(entry["version"] for entry in listed if entry["contract"] == contract)
    number = 1 + max(entry["id"] for entry in listed)
    listed.append({"id": number, "contract": contract, "version": version, "release": "next"})
    ids.write_text(json.dumps(listed))
    (avro / "published" / contract / f"{version}.avsc").write_text(json.dumps(schema))
