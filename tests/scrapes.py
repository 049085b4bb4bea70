"""Finds and reads the metrics of a line's processes as Prometheus does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from streams.settings import Settings


class Target(NamedTuple):
    """A process that serves metrics."""

    job: str
    instance: str
    address: str


def targets(settings: Settings) -> Iterator[Target]:
    """The targets that processes on a data directory have written for file-based discovery."""
    for path in sorted((settings.data_dir / "status").glob("*.json")):
        for group in json.loads(path.read_text()):
            (address,) = group["targets"]
            yield Target(group["labels"]["job"], group["labels"]["instance"], address)


def scrape(target: Target) -> dict[str, Metric]:
    """The metric families that a process serves, by name."""
    answer = httpx.get(f"http://{target.address}/metrics", timeout=30).raise_for_status()
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def total(families: dict[str, Metric], name: str, **labels: str) -> float:
    """The sum of the samples with these labels: a counter's values, or a histogram's counts."""
    family = families[name]
    wanted = {"counter": f"{name}_total", "histogram": f"{name}_count"}.get(family.type, name)
    return sum(
        sample.value
        for sample in family.samples
        if sample.name == wanted and labels.items() <= sample.labels.items()
    )


class Documented(NamedTuple):
    """A row of docs/metrics.md."""

    type: str
    labels: frozenset[str]
    jobs: frozenset[str]
    meaning: str


def documented(page: Path) -> dict[str, Documented]:
    """The metrics on the page, by the name of their family."""
    rows = {}
    for line in page.read_text().splitlines():
        if line.startswith("| `"):
            name, kind, labels, jobs, meaning = (cell.strip() for cell in line.strip("|").split("|"))
            rows[name.strip("`").removesuffix("_total")] = Documented(
                kind,
                frozenset(label.strip("` ") for label in labels.split(",")) - {""},
                frozenset(job.strip() for job in jobs.split(",")),
                meaning,
            )
    return rows
