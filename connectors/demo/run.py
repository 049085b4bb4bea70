"""``roundhouse demo``: start a stack, feed a day, wait for the accounts to balance, show tables."""

import asyncio
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from connectors.campaigns.commands import show_standings
from connectors.campaigns.evaluation import backtest, evaluate
from connectors.campaigns.folder import EXAMPLES
from connectors.campaigns.model.definition import load
from connectors.clickhouse.query import query
from connectors.demo.day import TENANTS, day
from connectors.demo.feed import feed
from connectors.demo.report import QUESTIONS, show
from connectors.edge.tenants import Registry
from connectors.local.kafka import missing_tools
from connectors.local.stack import Stack, on_any_ports
from streams.errors import NotSettled
from streams.settings import Settings

SETTLED_WITHIN_S = 300.0
CAMPAIGN = EXAMPLES / "turnover-race.yaml"


def run_demo(settings: Settings, *, memory: bool, events: int, seed: int, processes: int) -> None:
    """Runs the demo on ``<data_dir>/demo``; the events of a second run are duplicates."""
    console = Console(width=110)
    missing = missing_tools()
    if missing and not memory:
        console.print(
            f"[yellow]{' and '.join(missing)} not found: using the in-memory broker instead of a real "
            "Kafka. It keeps nothing, so a second run starts from nothing.[/]"
        )
        memory = True
    with tempfile.TemporaryDirectory(prefix="roundhouse-demo-") as temporary:
        directory = Path(temporary) if memory else settings.data_dir / "demo"
        settings = on_any_ports(settings.model_copy(update={"data_dir": directory}))
        began = time.monotonic()
        console.print(f"Starting broker, edge, {processes} worker(s) and sink on {directory} …")
        with Stack(settings, memory, processes) as stack:
            console.print(f"Ready after {time.monotonic() - began:.1f} s; edge at {stack.edge_url}")
            _feed_and_report(console, stack, seed, events)


def _feed_and_report(console: Console, stack: Stack, seed: int, events: int) -> None:
    settings = stack.settings
    keys = demo_keys(Registry(settings.tenants_path))
    posts = day(seed, events)
    before = accounts(settings)
    total = sum(post.items for post in posts)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        posting = progress.add_task("posted", total=total)
        settling = progress.add_task("settled in ClickHouse", total=total)

        async def run() -> dict[str, int]:
            fed = asyncio.create_task(
                feed(stack.edge_url, keys, posts, lambda items: progress.advance(posting, items))
            )
            deadline = time.monotonic() + SETTLED_WITHIN_S
            while True:
                now = await asyncio.to_thread(accounts, settings)
                settled = sum(now[name]["settled"] - before[name]["settled"] for name in now)
                progress.update(settling, completed=settled)
                if fed.done():
                    posted = {
                        name: before[name]["received"] + fed.result().get(name, 0) for name in now
                    }
                    if all(
                        now[name]["received"] >= posted[name] and is_balanced(now[name]) for name in now
                    ):
                        return posted
                if time.monotonic() > deadline:
                    raise NotSettled(
                        f"the accounts do not balance after {SETTLED_WITHIN_S:.0f} s: {now}. The logs "
                        f"are in {settings.data_dir / 'logs'}."
                    )
                stack.supervisor.check()
                await asyncio.sleep(0.25)

        posted = asyncio.run(run())
    for title, question in QUESTIONS.items():
        show(console, title, query(settings, question, "json"))
    _judge(console, settings)
    now = accounts(settings)
    for name, expected in posted.items():
        account = now[name]
        parts = ("accepted", "duplicate", "conflict", "rejected")
        sum_of_parts = sum(account[part] for part in parts)
        verdict = (
            "holds" if account["received"] == sum_of_parts == expected else "[red]DOES NOT HOLD[/]"
        )
        console.print(
            f"{name}: received {account['received']:,} = "
            + " + ".join(f"{part} {account[part]:,}" for part in parts)
            + f": {verdict}"
        )


def _judge(console: Console, settings: Settings) -> None:
    """Shows a campaign's live leaderboard, and a backtest that must agree with it."""
    campaign = load(CAMPAIGN).campaign
    live = evaluate(settings, campaign)
    show_standings(console, live, top=5)
    again = backtest(settings, campaign, campaign.period, live.as_of)
    verdict = "agrees" if again.standings == live.standings else "[red]DISAGREES[/]"
    console.print(f"The backtest of {campaign.name} over the same events {verdict} with it.\n")


def is_balanced(account: Mapping[str, int]) -> bool:
    """Whether all received items are settled and all accepted events are in tables and rounds."""
    return (
        account["received"] == account["settled"]
        and account["accepted"] == account["stored"]
        and account["transactions"] == account["in_rounds"]
    )


def accounts(settings: Settings) -> dict[str, dict[str, int]]:
    """The view ``reconciliation`` by tenant; zeros for a tenant of the demo that has posted nothing."""
    answer = json.loads(query(settings, "SELECT * FROM reconciliation", "json"))
    columns = [column["name"] for column in answer["meta"] if column["name"] != "tenant"]
    zeros = dict.fromkeys(columns, 0)
    found = {tenant.name: dict(zeros) for tenant in TENANTS}
    for row in answer["data"]:
        found[row["tenant"]] = {name: int(row[name]) for name in columns}
    return found


def demo_keys(registry: Registry) -> dict[str, str]:
    """A valid key of each demo tenant; the first run creates the tenants."""
    return {
        tenant.name: registry.rotate(tenant.name)
        if tenant.name in registry.all()
        else registry.add(tenant.name, tenant.channel_merging, campaigns_enabled=True)
        for tenant in TENANTS
    }
