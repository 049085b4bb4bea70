"""``roundhouse audit``."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from connectors.cli.options import UtcTime
from streams.settings import Settings

_TIME = UtcTime()
SETTLED = timedelta(minutes=1)
"""Age at which an item is expected to be in ClickHouse."""


@click.command()
@click.option("--from", "start", type=_TIME, help="Begin of the period (UTC); default: an hour ago.")
@click.option("--to", "end", type=_TIME, help="End of the period (UTC); default: a minute ago.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Writes the report to this file."
)
@click.option(
    "--verify", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Only checks the hash chain of a report.",
)  # fmt: skip
def audit(
    start: datetime | None, end: datetime | None, report: Path | None, verify: Path | None
) -> None:
    """Compare the requests of a period with topics and ClickHouse; exit status 1 if they differ."""
    from connectors.audit import report as reports
    from connectors.audit.collect import Period, collect, conditions
    from connectors.audit.facts import compare, totals
    from streams.kafka.schema_ids import frames
    from streams.kafka.schemas import Schemas

    if verify is not None:
        click.echo(f"unchanged; last hash {reports.verify(verify)}")
        return
    settings, now = Settings.load(), datetime.now(UTC)
    period = Period(
        start or now - timedelta(hours=1),
        end or now - SETTLED,
    )
    facts, slices = collect(settings, Schemas(settings, frames(settings)), period)
    findings = sorted([*compare(facts), *conditions(settings, period)])
    accounts = totals(facts)
    bounds = {"from": period.start.isoformat(), "to": period.end.isoformat(), "at": now.isoformat()}
    entries: list[tuple[str, object]] = [
        ("period", bounds),
        *(("raw", part._asdict()) for part in slices),
        *(("tenant", {"tenant": name, **counts}) for name, counts in accounts.items()),
        *(("finding", finding._asdict()) for finding in findings),
        ("totals", {"requests": len(facts.posted), "items": len(facts.items)}),
    ]
    lines = list(reports.chained(entries))
    if report is not None:
        report.write_text("\n".join(lines) + "\n")
    for tenant, counts in accounts.items():
        click.echo(f"{tenant}  " + "  ".join(f"{name} {count}" for name, count in counts.items()))
    for finding in findings:
        click.echo(f"{finding.code}  {finding.tenant}  {finding.subject}  {finding.message}")
    click.echo(
        f"{len(facts.posted)} requests from {period.start:%Y-%m-%d %H:%M:%S} to "
        f"{period.end:%Y-%m-%d %H:%M:%S}: {len(findings)} findings; last hash "
        f"{json.loads(lines[-1])['chain']}"
    )
    sys.exit(bool(findings))
