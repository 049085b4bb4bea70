"""``roundhouse standings``: writes the standings of running campaigns to a topic."""

from pathlib import Path

import click

from streams.settings import Settings


@click.group()
def standings() -> None:
    """Write the standings of running campaigns to the topic `standings`."""


@standings.command("run")
@click.option(
    "--campaigns",
    "folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="Folder of definitions.",
)
def run_service(folder: Path) -> None:
    """Run the service that evaluates running campaigns and writes what changes."""
    from connectors.standings.service import run
    from streams.runtime.fail_stop import told_to_stop

    run(Settings.load(), folder, told_to_stop())
