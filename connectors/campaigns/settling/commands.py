"""``roundhouse campaign settle`` and ``roundhouse campaign review``."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from connectors.campaigns.effect.commands import FILE, OCCURRENCE
from connectors.campaigns.sql.expressions import plain
from connectors.cli.options import UtcTime
from streams.settings import Settings

if TYPE_CHECKING:
    from connectors.campaigns.settling.awards import Difference
    from connectors.campaigns.settling.ledger import Settlement
    from connectors.campaigns.settling.settle import Order

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_DIFFERENCES_MAX = 20


def _of_an_order(command: Callable[..., None]) -> Callable[..., None]:
    """The options of :class:`connectors.campaigns.settling.settle.Order`."""
    for option in (
        click.option(
            "--wait",
            "wait_s",
            default=60.0,
            show_default=True,
            help="Seconds for the line to read what it has received.",
        ),
        click.option(
            "--unfinished",
            is_flag=True,
            help="Although the period is not over or items have no outcome yet: what they change is "
            "then changed by a review only.",
        ),
        click.option("--by", help="Who; default: the login."),
        click.option(
            "--as-of", type=UtcTime(), help="What was received until then (UTC); default: now."
        ),
        OCCURRENCE,
    ):
        command = option(command)
    return command


@click.command()
@click.argument("file", type=FILE)
@_of_an_order
@_JSON
def settle(
    file: Path, occurrence: datetime | None, as_of: datetime | None, by: str | None,
    *, unfinished: bool, wait_s: float, as_json: bool,
) -> None:  # fmt: skip
    """End a campaign: freeze its result and publish its awards, once.

    The same command again, also after a crash, writes nothing that was written before.
    """
    from connectors.campaigns.model.definition import load
    from connectors.campaigns.settling.settle import settle as run

    order = _order(as_of, by, "", unfinished=unfinished, wait_s=wait_s)
    settlement, is_new, is_intact = run(
        Settings.load(), load(file, occurrence=occurrence), order, _report
    )
    if as_json:
        click.echo(json.dumps(_document(settlement) | {"is_new": is_new, "is_intact": is_intact}))
    else:
        done = "settled" if is_new else f"was settled by {settlement.settled_by}; nothing is written"
        click.echo(f"{settlement.campaign} of {settlement.tenant} {done}")
        click.echo(
            f"{settlement.players} players with a score, {settlement.awards} awards, prizes "
            f"{plain(settlement.prizes)} in all"
        )
        click.echo(
            f"as of {settlement.as_of:%Y-%m-%dT%H:%M:%S.%f}; {settlement.unsettled} items unsettled"
        )
        click.echo(f"run {settlement.run_id}, SHA-256 {settlement.result_sha256}")
    if not is_intact:
        click.echo(
            "The stored rows no longer have this hash: an erasure has changed them, or somebody else",
            err=True,
        )


@click.command()
@click.argument("file", type=FILE)
@_of_an_order
@click.option("--publish", is_flag=True, help="Publish the differences as corrections.")
@click.option("--reason", default="", help="Why; stored with the corrections. --publish needs it.")
@_JSON
def review(
    file: Path, occurrence: datetime | None, as_of: datetime | None, by: str | None,
    *, unfinished: bool, wait_s: float, publish: bool, reason: str, as_json: bool,
) -> None:  # fmt: skip
    """Compare a settled campaign with its result at a later time; --publish corrects awards."""
    from connectors.campaigns.model.definition import load
    from connectors.campaigns.settling.settle import review as run

    if publish and not reason:
        raise click.UsageError("--publish needs --reason: it is stored with each correction")
    order = _order(as_of, by, reason, unfinished=unfinished, wait_s=wait_s)
    found = run(Settings.load(), load(file, occurrence=occurrence), order, _report, publish=publish)
    if as_json:
        document = {
            "differences": [_difference(each) for each in found.differences],
            "published": found.published and _document(found.published),
        }
        click.echo(json.dumps(document))
        return
    for each in found.differences[:_DIFFERENCES_MAX]:
        shown = _difference(each)
        step = f" step {shown['step']}" if shown["step"] else ""
        click.echo(f"{shown['player_id']}{step}: {_prize(each, 'before')} -> {_prize(each, 'after')}")
    if found.differences[_DIFFERENCES_MAX:]:
        click.echo(f"… {len(found.differences)} in all; --json shows all")
    if not found.differences:
        click.echo("no prize differs from what was published")
    elif found.published is None:
        click.echo(f"{len(found.differences)} prizes differ; nothing is written without --publish")
    else:
        click.echo(f"{found.published.awards} corrections published as review {found.published.number}")


def _order(
    as_of: datetime | None, by: str | None, reason: str, *, unfinished: bool, wait_s: float
) -> "Order":
    from connectors.campaigns.settling.settle import Order
    from connectors.rejects.stored import login

    return Order(by or login(), reason, as_of, unfinished, wait_s)


def _report(line: str) -> None:
    click.echo(line, err=True)


def _document(settlement: "Settlement") -> dict[str, object]:
    times = {
        name: getattr(settlement, name).isoformat(timespec="microseconds")
        for name in ("as_of", "ended_at", "settled_at")
    }
    return settlement._asdict() | times | {"prizes": plain(settlement.prizes)}


def _difference(found: "Difference") -> dict[str, object]:
    player_id, step = found.place
    prizes = {
        side: prize._asdict() | {"amount": plain(prize.amount)}
        for side, prize in (("before", found.before), ("after", found.after))
    }
    return {"player_id": player_id, "step": step, **prizes}


def _prize(found: "Difference", side: str) -> str:
    prize = found.before if side == "before" else found.after
    item = f" and {prize.item_count or 1} x {prize.item}" if prize.item else ""
    return f"{plain(prize.amount)}{item}"
