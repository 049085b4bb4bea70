"""``roundhouse campaign`` and ``roundhouse rates``."""

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from connectors.campaigns.effect.commands import FILE, OCCURRENCE, effect, plan
from connectors.campaigns.settling.commands import review, settle
from connectors.campaigns.sql.expressions import plain
from streams.errors import ConfigurationError, DefinitionError
from streams.settings import Settings

if TYPE_CHECKING:
    from polars import DataFrame
    from rich.console import Console

    from connectors.campaigns.evaluation import Result

_AS_OF = click.option(
    "--as-of", metavar="TIME", help="Look at what was received until then (UTC); default: now."
)
_TOP = click.option(
    "--top", type=click.IntRange(min=1), help="How many ranks; default: 10 in a table, else all."
)
_FORMAT = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "parquet"]),
    default="table",
    show_default=True,
    help="Amounts have all their digits in each.",
)


@click.group()
def campaign() -> None:
    """Evaluate campaigns that are defined in YAML files."""


campaign.add_command(effect)
campaign.add_command(plan)
campaign.add_command(settle)
campaign.add_command(review)


@campaign.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--offline", is_flag=True, help="Only the files; ask ClickHouse nothing.")
def check(files: tuple[Path, ...], offline: bool) -> None:
    """Check definitions, and whether they fit the stored data."""
    from connectors.campaigns.evaluation import problems
    from connectors.campaigns.model.definition import load

    wrong = []
    for path in files:
        try:
            found = [] if offline else problems(Settings.load(), load(path))
            load(path)
        except DefinitionError as error:
            found = [str(error)]
        wrong += found
        if not found:
            click.echo(f"{path}: ok")
    if wrong:
        click.echo("\n".join(wrong), err=True)
        sys.exit(1)


@campaign.command()
@click.argument("file", type=FILE)
def occurrences(file: Path) -> None:
    """List the occurrences of a period that recurs which have begun: name, period (UTC), hash."""
    from connectors.campaigns.model.definition import load

    for definition in load(file).occurrences(datetime.now(UTC)):
        found = definition.campaign
        start, end = found.period.utc()
        click.echo(f"{found.name}  {start:%Y-%m-%dT%H:%M} {end:%Y-%m-%dT%H:%M}  {found.sha256}")


@campaign.command()
def schema() -> None:
    """Print the JSON Schema of definitions, for editors."""
    from connectors.campaigns.model.definition import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@campaign.command()
@click.argument("file", type=FILE)
@click.option("--sql", is_flag=True, help="Print the query instead.")
@OCCURRENCE
@_AS_OF
@_TOP
@_FORMAT
def evaluate(
    file: Path, sql: bool, occurrence: datetime | None, as_of: str | None, *, top: int | None, form: str
) -> None:
    """Evaluate a campaign, store the result and show it."""
    from connectors.campaigns.evaluation import evaluate as run
    from connectors.campaigns.model.definition import load
    from connectors.campaigns.sql import compiler
    from connectors.campaigns.stored import store

    definition = load(file, occurrence=occurrence)
    if sql:
        click.echo(compiler.standings(definition.campaign, _moment(as_of)))
        return
    settings = Settings.load()
    result = run(settings, definition.campaign, _moment(as_of))
    _show(result, top, form)
    click.echo(f"stored as run {store(settings, definition, result).run_id}", err=form != "table")


