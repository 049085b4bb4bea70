"""Processes announce where they serve; one that is missed is still announced."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from streams.settings import Settings
from streams.telemetry.process_metrics import process_registry
from streams.telemetry.status_server import serving
from tests.scrapes import scrape, targets


def test_each_process_of_a_kind_has_a_name_and_a_port_of_its_own(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with serving(settings, "edge", process_registry(tmp_path)):
        with serving(settings, "edge", CollectorRegistry()):
            found = list(targets(settings))
            assert [target.instance.partition("@")[0] for target in found] == ["edge-0", "edge-1"]
            assert len({target.address for target in found}) == 2
        [first] = targets(settings)
        assert scrape(first)["process_resident_memory_bytes"].samples[0].value > 0
    assert list(targets(settings)) == []


def test_a_process_that_fails_stays_announced_until_it_runs_again(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with pytest.raises(RuntimeError), serving(settings, "worker", CollectorRegistry(), "worker-0"):
        raise RuntimeError
    [missed] = targets(settings)
    with serving(settings, "worker", CollectorRegistry(), "worker-0"):
        [found] = targets(settings)
        assert found.instance == missed.instance
    assert list(targets(settings)) == []


def test_processes_of_one_machine_share_a_configured_port_by_taking_the_next(tmp_path: Path) -> None:
    with serving(Settings(data_dir=tmp_path), "sink", CollectorRegistry(), "sink") as port:
        settings = Settings(data_dir=tmp_path, status_port=port)
        with serving(settings, "worker", CollectorRegistry(), "worker-0") as following:
            assert port < following < port + 32
