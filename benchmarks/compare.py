"""Compares the worker of another git ref with that of this tree: the ratio of their CPU per event.

The ref is checked out into ``.bench/<commit>`` with an environment of its own. Both versions run on one
Kafka node, each run with topics and state of its own, in pairs: ref and tree, tree and ref, and so on,
so that a drift of the machine falls on both. A run of the tree comes before the pairs and is not
counted, because Kafka's JVM then compiles. Both versions read raw records that this tree writes, all of
them before a version starts or, with ``--per-s``, while it runs. From a backlog the CPU is that of the
whole process: its start counts, so a run needs many events. The same ratio of worker and broker
together is beside it.

Each comparison is a line of ``results/compare.jsonl``; ``--chart`` writes the chart and the table of
``README.md`` from that file.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from math import exp, log
from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import ttest_1samp

from benchmarks.broker import Node, kafka
from benchmarks.contenders import Contender
from benchmarks.machine import described, fresh_home
from benchmarks.worker import measure_on
from benchmarks.yardstick import BATCH_ITEMS

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "compare.jsonl"
CHART = RESULTS.with_suffix(".svg")
README = ROOT / "benchmarks" / "README.md"
BEGIN, END = "<!-- comparisons: begin -->\n", "<!-- comparisons: end -->\n"
LEVEL = 0.95


def commit_of(ref: str) -> str:
    """The first twelve digits of the commit of a branch, tag or hash."""
    return _git("rev-parse", "--short=12", "--verify", f"{ref}^{{commit}}")


def environment_of(commit: str) -> str:
    """The Python interpreter of an environment with that commit installed; made once."""
    tree = ROOT / ".bench" / commit
    python = tree / ".venv" / "bin" / "python"
    if not (tree / ".venv" / "ready").exists():
        _git("worktree", "prune")
        if not tree.exists():
            _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        subprocess.run([sys.executable, "-m", "venv", tree / ".venv"], check=True)
        install: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--editable", tree]
        subprocess.run(install, check=True, stdout=sys.stderr)
        (tree / ".venv" / "ready").touch()
    return str(python)


class Run(NamedTuple):
    """The figures of one version in one run; CPU in µs an event."""

    worker_us: float
    broker_us: float
    probe_ms: float


def compare(ref: str, pairs: int, events: int, per_s: float | None, note: str) -> dict[str, Any]:
    """Runs the pairs; returns the comparison, a line of the results."""
    commit = commit_of(ref)
    versions = {"ref": environment_of(commit), "tree": sys.executable}
    runs: list[dict[str, Run]] = []
    with kafka(fresh_home()) as node:

        def run(number: int, name: str) -> Run:
            return _run(node, f"{number}.{name}.", versions[name], events, per_s)

        run(pairs, "tree")
        for number in range(pairs):
            order = ("ref", "tree") if number % 2 == 0 else ("tree", "ref")
            pair = {name: run(number, name) for name in order}
            runs.append(pair)
            print(f"pair {number + 1} of {pairs}: {pair}", file=sys.stderr)
    costs, broker_costs, probes = (
        [{name: each[at] for name, each in pair.items()} for pair in runs] for at in range(3)
    )
    return {
        **described(),
        "ref": ref,
        "ref_commit": commit,
        "tree_commit": commit_of("HEAD"),
        "tree_changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "events": events,
        "per_s": per_s,
        "cpu_us_per_event": costs,
        "broker_us_per_event": broker_costs,
        "probe_ms": probes,
        "note": note,
    }


class Ratio(NamedTuple):
    """The tree's CPU as a multiple of the ref's, with its confidence interval."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.ratio:.3f} ({self.low:.3f} to {self.high:.3f})"


def of_worker(comparison: dict[str, Any]) -> Ratio:
    """The ratio of the worker's CPU."""
    return ratio_of(comparison["cpu_us_per_event"])


def with_broker(comparison: dict[str, Any]) -> Ratio | None:
    """The ratio of the CPU of worker and broker; None where the broker's is not recorded."""
    if "broker_us_per_event" not in comparison:
        return None
    both = zip(comparison["cpu_us_per_event"], comparison["broker_us_per_event"], strict=True)
    return ratio_of([{name: pair[name] + broker[name] for name in pair} for pair, broker in both])


def ratio_of(costs: Sequence[dict[str, float]]) -> Ratio:
    """The tree's CPU as a multiple of the ref's, and its 95 % confidence interval.

    Both are of Student's t on the logarithms of the ratios of two or more pairs.
    """
    logs = [log(pair["tree"] / pair["ref"]) for pair in costs]
    low, high = ttest_1samp(logs, 0.0).confidence_interval(LEVEL)
    mean = sum(logs) / len(logs)
    return Ratio(round(exp(mean), 3), round(exp(low), 3), round(exp(high), 3))