@campaign.command()
@click.argument("file", type=FILE)
@click.option("--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
@click.option("--stage", type=click.IntRange(min=1), help="A tournament as it stood after a stage.")
@OCCURRENCE
@_TOP
@_FORMAT
def leaderboard(
    *, file: Path, watch: bool, stage: int | None, occurrence: datetime | None, top: int | None,
    form: str,
) -> None:  # fmt: skip
    """Show the current standings; nothing is stored."""
    from connectors.campaigns.evaluation import evaluate as run
    from connectors.campaigns.model.definition import load

    if watch and form != "table":
        raise click.UsageError("--watch shows a table, so it cannot be combined with --format")
    definition = load(file, occurrence=occurrence)
    settings = Settings.load()
    chosen = definition.campaign.until_stage(stage) if stage else definition.campaign
    while True:
        result = run(settings, chosen)
        if watch:
            click.clear()
        _show(result, top, form)
        if not watch:
            return
        time.sleep(2)


@campaign.command()
@click.argument("file", type=FILE)
@click.option(
    "--from", "start", metavar="LOCAL", help="Another beginning, in the campaign's time zone."
)
@click.option("--to", "end", metavar="LOCAL", help="Another end.")
@OCCURRENCE
@_AS_OF
@_TOP
@_FORMAT
def backtest(
    *, file: Path, start: str | None, end: str | None, occurrence: datetime | None,
    as_of: str | None, top: int | None, form: str,
) -> None:  # fmt: skip
    """Evaluate a campaign over history, in its own period or another; nothing is stored."""
    from pydantic import ValidationError

    from connectors.campaigns.evaluation import backtest as run
    from connectors.campaigns.model.definition import load
    from connectors.campaigns.model.parts import Period

    definition = load(file, occurrence=occurrence)
    given = definition.campaign.period
    try:
        period = Period.model_validate(
            {
                "from": start or given.start.isoformat(),
                "to": end or given.end.isoformat(),
                "time_zone": given.time_zone,
            }
        )
    except ValidationError as error:
        raise ConfigurationError(f"--from and --to: {error.errors()[0]['msg']}") from None
    _show(run(Settings.load(), definition.campaign, period, _moment(as_of)), top, form)


@campaign.command()
@click.argument("before", type=FILE)
@click.argument("after", type=FILE)
@OCCURRENCE
@_AS_OF
@_FORMAT
def compare(
    before: Path, after: Path, occurrence: datetime | None, as_of: str | None, form: str
) -> None:
    """Evaluate two definitions over the same data: cost, winners gained and lost, distribution."""
    from connectors.campaigns.evaluation import compare as run
    from connectors.campaigns.model.definition import load

    one, other = (load(file, occurrence=occurrence).campaign for file in (before, after))
    found = run(Settings.load(), one, other, _moment(as_of))
    if form != "table":
        from connectors.campaigns import frames

        _write(frames.comparison(found), form)
        return
    for path, result in ((before, found.before), (after, found.after)):
        prizes = sorted((standing.prize for standing in result.standings.winners), reverse=True)
        click.echo(
            f"{path}: {len(result.standings)} players with a score, {len(prizes)} prizes, cost "
            f"{plain(result.cost)}, largest {plain(prizes[0]) if prizes else 0}, median "
            f"{plain(prizes[len(prizes) // 2]) if prizes else 0}"
        )
    click.echo(f"win under both: {len(found.kept)}")
    click.echo(f"gained: {len(found.gained)}  {' '.join(found.gained[:20])}")
    click.echo(f"lost: {len(found.lost)}  {' '.join(found.lost[:20])}")


@campaign.command()
@click.argument("file", type=FILE)
@click.option(
    "--vary",
    multiple=True,
    required=True,
    metavar="FIELD=V1,V2,…",
    help="Values of a field, e.g. counts.minimum_bet=0.2,0.5; repeat it for every combination.",
)
@click.option("--chart", type=FILE, help="Write a chart of cost against winners, an SVG.")
@OCCURRENCE
@_AS_OF
@_FORMAT
def grid(
    *, file: Path, vary: tuple[str, ...], chart: Path | None, occurrence: datetime | None,
    as_of: str | None, form: str,
) -> None:  # fmt: skip
    """Evaluate variants of a definition over the same data: what each costs and whom it reaches."""
    from connectors.campaigns import grid as variants

    axes = {}
    for text in vary:
        name, equals, values = text.partition("=")
        if not equals or name in axes:
            raise click.UsageError(f"--vary {text!r}: name each field once, like budget=100,200")
        axes[name] = values.split(",")
    chosen = variants.variants(file, axes, occurrence)
    points = variants.evaluated(Settings.load(), chosen, _moment(as_of))
    if form != "table":
        _write(variants.frame(points), form)
    else:
        for point in points:
            click.echo(
                f"{variants.named(point.variant.changes)}: {point.players} players with a score, "
                f"{point.winners} prizes, cost {plain(point.cost)}"
            )
    if chart is not None:
        chart.write_text(variants.chart(points))


@campaign.command()
@click.argument("file", type=FILE)
@click.argument("player")
@OCCURRENCE
@_AS_OF
@_FORMAT
def explain(file: Path, player: str, occurrence: datetime | None, as_of: str | None, form: str) -> None:
    """List which entries of a player, and of those that it is merged with, counted and which did not,
    with the rule that excluded each.
    """
    from connectors.campaigns.evaluation import explain as run
    from connectors.campaigns.model.definition import load

    chosen = load(file, occurrence=occurrence).campaign
    found = run(Settings.load(), chosen, player, _moment(as_of))
    person, entries = found.person, found.entries
    if form != "table":
        from connectors.campaigns import frames

        _write(frames.entries(entries), form)
        return
    for line in person.lines() if person else ():
        click.echo(line)
    for entry in entries:
        rate = "" if entry.rate == 1 else f" at {plain(entry.rate)} from {entry.currency}"
        whose = f"  {entry.player_id}" if person else ""
        worth = f", worth {plain(entry.points)}" if entry.points else ""
        click.echo(
            f"{entry.at:%Y-%m-%d %H:%M:%S}{whose}  {entry.id}  {plain(entry.amount)} -> "
            f"{plain(entry.payout)}{rate}  {entry.verdict}{worth}"
        )
    if not entries:
        click.echo("nothing of this player could count")


@click.group()
def rates() -> None:
    """Exchange rates that convert campaigns and KPIs to one currency."""


@rates.command("import")
@click.argument("file", type=FILE)
@click.option("--source", default="", help="Who says so, for rows that name no source.")
def import_file(file: Path, source: str) -> None:
    """Add rates from a CSV file: day,base,quote,rate and, optionally, source."""
    from connectors.campaigns.rates import import_rates

    click.echo(f"{import_rates(Settings.load(), file, source)} rates imported")


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"--as-of {text!r} is not a time like 2026-03-14T18:00") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _show(result: "Result", top: int | None, form: str) -> None:
    if form == "table":
        from rich.console import Console

        show_standings(Console(width=110), result, top or 10)
        return
    from connectors.campaigns import frames

    found = frames.standings(result)
    _write(found if top is None else found.filter(found["rank"] <= top), form)


