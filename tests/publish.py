"""``make publish``: gives each contract that has changed a version, an id, and golden bytes.

For each file of ``avro/`` that differs from its newest version, this writes the version under
``avro/published/``, its entry in ``ids.json``, and to ``tests/golden/`` the bytes of a record that a
writer of that version has encoded. Nothing is written if a change is refused.
"""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from connectors.clickhouse.targets import TARGETS
from streams.wire.avro_encoder import encoder
from streams.wire.contracts import Schema, Version, on_the_wire, published_in
from tests.compatibility import PUBLISH, refusals, unpublished
from tests.contracts import sample

ROOT = Path(__file__).parent.parent
STORED = {target.contract for target in TARGETS.values()}
"""The contracts that have a table in ClickHouse."""


def publish(root: Path, release: str) -> list[Version]:
    """Writes new versions and returns them. Raises ``ValueError`` with one line per refused change."""
    avro = root / "avro"
    refused = [str(refusal) for refusal in refusals(avro, STORED) if refusal.mend != PUBLISH]
    if refused:
        raise ValueError("\n".join(refused))
    known = list(published_in(avro))
    made = []
    for path in sorted(avro.glob("*.avsc")):
        present = json.loads(path.read_text(encoding="utf-8"))
        earlier = [version for version in known if version.contract == path.stem]
        if unpublished(earlier, present) is not None:
            number = max(version.schema_id for version in known) + 1
            version = Version(number, path.stem, len(earlier) + 1, release, present)
            known.append(version)
            made.append(version)
            _write(root, version, path.read_text(encoding="utf-8"))
    (avro / "published" / "ids.json").write_text(_listed(known), encoding="utf-8")
    return made


def _write(root: Path, version: Version, text: str) -> None:
    path = root / "avro" / "published" / version.contract / f"{version.number}.avsc"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path = golden_path(root, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(golden(version.schema), indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _listed(versions: list[Version]) -> str:
    names = "id", "contract", "version", "release"
    entries = [json.dumps(dict(zip(names, version[:4], strict=True))) for version in versions]
    return "[\n  " + ",\n  ".join(entries) + "\n]\n"


def golden_path(root: Path, version: Version) -> Path:
    """The file of the golden bytes of a version."""
    return root / "tests" / "golden" / version.contract / f"{version.number}.json"


def golden(schema: Schema) -> dict[str, Any]:
    """A record, and the datum that a writer of ``schema`` makes of it, in hex."""
    bare = on_the_wire(schema)
    record = sample(bare)
    return {"datum": encoder(bare)(record).hex(), "record": readable(record)}


def readable(value: Any) -> Any:
    """A record as JSON: bytes as hex."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, dict):
        return {key: readable(entry) for key, entry in value.items()}
    return [readable(entry) for entry in value] if isinstance(value, list) else value


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    release, _, _ = project["version"].partition(".dev")
    try:
        made = publish(ROOT, release)
    except ValueError as error:
        sys.exit(f"Nothing is published:\n{error}")
    for version in made:
        print(f"{version.contract} is version {version.number}, schema id {version.schema_id}")
        if version.contract in STORED:
            table = next(t.table for t in TARGETS.values() if t.contract == version.contract)
            print(f"  Now add its new columns to {table}: connectors/clickhouse/migrations/")
    if not made:
        print("Every contract is what its newest version says.")


if __name__ == "__main__":
    main()
