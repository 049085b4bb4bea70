"""The alerts are valid, are tested with promtool, use existing metrics, and are each documented."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.go_tools import go_tool
from tests.scrapes import documented

ROOT = Path(__file__).parent.parent.parent.parent
HOME = ROOT / "connectors" / "prometheus"
DASHBOARD = ROOT / "connectors" / "grafana" / "dashboards" / "on-call.json"
PROMTOOL = "github.com/prometheus/prometheus/cmd/promtool", "v0.316.0"
TAGS = "remove_all_sd,enable_dns_sd"
"""Build tags that leave out Prometheus's service discovery for cloud providers."""

_NAME = re.compile(r"\b((?:roundhouse|http_server|messaging|db_client|librdkafka|process)_[a-z_]+)")


def alerts() -> list[dict[str, Any]]:
    loaded = yaml.safe_load((HOME / "alerts.yml").read_text())
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def promtool(*arguments: str | Path) -> str:
    command = [go_tool(*PROMTOOL, TAGS), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_rules_and_configuration_are_valid() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", HOME / "alerts.yml")
    promtool("check", "config", HOME / "prometheus.yml")


def test_alerts_fire_on_what_they_are_for_and_on_nothing_else() -> None:
    promtool("test", "rules", Path(__file__).parent / "alerts.test.yml")


def test_every_alert_is_tried() -> None:
    tried = (Path(__file__).parent / "alerts.test.yml").read_text()
    for alert in alerts():
        assert f'alertname="{alert["alert"]}"' in tried, alert["alert"]


def expressions() -> dict[str, str]:
    found = {alert["alert"]: alert["expr"] for alert in alerts()}
    for panel in panels():
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


@pytest.mark.parametrize("name", expressions())
def test_alerts_and_panels_read_metrics_and_labels_that_exist(name: str) -> None:
    metrics = documented(ROOT / "docs" / "metrics.md")
    served = {
        f"{metric}{suffix}"
        for metric, row in metrics.items()
        for suffix in {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(
            row.type, [""]
        )
    }
    labels = set().union(*(row.labels for row in metrics.values()))
    expression = expressions()[name]
    found = set(_NAME.findall(expression)) - labels
    assert found or re.search(r"\b(up|ALERTS)\b", expression)
    assert found <= served
    for listed in re.findall(r"(?:by|without) \(([^)]*)\)", expression):
        known = labels | {"le", "job", "instance", "alertname"}
        assert {label.strip() for label in listed.split(",")} <= known


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_every_alert_has_a_paragraph_that_says_what_to_do(alert: dict[str, Any]) -> None:
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    assert anchor == alert["alert"].lower()
    assert alert["labels"]["severity"] in ("page", "ticket")
    text = (ROOT / page).read_text()
    paragraph = text.split(f"### {alert['alert']}\n", 1)[1].split("\n#", 1)[0]
    for lead in ("**Wrong:**", "**Since:**", "**For whom:**", "**Do:**"):
        assert lead in paragraph
    titles = {panel["title"] for panel in panels()}
    named = set(re.findall(r'"([^"]+)"', re.sub(r"\s+", " ", paragraph)))
    assert named <= titles


def test_every_paragraph_is_of_an_alert_and_every_link_to_one_leads_there() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    names = {alert["alert"] for alert in alerts()}
    assert set(re.findall(r"^### (Roundhouse\w+)$", text, re.MULTILINE)) == names
    anchors = {
        re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    for link in re.findall(r"\]\(#([^)]+)\)", text):
        assert link in anchors, link
