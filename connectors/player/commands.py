"""``roundhouse player``."""

from pathlib import Path
from typing import Any

import click

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
