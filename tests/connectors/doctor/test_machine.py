"""The doctor's checks of a machine, each tried on a machine that has the fault."""

import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.doctor.findings import Finding, Severity
from connectors.doctor.machine import check_disk, check_file_descriptors, check_tenants
from connectors.doctor.run import as_json, as_text, has_error
from connectors.edge.tenants import Registry
from streams.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "not" / "there yet")


def severities(findings: Iterator[Finding]) -> list[Severity]:
    return [finding.severity for finding in findings]


def test_a_disk_without_room_is_an_error(settings: Settings) -> None:
    assert severities(check_disk(settings, free_bytes_min=1)) == [Severity.OK, Severity.OK]
    found = list(check_disk(settings, free_bytes_min=sys.maxsize))
    assert [finding.severity for finding in found] == [Severity.ERROR, Severity.ERROR]
    assert "ROUNDHOUSE_STATE_DIR" in found[1].mend


def test_a_disk_that_is_nearly_full_is_a_warning(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.doctor.machine.FREE_SHARE_MIN", 1.1)
    assert set(severities(check_disk(settings, free_bytes_min=1))) == {Severity.WARNING}


def test_too_few_file_descriptors_for_the_partitions_are_an_error(settings: Settings) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1_100), hard))
    try:
        four = settings.model_copy(update={"partitions": 4})
        five = settings.model_copy(update={"partitions": 5})
        assert severities(check_file_descriptors(four)) == [Severity.OK]
        [found] = check_file_descriptors(five)
        assert found.severity is Severity.ERROR
        assert "ulimit -n 1152" in found.mend
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_tenants_missing_broken_keyless_open_or_well(settings: Settings) -> None:
    def found() -> tuple[Severity, str]:
        [finding] = check_tenants(settings)
        return finding.severity, finding.found

    path = settings.tenants_path
    assert found() == (
        Severity.ERROR,
        f"there is no tenants file at {path}: the edge refuses every request",
    )
    key = Registry(path).add("casino-one", False, True)
    assert found() == (Severity.OK, f"1 tenants in {path}")
    path.chmod(0o644)
    assert found() == (Severity.WARNING, f"{path} can be read by others than its owner")
    Registry(path).revoke("casino-one", key.split("_")[1])
    assert found() == (
        Severity.ERROR,
        f"no tenant in {path} has a key: the edge refuses every request",
    )
    path.write_text("{")
    assert found()[0] is Severity.ERROR


def test_only_an_error_keeps_the_line_from_working() -> None:
    warned = [Finding("a", Severity.OK, "fine"), Finding("b", Severity.WARNING, "late", "hurry")]
    assert not has_error(warned)
    assert has_error([*warned, Finding("c", Severity.ERROR, "broken", "mend")])
    assert as_text(warned) == "OK       a: fine\nWARNING  b: late\n         → hurry"
    assert '"severity": "warning"' in as_json(warned)
