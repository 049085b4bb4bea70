"""A running line raises alerts in a real Prometheus; ``alerts.py`` measures all of them."""

import os
import signal
from pathlib import Path

import httpx
import yaml

from connectors.local.stack import Stack, on_any_ports
from connectors.local.supervisor import Supervisor
from streams.settings import Settings
from tests.connectors.prometheus.test_alerts import HOME, TAGS, alerts
from tests.faults.alert_faults import ALERT_FAULTS, foreign_records
from tests.faults.alerts import PROMETHEUS, Firing, prometheus, shortened_rules
from tests.faults.harness import supervising
from tests.go_tools import go_tool
from tests.waiting import wait_until


def sample(url: str, query: str) -> str | None:
    """The value of a query's only sample; None without one."""
    answer = httpx.get(f"{url}/api/v1/query", params={"query": query}, timeout=30).raise_for_status()
    found = answer.json()["data"]["result"]
    return str(found[0]["value"][1]) if found else None


def start_again(name: str, supervisor: Supervisor, url: str) -> None:
    """Kills a process, and waits until Prometheus has scraped the next one."""
    query = f'process_start_time_seconds{{job="{name}"}}'
    wait_until(lambda: sample(url, query) is not None, name)
    before = sample(url, query)
    os.kill(supervisor.pids()[name], signal.SIGKILL)
    wait_until(lambda: sample(url, query) not in (before, None), f"the next {name}")


def test_foreign_records_and_an_edge_that_is_killed_twice_raise_their_alerts(tmp_path: Path) -> None:
    go_tool(*PROMETHEUS, TAGS)  # skips before anything is started
    supervisor = Supervisor(tmp_path / "logs", pause_s=(0.1, 0.5))
    settings = on_any_ports(Settings(data_dir=tmp_path))
    with (
        supervising(supervisor) as failures,
        Stack(settings, in_memory=True, supervisor=supervisor) as stack,
        prometheus(stack.settings, tmp_path / "prometheus", every_s=1) as url,
    ):
        firing = Firing(url)
        wait_until(lambda: sample(url, "roundhouse_unexpected_rejects_total") == "0", "the worker")
        foreign_records(stack.settings)
        for _ in range(2):
            start_again("edge", supervisor, url)
        wait_until(lambda: {"UnexpectedRejects", "Restarting"} <= firing.seen.keys(), "alerts")
        firing.stop()
        assert not failures


def test_every_alert_has_a_fault_that_must_raise_it() -> None:
    raised = {f"Roundhouse{alert}" for fault in ALERT_FAULTS for alert in fault.alerts}
    assert raised == {alert["alert"] for alert in alerts()}


def test_only_waits_and_ranges_above_two_minutes_are_shortened() -> None:
    loaded = yaml.safe_load(shortened_rules((HOME / "alerts.yml").read_text()))
    rules = {rule["alert"]: rule for group in loaded["groups"] for rule in group["rules"]}
    assert rules["RoundhouseSlow"]["for"] == "120s"
    assert "[120s]" in rules["RoundhouseSlow"]["expr"]
    assert rules["RoundhouseRefusing"]["for"] == "60s"
    assert "[60s]" in rules["RoundhouseRefusing"]["expr"]
    assert "[120s]" in rules["RoundhouseRestarting"]["expr"]
    assert rules["RoundhouseWebhooksDead"]["expr"].endswith("offset 120s) > 0")