def recorded() -> list[dict[str, Any]]:
    """All comparisons, the oldest first."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def table(comparisons: Sequence[dict[str, Any]]) -> str:
    """The comparisons as a Markdown table, with the chart above it."""
    rows = [
        f"| {each['date']} | `{each['ref_commit']}` | `{each['tree_commit']}`"
        f"{' and changes' if each['tree_changed'] else ''} | {len(each['cpu_us_per_event'])} "
        f"| {each['events']:,} | {_input(each)} | {of_worker(each)} | {with_broker(each) or ''} "
        f"| {each['note']} |"
        for each in comparisons
    ]
    head = (
        "| date | ref | tree | pairs | events a run | input | worker, 95 % interval "
        "| worker and broker | note |"
    )
    image = f"![Ratios of CPU per event]({CHART.relative_to(README.parent)})"
    return "\n".join([image, "", head, "|---" * 9 + "|", *rows, ""])


def _input(comparison: dict[str, Any]) -> str:
    return f"{comparison['per_s']:,.0f}/s" if comparison.get("per_s") else "backlog"


def chart(comparisons: Sequence[dict[str, Any]]) -> str:
    """The ratios and their intervals as an SVG; a row for each comparison, the line is at 1."""
    ratios = [of_worker(each) for each in comparisons]
    least = min(0.8, *(ratio.low for ratio in ratios))
    most = max(1.2, *(ratio.high for ratio in ratios))

    def x(ratio: float) -> float:
        return round(240 + 420 * (ratio - least) / (most - least), 1)

    height = 40 + 30 * len(comparisons)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="760" height="{height}" fill="white"/>',
        f'<line x1="{x(1)}" y1="24" x2="{x(1)}" y2="{height}" stroke="gray" stroke-dasharray="4"/>',
        f'<text x="{x(1)}" y="16" text-anchor="middle">equal CPU</text>',
    ]
    for number, (each, ratio) in enumerate(zip(comparisons, ratios, strict=True)):
        y = 45 + 30 * number
        label = f"{each['date']} {each['tree_commit'][:7]} / {each['ref_commit'][:7]}"
        parts += [
            f'<text x="10" y="{y + 4}">{label}</text>',
            f'<line x1="{x(ratio.low)}" y1="{y}" x2="{x(ratio.high)}" y2="{y}" stroke="steelblue" '
            'stroke-width="3"/>',
            f'<circle cx="{x(ratio.ratio)}" cy="{y}" r="5" fill="steelblue"/>',
            f'<text x="680" y="{y + 4}">{ratio.ratio:.3f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def page(text: str, comparisons: Sequence[dict[str, Any]]) -> str:
    """A page with its table of comparisons made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table(comparisons) + END + after


def _run(node: Node, prefix: str, python: str, events: int, per_s: float | None) -> Run:
    command = [python, "-P", "-m", "connectors.cli", "worker-process", "0"]
    contender = Contender(lambda: None, lambda settings: [command], (events, events))
    settings = node.settings.model_copy(
        update={"topic_prefix": f"{node.settings.topic_prefix}{prefix}", "data_dir": fresh_home()}
    )
    found = measure_on(Node(settings, node.pid), contender, events, BATCH_ITEMS, per_s)
    worker_us, broker_us = (
        round(found[name] / found["events"] * 1e6, 2) for name in ("cpu_s", "broker_cpu_s")
    )
    return Run(worker_us, broker_us, found["probe_ms"])


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main() -> None:
    """Appends a comparison to the results and prints it; with ``--chart`` only makes the page anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ref", nargs="?")
    parser.add_argument("--pairs", type=int, default=6, help="two or more, best an even number")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--per-s", type=float, help="events a second (default: from a backlog)")
    parser.add_argument("--note", default="", help="circumstances, for the table")
    parser.add_argument("--chart", action="store_true")
    arguments = parser.parse_args()
    if (arguments.ref is None) != arguments.chart or arguments.pairs < 2:
        parser.error("name a git ref and two or more pairs, or --chart")
    if arguments.ref:
        found = compare(
            arguments.ref, arguments.pairs, arguments.events, arguments.per_s, arguments.note
        )
        with RESULTS.open("a") as file:
            file.write(json.dumps(found) + "\n")
        print(f"CPU per event, tree / {arguments.ref}: {of_worker(found)}")
        print(f"with the broker's: {with_broker(found)}")
    CHART.write_text(chart(recorded()))
    README.write_text(page(README.read_text(), recorded()))


if __name__ == "__main__":
    main()
