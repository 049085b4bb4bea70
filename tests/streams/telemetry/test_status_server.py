"""The status page: the answers to probes, and the file with a process's address."""

import json
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge

from connectors.local.health import is_well, pages
from streams.errors import ConfigurationError, StateMismatch
from streams.settings import Settings
from streams.telemetry import status_server
from streams.telemetry.health import Health, judged
from streams.telemetry.status_server import serving, status_folder

WELL = judged({"lag": 0})
WAITING = judged({"lag": 7}, waiting=["Kafka has not answered for 9 s"])
STUCK = judged({"lag": 7}, stuck=["raw.batches[0]: 7 offsets wait and none was done for 400 s"])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.mark.parametrize(
    ("health", "livez", "readyz", "word"),
    [(WELL, 200, 200, "ready"), (WAITING, 200, 503, "waiting"), (STUCK, 503, 503, "stuck")],
    ids=["well", "waiting", "stuck"],
)
def test_probes_tell_live_from_ready_and_give_the_reason(
    settings: Settings, health: Health, livez: int, readyz: int, word: str
) -> None:
    registry = CollectorRegistry()
    Gauge("depth", "Of something.", registry=registry).set(3)
    with serving(settings, "worker", registry, lambda: health, "worker-0") as port:
        answers = {
            path: httpx.get(f"http://127.0.0.1:{port}{path}")
            for path in ("/livez", "/readyz", "/healthz", "/metrics")
        }
        found = pages(settings, "worker")
    assert answers["/livez"].status_code == livez
    assert answers["/readyz"].status_code == answers["/healthz"].status_code == readyz
    document = answers["/healthz"].json()
    assert (document["status"], document["reasons"]) == (word, list(health.reasons))
    assert "depth 3.0" in answers["/metrics"].text
    assert [page.document for page in found] == [document]
    assert list(health.reasons) == [line.strip() for line in list(found[0].lines())[1:]]


def test_processes_of_a_kind_take_names_and_ports_of_their_own_and_give_them_back(
    settings: Settings,
) -> None:
    with ExitStack() as stack:
        ports = {
            stack.enter_context(serving(settings, "edge", CollectorRegistry(), lambda: WELL))
            for _ in range(3)
        }
        assert len(ports) == 3
        assert [page.name for page in pages(settings, "edge")] == ["edge-0", "edge-1", "edge-2"]
        assert [page.name for page in pages(settings, "edge", "edge-1")] == ["edge-1"]
        assert is_well(settings, "edge")
        [group] = json.loads((status_folder(settings) / "edge-2.json").read_text())
        assert group["labels"]["job"] == "edge"
    assert pages(settings, "edge") == []
    assert not is_well(settings, "edge")


def test_a_process_that_failed_is_missed_and_one_that_was_told_to_stop_is_not(
    settings: Settings,
) -> None:
    with (
        pytest.raises(SystemExit),
        serving(settings, "worker", CollectorRegistry(), lambda: WELL, "worker-0"),
    ):
        raise SystemExit(0)
    assert pages(settings, "worker") == []
    with (
        pytest.raises(StateMismatch),
        serving(settings, "worker", CollectorRegistry(), lambda: WELL, "worker-0"),
    ):
        raise StateMismatch("of another cluster")
    [page] = pages(settings, "worker")
    assert page.document is None
    assert "does not answer" in next(page.lines())
    with serving(settings, "worker", CollectorRegistry(), lambda: WELL, "worker-0"):
        assert is_well(settings, "worker")


def test_two_processes_of_one_name_are_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_server, "_PREDECESSOR_S", 0.0)
    with (
        serving(settings, "worker", CollectorRegistry(), lambda: WELL, "worker-0"),
        pytest.raises(ConfigurationError, match="a process named worker-0 runs"),
        serving(settings, "worker", CollectorRegistry(), lambda: WELL, "worker-0"),
    ):
        pass


def test_processes_of_one_machine_share_a_configured_port_by_taking_the_next(tmp_path: Path) -> None:
    first = Settings(data_dir=tmp_path)
    with serving(first, "sink", CollectorRegistry(), lambda: WELL, "sink") as port:
        settings = Settings(data_dir=tmp_path, status_port=port)
        with serving(settings, "worker", CollectorRegistry(), lambda: WELL, "worker-0") as following:
            assert port < following < port + 32
