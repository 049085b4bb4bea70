"""``roundhouse export`` and ``roundhouse dbt-sources``."""

from datetime import UTC, datetime
from pathlib import Path

import click

from connectors.cli.options import UtcTime
from streams.errors import ConfigurationError
from streams.settings import Settings

_TIME = UtcTime()


@click.command()
@click.option("--from", "start", type=_TIME, required=True, help="First moment of events (UTC).")
@click.option("--to", "end", type=_TIME, required=True, help="First moment that is over (UTC).")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), required=True,
    help="Directory of the files; the same export into it again resumes.",
)  # fmt: skip
@click.option("--format", "form", type=click.Choice(["parquet"]), default="parquet", show_default=True)
@click.option("--tenant", "tenants", multiple=True, help="Only this one; may be given several times.")
@click.option("--kinds", help="Views, separated by commas; default: all canonical kinds and rounds.")
@click.option("--as-of", type=_TIME, help="Events received until then (UTC); default: now.")
def export(
    *, start: datetime, end: datetime, output: Path, form: str, tenants: tuple[str, ...],
    kinds: str | None, as_of: datetime | None,
) -> None:  # fmt: skip
    """Write stored events and rounds of a period as Parquet files with their contracts."""
    from connectors.export.datasets import DATASETS
    from connectors.export.export import Request, resumed
    from connectors.export.export import export as run

    names = list(dict.fromkeys(kinds.split(","))) if kinds else list(DATASETS)
    if unknown := [name for name in names if name not in DATASETS]:
        raise ConfigurationError(f"--kinds: {', '.join(unknown)}: choose of {', '.join(DATASETS)}")
    if start >= end:
        raise ConfigurationError("--to must be later than --from")
    chosen = tuple(DATASETS[name] for name in names)
    request = Request(chosen, tenants, start, end, as_of or datetime.now(UTC))
    request = resumed(output, request, as_of is not None)
    rows = files = 0
    for file in run(Settings.load(), request, output):
        click.echo(f"{file.path}  {file.rows} rows{'  (was there)' if file.skipped else ''}")
        rows, files = rows + file.rows, files + 1
    click.echo(f"{rows} rows in {files} files, received until {request.as_of:%Y-%m-%dT%H:%M:%S.%f}")


@click.command("dbt-sources")
def dbt_sources() -> None:
    """Print a dbt source file of the views, with the comments of their columns."""
    from connectors.export.dbt import as_yaml

    click.echo(as_yaml(Settings.load()), nl=False)
