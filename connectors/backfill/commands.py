"""``roundhouse backfill``."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from streams.errors import ConfigurationError
from streams.settings import Settings

if TYPE_CHECKING:
    from connectors.backfill.files import Source
    from connectors.backfill.requests import Job
    from connectors.backfill.run import Pace
    from connectors.edge.tenants import Tenant
    from streams.core.event import Batch


class Choice(NamedTuple):
    """What the files hold: the options of the command."""

    tenant: str
    source: str
    kind: str | None
    holds: str | None
    mapping: Path | None


@click.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True)
)
@click.option("--tenant", required=True, help="Tenant that the events are of.")
@click.option("--source", required=True, help="Format of the items: native, fasttrack or gameball.")
@click.option("--kind", help="Event of every item, if a line is only its data.")
@click.option(
    "--holds", type=click.Choice(["ndjson", "json", "csv"]),
    help="What the files hold; default: as their names end.",
)  # fmt: skip
@click.option(
    "--mapping", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="YAML file that maps the columns of CSV files to fields.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Read all files, report errors, and write nothing.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="At most so many items/s.")
@click.option(
    "--in-flight", default=1000, show_default=True, type=click.IntRange(min=1),
    help="Items that are written and not settled. Live traffic may wait for these.",
)  # fmt: skip
@click.option(
    "--sink-lag", "sink_lag_s", default=2.0, show_default=True, type=click.FloatRange(min=0),
    help="Wait while the sink is more seconds behind; 0: do not ask.",
)  # fmt: skip
@click.option("--state", type=click.Path(path_type=Path, dir_okay=False), help="File of the progress.")
@click.option(
    "--wait", "wait_s", default=300.0, show_default=True,
    help="Seconds without progress of the line after which the command gives up.",
)  # fmt: skip
@click.option("--examples", default=20, show_default=True, help="Refused items to show of a file.")
def backfill(
    files: Sequence[Path],
    tenant: str,
    source: str,
    kind: str | None,
    holds: str | None,
    *,
    mapping: Path | None,
    dry_run: bool,
    rate: float | None,
    in_flight: int,
    sink_lag_s: float,
    state: Path | None,
    wait_s: float,
    examples: int,
) -> None:
    """Write the events of files to the line, beside live traffic; continues if it was interrupted.

    A file is NDJSON (one item on a line, .ndjson or .jsonl), a JSON body (.json) or CSV with a mapping
    (.csv), plain or gzip.
    Exit with status 1 if an item was refused.
    """
    from connectors.backfill.run import Pace

    settings, choice = Settings.load(), Choice(tenant, source, kind, holds, mapping)
    pace = Pace(in_flight, rate, sink_lag_s or None, wait_s, examples)
    if dry_run:
        refused = _dry_run(settings, files, choice, examples)
    else:
        refused = _run(settings, files, choice, pace, state)
    sys.exit(bool(refused))


def _work(settings: Settings, files: Sequence[Path], choice: Choice) -> "list[tuple[Source, Job]]":
    from connectors.backfill.files import Source, digest_of, holds_of
    from connectors.backfill.mapping import load
    from connectors.backfill.requests import Job
    from connectors.edge.tenants import Registry, existing

    registry = Registry(settings.tenants_path)
    make = _batch_maker(existing(registry.all(), choice.tenant), choice)
    erased = registry.erased(choice.tenant)
    mapped = None if choice.mapping is None else load(choice.mapping)
    found = []
    for path in files:
        holds = choice.holds or holds_of(path)
        if (holds == "csv") != (mapped is not None):
            raise ConfigurationError(f"{path} is {holds}: --mapping is for CSV files, which need it")
        mapping = None if mapped is None else mapped.mapping
        source = Source(path, holds, choice.source, settings.body_bytes_max, mapping)
        digest = "" if mapped is None else mapped.digest
        job = Job(choice.tenant, choice.source, choice.kind, digest_of(path), digest, make, erased)
        found.append((source, job))
    return found


def _batch_maker(tenant: "Tenant", choice: Choice) -> "Callable[[str], Batch]":
    """Makes the batch of a request that is received now. Raises ``ConfigurationError``."""
    from streams.formats import READERS, fasttrack, native

    if choice.source not in READERS:
        raise ConfigurationError(f"--source {choice.source}: use one of {', '.join(READERS)}")
    if choice.kind is not None and choice.mapping is not None:
        raise ConfigurationError("--kind: the mapping says it")
    if choice.kind is not None:
        kinds = {"native": native.KINDS, "fasttrack": fasttrack.KINDS}.get(choice.source)
        if kinds is None:
            raise ConfigurationError(f"--kind is for native and fasttrack; {choice.source} has none")
        if choice.kind not in kinds:
            raise ConfigurationError(f"--kind {choice.kind}: use one of {', '.join(kinds)}")
    return lambda batch_id: tenant.batch(choice.tenant, choice.source, batch_id, time.time_ns() // 1000)


def _dry_run(settings: Settings, files: Sequence[Path], choice: Choice, examples: int) -> int:
    from connectors.backfill.files import entries
    from connectors.backfill.requests import units
    from connectors.backfill.run import said

    refused = 0
    for source, job in _work(settings, files, choice):
        read = items = invalid = unreadable = 0
        for unit in units(job, entries(source), 0):
            read, items = unit.end, items + unit.items
            for refusal in unit.refusals:
                if invalid + unreadable < examples:
                    click.echo(said(source, refusal))
                invalid += refusal.written
                unreadable += not refusal.written
        if invalid + unreadable > examples:
            click.echo(f"{invalid + unreadable - examples} more; --examples shows more")
        click.echo(
            f"{source.path}: {read} read, {items} items of which {invalid} are invalid, "
            f"{unreadable} unreadable; nothing is written"
        )
        refused += invalid + unreadable
    return refused


def _run(
    settings: Settings, files: Sequence[Path], choice: Choice, pace: "Pace", state: Path | None
) -> int:
    from connectors.backfill.journal import Journal
    from connectors.backfill.run import Backfill
    from streams.kafka.admin import wait_for_broker

    work = _work(settings, files, choice)
    line = f"{wait_for_broker(settings)} {settings.topic_prefix}"
    path = state or settings.data_dir / "backfill.json"
    refused = 0
    say = partial(click.echo, err=True)
    with (
        closing(Journal(path, line)) as journal,
        closing(Backfill(settings, journal, pace, say)) as filling,
    ):
        for source, job in work:
            done = filling.run(job, source)
            for example in done.examples:
                click.echo(example)
            click.echo(
                f"{source.path}: {done.entries} read, {done.accepted} accepted, {done.duplicate} "
                f"duplicate, {done.conflict} conflict, {done.rejected} rejected, {done.unreadable} "
                f"unreadable; its batches begin with {done.lead}"
            )
            refused += done.refused
    return refused
