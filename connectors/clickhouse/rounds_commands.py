"""``roundhouse rounds``: the kept rows of rounds beside their events."""

from collections import Counter
from datetime import date, datetime

import click

from connectors.cli.options import UtcTime
from streams.settings import Settings

_TIME = UtcTime()


@click.group()
def rounds() -> None:
    """Compare kept rounds with their events."""


@rounds.command("rebuild")
@click.argument("tenant")
@click.option("--from", "start", type=_TIME, help="Only months from that of this day on (UTC).")
@click.option("--to", "end", type=_TIME, help="Only months before this day (UTC).")
@click.option("--dry-run", is_flag=True, help="Compare, and write nothing.")
def rounds_rebuild(tenant: str, start: datetime | None, end: datetime | None, *, dry_run: bool) -> None:
    """Compute a tenant's rounds again from the stored events, and write the rows that differ."""
    from connectors.clickhouse.query import query_rows, rebuild_rounds
    from connectors.clickhouse.rebuilding import VERDICTS, counts, slices

    settings = Settings.load()
    total: Counter[str] = Counter()
    for row in query_rows(settings, counts(tenant)):
        month = date.fromisoformat(row["month"])
        if start is not None and month < start.date().replace(day=1):
            continue
        if end is not None and month >= end.date():
            continue
        found: Counter[str] = Counter()
        for wanted in slices(tenant, month, int(row["rows"]), not dry_run):
            found += Counter(rebuild_rounds(settings, wanted))
        click.echo(f"{month:%Y-%m}  {_shown(found, VERDICTS)}")
        total += found
    click.echo(f"all  {_shown(total, VERDICTS)}{'  (dry run: nothing is written)' if dry_run else ''}")


def _shown(found: Counter[str], verdicts: tuple[str, ...]) -> str:
    return ", ".join(f"{found[verdict]} {verdict}" for verdict in verdicts)
