"""The jars of a local Kafka and the archive of its classes are each made once."""

import shutil
from pathlib import Path

import pytest

from connectors.local import kafka

JARS = Path(__file__).parents[3] / kafka.JARS_DIR / "libs"


@pytest.mark.kafka
@pytest.mark.skipif(
    bool(kafka.missing_tools()), reason=f"a real Kafka needs {' and '.join(kafka.missing_tools())}"
)
def test_a_run_that_was_interrupted_with_its_archive_half_written_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jars = kafka.fetch_jars()
    monkeypatch.setattr(kafka, "JARS_DIR", tmp_path)
    monkeypatch.setattr(kafka, "_copy_jars", lambda to: shutil.copytree(jars, to))
    archive = tmp_path / "kafka.jsa"
    archive.write_bytes(b"half of an archive")
    kafka.fetch_jars()
    assert (tmp_path / "complete").exists()
    assert archive.stat().st_size > 1_000_000
