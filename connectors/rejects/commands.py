"""``roundhouse rejects``."""

import json
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from connectors.cli.options import UtcTime
from streams.errors import ConfigurationError, ConflictStands
from streams.settings import Settings


def _filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of :class:`connectors.rejects.stored.Filter`."""
    for option in (
        click.option("--to", "received_to", type=UtcTime(), help="Received before (UTC)."),
        click.option("--from", "received_from", type=UtcTime(), help="Received at or after (UTC)."),
        click.option("--batch", "batch_id", help="Batch id, as in the answer's x-batch-id."),
        click.option("--outcome", type=click.Choice(["rejected", "conflict"])),
        click.option("--code", help="Code of the first error."),
        click.option("--tenant"),
    ):
        command = option(command)
    return command


@click.group()
def rejects() -> None:
    """Refused items: find them, and replay them after their cause is removed."""


@rejects.command("list")
@_filtered
@click.option("--limit", default=100, show_default=True, help="How many to list, the oldest first.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines, which `replay --mended` reads.")
def list_rejects(limit: int, as_json: bool, **values: Any) -> None:
    """List refused items with their first error."""
    from connectors.rejects.stored import Filter, as_line, count, find

    settings, chosen = Settings.load(), Filter(**values)
    found = find(settings, chosen, limit)
    for reject in found:
        first = reject.errors[0]
        click.echo(
            as_line(reject)
            if as_json
            else f"{reject.reject_id}  {reject.received_at[:19]}  {reject.tenant}  {reject.source}  "
            f"{reject.code}  {first['pointer']}  {first['message']}"
        )
    if len(found) == limit:
        total = sum(count(settings, chosen).values())
        click.echo(f"{len(found)} of {total}; --limit shows more", err=True)


@rejects.command("show")
@click.argument("reject_id")
@click.option("--tenant", help="Only needed if two tenants have a reject of this id.")
def show(reject_id: str, tenant: str | None) -> None:
    """Show a refused item: where it came from, every error, and its bytes."""
    from connectors.rejects.stored import Filter, compared, find

    settings = Settings.load()
    found = find(settings, Filter(tenant=tenant, reject_ids=(reject_id,)), 2)
    if not found:
        raise ConfigurationError(
            f"no reject has the id {reject_id}; `roundhouse rejects list` lists them"
        )
    for reject in found:
        click.echo(f"tenant    {reject.tenant}")
        click.echo(f"received  {reject.received_at}")
        click.echo(f"batch     {reject.batch_id}, item {reject.position}, format {reject.source}")
        click.echo(f"raw       partition {reject.raw_partition}, offset {reject.raw_offset}")
        click.echo(f"outcome   {reject.outcome} by {reject.stage}")
        for error in reject.errors:
            click.echo(f"error     {error['code']}  {error['pointer']}  {error['message']}")
        _show_differences(compared(settings, reject))
        click.echo(reject.payload.decode(errors="replace"))


def _show_differences(found: Any) -> None:
    """Prints the lines of a :class:`connectors.status.differences.Compared`, if there is one."""
    if found is None:
        return
    accepted = found.accepted
    click.echo(f"accepted  {accepted.received_at}, batch {accepted.batch_id}, item {accepted.position}")
    for field in found.fields:
        values = (json.dumps(field[side], ensure_ascii=False) for side in ("accepted", "refused"))
        click.echo(f"differs   {field['field']}: accepted {next(values)}, refused {next(values)}")


class _Mended(msgspec.Struct):
    """A line of ``--mended``; fields that ``list --json`` adds are skipped."""

    reject_id: str
    item: msgspec.Raw


def _read_mended(path: Path | None) -> dict[str, bytes]:
    if path is None:
        return {}
    found = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = msgspec.json.decode(line, type=_Mended)
        except ValueError as error:
            raise ConfigurationError(
                f'{path}:{number}: {error}; a line is {{"reject_id": "…", "item": …}}, as '
                "`roundhouse rejects list --json` prints it"
            ) from None
        found[entry.reject_id] = bytes(entry.item)
    if not found:
        raise ConfigurationError(f"{path} has no lines")
    return found


@rejects.command("replay")
@click.argument("reject_ids", nargs=-1)
@_filtered
@click.option(
    "--mended", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="JSON lines of changed items; only these are replayed.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Count and check, and write nothing.")
@click.option("--again", is_flag=True, help="Also those that were replayed before.")
@click.option("--max", "items_max", default=1000, show_default=True, help="Refuse to replay more.")
@click.option("--rate", default=200.0, show_default=True, help="Items a second.")
@click.option("--by", help="Who replays; default: the login.")
@click.option("--reason", default="", help="Why; stored with the replay.")
def replay_rejects(
    reject_ids: tuple[str, ...],
    mended: Path | None,
    again: bool,
    items_max: int,
    **values: Any,
) -> None:
    """Write refused items to the line again: those given, or all that the filter chooses.

    An item keeps its identity, so replaying it twice changes nothing. Items that are still invalid are
    left out and reported.
    """
    from connectors.rejects import replay, stored

    options = {name: values.pop(name) for name in ("dry_run", "rate", "by", "reason")}
    items = _read_mended(mended)
    chosen_ids = (*reject_ids, *items)
    if not chosen_ids and not any(values.values()):
        raise ConfigurationError("say what to replay: ids, --mended FILE, or a filter like --tenant")
    settings = Settings.load()
    chosen = stored.Filter(**values, reject_ids=chosen_ids, replayed=None if again else False)
    matching = stored.count(settings, chosen)
    total = sum(matching.values())
    if total > items_max:
        raise ConfigurationError(
            f"{total} rejects match, more than --max {items_max}; nothing is written"
        )
    prepared = replay.prepare(
        settings, stored.find(settings, chosen, items_max), items, time.time_ns() // 1000
    )
    _report(matching, prepared)
    if options["dry_run"]:
        return
    who = replay.Replaying(options["by"] or stored.login(), options["reason"], options["rate"])
    written = 0
    for request in replay.replay(settings, prepared.requests, who, items):
        written += len(request.rejects)
        click.echo(
            f"batch {request.batch.batch_id} of {request.batch.tenant}: {len(request.rejects)} items"
        )
    click.echo(f"{written} items written")


@rejects.command("accept")
@click.argument("reject_id")
@click.option("--tenant", help="Only needed if two tenants have a reject of this id.")
@click.option("--reason", required=True, help="Why; stored with the correction.")
@click.option("--by", help="Who accepts; default: the login.")
@click.option("--dry-run", is_flag=True, help="Show what would be replaced, and write nothing.")
@click.option("--wait", "wait_s", default=60.0, show_default=True, help="Seconds for the outcome.")
def accept_reject(
    reject_id: str, tenant: str | None, *, reason: str, by: str | None, dry_run: bool, wait_s: float
) -> None:
    """Accept an id_conflict as a correction: it replaces the accepted item with its id.

    Exit with status 1 if the line refuses it. The same command again changes nothing.
    """
    from connectors.rejects import corrections, stored

    settings = Settings.load()
    prepared = corrections.prepare(settings, reject_id, tenant, datetime.now(UTC))
    if prepared is None:
        click.echo(f"{reject_id} is what counts already; nothing is written")
        return
    _show_differences(prepared.compared)
    batch_id = prepared.request.batch.batch_id
    if dry_run:
        click.echo(f"would be batch {batch_id}; nothing is written")
        return
    if not corrections.apply(settings, prepared, by or stored.login(), reason, wait_s):
        raise ConflictStands(
            f"the line has refused batch {batch_id}; `roundhouse rejects list --batch {batch_id}` "
            "shows why"
        )
    click.echo(f"batch {batch_id} has corrected {reject_id}")


def _report(matching: dict[tuple[str, str], int], prepared: Any) -> None:
    ready = Counter(
        (reject.tenant, reject.code) for request in prepared.requests for reject in request.rejects
    )
    for (tenant, code), items in matching.items():
        click.echo(f"{tenant}  {code}: {items} match, {ready[tenant, code]} would be accepted now")
    for reject, reason in prepared.left_out:
        click.echo(f"left out {reject.reject_id}: {reason}")
    if not matching:
        click.echo("nothing matches")
