"""``roundhouse campaign effect`` and ``roundhouse campaign plan``."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connectors.cli.options import UtcTime
from streams.errors import ConfigurationError
from streams.settings import Settings

if TYPE_CHECKING:
    from connectors.campaigns.effect.measure import Effect, Estimate
    from connectors.campaigns.effect.statistics import Difference
    from connectors.campaigns.model.definition import Campaign

FILE = click.Path(path_type=Path, dir_okay=False)
OCCURRENCE = click.option(
    "--occurrence", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE",
    help="Of a period that recurs, the newest occurrence that has begun by the end of this local day; "
    "default: the one that is running, or the first or last.",
)  # fmt: skip


def _shared(command: Callable[..., None]) -> Callable[..., None]:
    """The options of both commands."""
    for option in (
        OCCURRENCE,
        click.option("--as-of", type=UtcTime(), help="What was received until then (UTC)."),
        click.option("--format", "form", type=click.Choice(["table", "json"]), default="table"),
        click.option(
            "--confidence", type=click.FloatRange(0.5, 0.999), default=0.95, show_default=True
        ),
        click.option(
            "--after-days", type=click.FloatRange(0), default=14, show_default=True,
            help="The window after the campaign.",
        ),
        click.option(
            "--before-days", type=click.FloatRange(0, min_open=True), default=28, show_default=True,
            help="The window before, which the players are compared by.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@click.argument("file", type=FILE)
@_shared
def effect(
    *, file: Path, before_days: float, after_days: float, confidence: float, form: str,
    as_of: datetime | None, occurrence: datetime | None,
) -> None:  # fmt: skip
    """Compare the players who could take part in a campaign with those who could not."""
    from connectors.campaigns.effect.of_campaign import document, effect_of
    from connectors.campaigns.model.definition import load

    campaign = load(file, occurrence=occurrence).campaign
    as_of = as_of or datetime.now(UTC)
    found = effect_of(
        Settings.load(), campaign, as_of, before_days=before_days, after_days=after_days,
        confidence=confidence,
    )  # fmt: skip
    if form == "json":
        named = {"campaign": campaign.name, "as_of": as_of.isoformat(), **document(found)}
        click.echo(json.dumps(named, indent=2))
    else:
        _show(campaign, found, confidence)


@click.command()
@click.argument("file", type=FILE)
@click.option(
    "--metric", type=click.Choice(["ggr", "ngr", "deposits", "active_days"]), default="ngr",
    show_default=True,
)  # fmt: skip
@click.option("--effect", "size", type=click.FloatRange(0, min_open=True), help="Per player.")
@click.option("--share", type=click.FloatRange(0, 0.9, min_open=True), help="Held back; default: 0.1.")
@click.option(
    "--until", type=UtcTime(), help="End of the past (UTC); default: the campaign's beginning, or now."
)
@click.option("--power", type=click.FloatRange(0.5, 0.999), default=0.8, show_default=True)
@_shared
def plan(
    *, file: Path, metric: str, size: float | None, share: float | None, until: datetime | None,
    power: float, before_days: float, after_days: float, confidence: float, form: str,
    as_of: datetime | None, occurrence: datetime | None,
) -> None:  # fmt: skip
    """Say how many players a campaign needs for its effect to be found, by the tenant's own past."""
    from connectors.campaigns.effect.of_campaign import check_scipy, document
    from connectors.campaigns.model.definition import load

    check_scipy()
    from connectors.campaigns.effect.measure import plan as planned
    from connectors.campaigns.effect.population import Windows, read

    campaign = load(file, occurrence=occurrence).campaign
    as_of = as_of or datetime.now(UTC)
    windows = Windows.around(campaign, timedelta(days=before_days), timedelta(days=after_days))
    past = windows.ending(until or min(as_of, windows.start))
    population = read(Settings.load(), campaign, past, as_of, set())
    declared = float(campaign.holdout.share) if campaign.holdout else 0.1
    try:
        found = planned(
            population.players, metric, size, share or declared, power=power, confidence=confidence
        )
    except ValueError as error:
        raise ConfigurationError(
            f"{file}: {error} between {past.before:%Y-%m-%dT%H:%M} and {past.after:%Y-%m-%dT%H:%M}: "
            "there is no past to plan by. --until and --before-days choose another"
        ) from None
    if form == "json":
        click.echo(json.dumps(document(found), indent=2))
        return
    click.echo(
        f"{metric} of {found.players} eligible players from {past.start:%Y-%m-%dT%H:%M} to "
        f"{past.after:%Y-%m-%dT%H:%M}: mean {found.mean:.2f}, standard deviation {found.deviation:.2f}"
    )
    click.echo(f"the time before explains {found.explained:.0%} of the variance (CUPED)")
    click.echo(
        f"with {share or declared:.0%} held back and power {power:g}, these players find an effect of "
        f"{found.smallest:.2f} a player, with CUPED {found.smallest_cuped:.2f}"
    )
    if size is not None:
        click.echo(
            f"an effect of {size:g} a player needs {found.needed} players, with CUPED "
            f"{found.needed_cuped}"
        )


def _show(campaign: "Campaign", found: "Effect", confidence: float) -> None:
    from rich.console import Console

    console = Console(width=120)
    groups = f"{found.treated} players, {found.control} in the control group ({found.design})"
    console.print(f"{campaign.title or campaign.name}: {groups}", highlight=False)
    if found.sample_ratio_p is not None:
        console.print(
            f"sizes of the groups as declared: p = {found.sample_ratio_p:.3f}", highlight=False
        )
    console.print(_table("Effect a player", found.estimates, confidence))
    console.print(_table("Guardrails: what may not rise", found.guardrails, confidence))
    returned = found.returned
    console.print(f"prizes {returned.prizes:.2f}", highlight=False)
    if total := returned.incremental_ngr:
        console.print(f"incremental NGR {_interval(total)}", highlight=False, markup=False)
    if each := returned.per_unit_of_prize:
        text = f"incremental NGR for each 1 of prize {_interval(each)}"
        console.print(text, highlight=False, markup=False)
    for warning in found.warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False)


def _table(title: str, estimates: "list[Estimate]", confidence: float) -> Any:
    from rich.table import Table

    table = Table(title=f"{title} ({confidence:.0%} intervals)", title_justify="left")
    for name in ("metric", "window", "with", "without", "difference", "difference with CUPED"):
        table.add_column(name, justify="left" if name in ("metric", "window") else "right")
    for each in estimates:
        table.add_row(
            each.name,
            each.window,
            _number(each.treated),
            _number(each.control),
            _interval(each.plain),
            _interval(each.adjusted) if each.adjusted else "",
        )
    return table


def _interval(found: "Difference") -> str:
    low, high = (_number(bound, "+") for bound in (found.low, found.high))
    return f"{_number(found.difference, '+')} [{low}, {high}]"


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.{2 if abs(value) >= 100 else 3}f}"
