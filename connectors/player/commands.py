"""``roundhouse player``."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from connectors.cli.options import UtcTime
from streams.settings import Settings


@click.group()
def player() -> None:
    """One player of a tenant."""


@player.command("erase")
@click.argument("tenant")
@click.argument("player_id")
@click.option("--by", help="Who erases; default: the login.")
@click.option("--reason", default="", help="Why; stored with the erasure. Do not name the player.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Writes the report to this file."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase_player(tenant: str, player_id: str, report: Path | None, yes: bool, **who: Any) -> None:
    """Erase a player: refuse later items, remove state, put a pseudonym in ClickHouse.

    It cannot be undone, and the player_id is refused from then on. A run that was interrupted is
    completed by running it again.
    """
    from connectors.player.erase import Who, as_json, erase
    from connectors.rejects.stored import login

    if not yes:
        click.confirm(f"Erase this player of {tenant}, for good?", abort=True)
    erasing = Who(who["by"] or login(), who["reason"])
    done = erase(Settings.load(), tenant, player_id, erasing, lambda line: click.echo(line, err=True))
    text = as_json(done)
    if report is not None:
        report.write_text(text + "\n")
    click.echo(text)


@player.command()
@click.argument("tenant")
@click.argument("player_ids", nargs=-1)
@click.option("--as-of", type=UtcTime(), help="Of what was received until then (UTC); default: now.")
@click.option("--top", default=20, show_default=True, help="How many persons to show.")
def merged(tenant: str, player_ids: tuple[str, ...], as_of: datetime | None, top: int) -> None:
    """List players that are one person and the contacts that they share; the largest person first."""
    from connectors.player.merging import persons

    found = persons(Settings.load(), tenant, as_of or datetime.now(UTC), player_ids)
    for person in found[:top]:
        click.echo("\n".join(person.lines()))
    click.echo(f"{len(found)} persons, {sum(len(person.contacts) for person in found)} merged players")


@player.command()
@click.argument("tenant")
@click.argument("player_ids", nargs=-1)
@click.option("--contact", help="A contact as `merged` prints it, e.g. email:ann@example.com.")
@click.option("--undo", is_flag=True, help="Take such a correction back.")
@click.option("--by", help="Who corrects; default: the login.")
@click.option("--reason", required=True, help="Why; stored with the correction.")
def unmerge(
    tenant: str,
    player_ids: tuple[str, ...],
    contact: str | None,
    undo: bool,
    **audit: Any,
) -> None:
    """Record that two players are not the same, or whose a contact is not.

    Two players: they no longer hold the contacts that both of them have. A player and a contact: the
    player no longer holds it. A contact alone, e.g. of a household: nobody holds it.
    """
    from connectors.player.merging import Correction, correct, persons
    from connectors.rejects.stored import login

    settings = Settings.load()
    correction = Correction(tenant, player_ids, contact)
    correct(settings, correction, audit["by"] or login(), audit["reason"], holds=not undo)
    click.echo("recorded")
    for person in persons(settings, tenant, datetime.now(UTC), player_ids) if player_ids else ():
        if not undo and len(set(player_ids) & person.contacts.keys()) == 2:
            click.echo(f"{' and '.join(player_ids)} are still merged, by way of other players:")
        click.echo("\n".join(person.lines()))