def _write(frame: "DataFrame", form: str) -> None:
    from connectors.campaigns import frames

    click.get_binary_stream("stdout").write(frames.written(frame, form))


def show_standings(console: "Console", result: "Result", top: int) -> None:
    """Prints the first ranks as a table, and the entries that did not count."""
    from rich.table import Table

    named = result.campaign
    table = Table(title=named.title or named.name, title_justify="left")
    shown = result.standings[:top]
    columns: dict[str, list[str]] = {
        "rank": [str(standing.rank) for standing in shown],
        "player": [standing.player_id for standing in shown],
        named.scored: [plain(standing.score) for standing in shown],
        "entries": [str(standing.entries) for standing in shown],
        "team": [standing.team for standing in shown],
        "stage": [str(standing.stage or "") for standing in shown],
        "step": [str(standing.step or "") for standing in shown],
        "prize": [plain(standing.prize) for standing in shown],
        "items": [standing.items for standing in shown],
        "unpaid": [plain(standing.unpaid) for standing in shown],
        "reached at (UTC)": [f"{standing.reached_at:%Y-%m-%d %H:%M:%S}" for standing in shown],
    }
    for name in ("team", "stage", "items"):
        if not any(columns[name]):
            del columns[name]
    for name in columns:
        text = name in ("player", "team", "items", "reached at (UTC)")
        table.add_column(name, justify="left" if text else "right")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    console.print(table)
    click.echo(f"{len(result.standings)} players with a score; prizes {plain(result.cost)} in all")
    out = ", ".join(f"{rule} {count}" for rule, count in result.left_out.items())
    click.echo(f"did not count: {out or 'nothing'}")
    click.echo(f"as of {result.as_of:%Y-%m-%dT%H:%M:%S.%f}; {result.unsettled} items unsettled")
