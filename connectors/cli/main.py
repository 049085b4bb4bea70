"""The command line: ``roundhouse --help`` lists the commands, docs/operations.md explains them."""

import json
import logging
import logging.config
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connectors.audit.commands import audit
from connectors.backfill.commands import backfill
from connectors.campaigns.commands import campaign, rates
from connectors.clickhouse.commands import grant, kpis, revoke_user
from connectors.clickhouse.rounds_commands import rounds
from connectors.export.commands import dbt_sources, export
from connectors.player.commands import player
from connectors.rejects.commands import rejects
from connectors.standings.commands import standings
from connectors.webhooks.commands import tenant_webhook, webhooks
from streams.errors import ConfigurationError, RoundhouseError
from streams.runtime.fail_stop import EXIT_CONFIGURATION
from streams.settings import Settings
from streams.telemetry.logs import Form, configuration

if TYPE_CHECKING:
    from connectors.edge.tenants import Grant

Logs = Callable[[str], dict[str, Any]]
"""Returns the configuration of logging for the name of a process."""


class _Commands(click.Group):
    """Turns a known error of any command into one clear message and an exit status.

    The status is 78 for a wrong setting, after which a supervisor does not restart the process, and 1
    for other errors.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RoundhouseError as error:
            shown = click.ClickException(str(error))
            shown.exit_code = EXIT_CONFIGURATION if isinstance(error, ConfigurationError) else 1
            raise shown from None


@click.group(cls=_Commands)
@click.version_option(package_name="roundhouse")
@click.option("--log-level", default="INFO", envvar="ROUNDHOUSE_LOG_LEVEL", show_default=True)
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text",
    envvar="ROUNDHOUSE_LOG_FORMAT", show_default=True,
)  # fmt: skip
@click.pass_context
def main(ctx: click.Context, log_level: str, log_format: Form) -> None:
    """Processes casino events to enriched rounds; each event counts exactly once."""
    ctx.obj = partial(configuration, log_format, log_level)
    logging.config.dictConfig(ctx.obj(ctx.invoked_subcommand or "roundhouse"))


@main.command()
@click.option("--memory", is_flag=True, help="In-memory broker; keeps nothing, needs no JDK.")
@click.option("--processes", default=1, show_default=True, help="Worker processes.")
def up(memory: bool, processes: int) -> None:
    """Start the whole stack on this machine; Ctrl-C stops it and keeps its data."""
    from connectors.demo.report import curl_example
    from connectors.edge.tenants import Registry
    from connectors.local.stack import Stack
    from connectors.local.supervision import supervision
    from connectors.local.supervisor import stop_on_signals

    settings = Settings.load()
    with tempfile.TemporaryDirectory(prefix="roundhouse-") as temporary:
        if memory:
            settings = settings.model_copy(update={"data_dir": Path(temporary)})
        registry = Registry(settings.tenants_path)
        key = None
        if not registry.all():
            key = registry.add("demo", channel_merging=False, campaigns_enabled=True)
        with Stack(settings, memory, processes) as stack:
            click.echo(f"edge       {stack.edge_url}")
            click.echo(f"kafka      {stack.settings.kafka_bootstrap}")
            click.echo(f"data       {settings.data_dir}")
            click.echo("\nPost an event:\n")
            click.echo(curl_example(stack.edge_url, key or "$YOUR_API_KEY"))
            if key is None:
                click.echo("\n(`roundhouse tenant rotate NAME` makes a new key.)")
            where = f"ROUNDHOUSE_DATA_DIR={settings.data_dir} " if memory else ""
            click.echo(f'\nAsk:\n\n{where}roundhouse sql "SELECT * FROM rounds"\n')
            click.echo("Ctrl-C stops the stack.")
            stop_on_signals(stack.supervisor)
            with supervision(settings, stack.supervisor, "up"):
                stack.supervisor.run()
            click.echo("stopping")


@main.command()
@click.option("--memory", is_flag=True, help="In-memory broker; keeps nothing, needs no JDK.")
@click.option("--events", default=20_000, show_default=True, help="Events of the day, about.")
@click.option("--seed", default=7, show_default=True, help="The same seed makes the same day.")
@click.option("--processes", default=1, show_default=True, help="Worker processes.")
def demo(memory: bool, events: int, seed: int, processes: int) -> None:
    """Post a realistic casino day to the edge and show the results."""
    from connectors.demo.run import run_demo

    run_demo(Settings.load(), memory=memory, events=events, seed=seed, processes=processes)


@main.command()
@click.option("--processes", default=1, show_default=True, help="Edge processes on one port.")
def edge(processes: int) -> None:
    """Serve the HTTP edge; with several processes, one that ends is started again."""
    from connectors.edge.server import bound, serve

    settings = Settings.load()
    with bound(settings) as listener:
        if processes == 1:
            serve(settings, listener)
        else:
            command = ["edge-process", str(listener.fileno())]
            commands = {f"edge-{index}": command for index in range(processes)}
            _supervise(settings, "edge", commands, files=[listener.fileno()])


@main.command("edge-process", hidden=True)
@click.argument("listener", type=int)
@click.pass_obj
def edge_process(logs: Logs, listener: int) -> None:
    """One of several edge processes, on the file descriptor of a socket that they share."""
    from connectors.edge.server import serve

    logging.config.dictConfig(logs("edge"))
    serve(Settings.load(), socket.socket(fileno=listener))


@main.command()
@click.option("--processes", default=1, show_default=True, help="Worker processes to run.")
@click.option(
    "--name", default="worker", show_default=True, help="Name of the worker, unique per machine."
)
def worker(processes: int, name: str) -> None:
    """Run the translate and process stages; a process that ends is started again."""
    commands = {
        f"{name}-{index}": ["worker-process", str(index), "--name", name] for index in range(processes)
    }
    _supervise(Settings.load(), name, commands)


def _supervise(
    settings: Settings, name: str, commands: dict[str, list[str]], files: Sequence[int] = ()
) -> None:
    """Runs commands of this program, by process name, until told to stop; they inherit ``files``."""
    from connectors.local.supervision import supervision
    from connectors.local.supervisor import MORE_TO_STOP_S, Supervisor, stop_on_signals

    supervisor = Supervisor(stop_within_s=settings.stop_within_s + MORE_TO_STOP_S)
    stop_on_signals(supervisor)
    program = [sys.executable, "-P", "-m", "connectors.cli"]
    try:
        for process, command in commands.items():
            supervisor.start(process, [*program, *command], os.environ, name, files=files)
        with supervision(settings, supervisor, name):
            supervisor.run()
    finally:
        supervisor.stop()


@main.command("worker-process", hidden=True)
@click.argument("index", type=int)
@click.option("--name", default="worker")
@click.pass_obj
def worker_process(logs: Logs, index: int, name: str) -> None:
    """One worker process, not supervised."""
    from streams.runtime.faust_app import run_worker

    process = f"{name}-{index}"
    logging.config.dictConfig(logs(process))
    run_worker(Settings.load(), process, logs(process))


@main.command()
def sink() -> None:
    """Run the sink into ClickHouse, with the loopback port that `roundhouse sql` queries."""
    from connectors.clickhouse.service import run_sink

    run_sink(Settings.load())


@main.command()
@click.option(
    "--campaigns",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of definitions; default: the worked examples.",
)
@click.option(
    "--operators-only", is_flag=True, help="Serve the page for operators alone; the others need no key."
)
def console(campaigns: Path | None, operators_only: bool) -> None:
    """Serve a page with live leaderboards, KPIs and the state of the line, and one for operators."""
    from connectors.campaigns.folder import EXAMPLES
    from connectors.console.app import serve

    settings = Settings.load()
    serve(settings, campaigns or EXAMPLES, click.echo, operators_only)


@main.command("memory-broker", hidden=True)
@click.argument("address_file", type=click.Path(path_type=Path))
def memory_broker(address_file: Path) -> None:
    """Run the in-memory broker."""
    from connectors.local.memory_broker import serve

    serve(address_file)


@main.command()
def migrate() -> None:
    """Bring ClickHouse's schema up to date."""
    from connectors.clickhouse.client import connect
    from connectors.clickhouse.migrate import migrate as apply

    settings = Settings.load()
    client = connect(settings)
    applied = apply(client, settings.clickhouse_database, cluster=settings.clickhouse_cluster)
    for name in applied or ["nothing to do"]:
        click.echo(name)
    client.close()


@main.command()
def topics() -> None:
    """Create the Kafka topics that are missing and list all."""
    from streams.kafka.admin import ensure_topics, wait_for_broker
    from streams.records.topics import TOPICS

    settings = Settings.load()
    wait_for_broker(settings)
    created = ensure_topics(settings)
    for topic in TOPICS:
        name = settings.topic_prefix + topic.name
        click.echo(f"{name}{'  created' if name in created else ''}")


@main.command()
def asyncapi() -> None:
    """Print the AsyncAPI document of the topics with the current settings."""
    from connectors.cli.asyncapi import as_yaml

    click.echo(as_yaml(Settings.load()), nl=False)


@main.command()
def openapi() -> None:
    """Print the OpenAPI document of the edge with the current settings."""
    from connectors.edge.openapi import as_json

    click.echo(as_json(Settings.load()), nl=False)


@main.command()
@click.option(
    "--to", type=click.IntRange(2, 1024), required=True, help="A multiple of the current number."
)
@click.option("--dry-run", is_flag=True, help="Report the copies, and write nothing.")
def repartition(to: int, dry_run: bool) -> None:
    """Increase the partitions of a line whose workers are stopped; resumes if interrupted."""
    from streams.kafka.schema_ids import frames
    from streams.kafka.schemas import Schemas
    from streams.state.repartition import Repartitioning

    settings = Settings.load()
    schemas = Schemas(settings, frames(settings))
    copies = Repartitioning(settings, schemas, to, click.echo).run(dry_run)
    for copied in copies if dry_run else ():
        click.echo(f"would make: {copied}")
    if copies and not dry_run:
        click.echo(f"Done. Set ROUNDHOUSE_PARTITIONS={to} everywhere, and start the workers.")


@main.command()
@click.argument("query")
@click.option(
    "--format", "form", type=click.Choice(["table", "csv", "tsv", "json"]), default="table",
    show_default=True,
)  # fmt: skip
def sql(query: str, form: str) -> None:
    """Query ClickHouse, whether or not the stack runs."""
    from connectors.clickhouse.query import query as ask

    click.echo(ask(Settings.load(), query, form), nl=False)


@main.command()
@click.argument(
    "what",
    type=click.Choice(["worker", "sink", "edge", "webhooks", "standings", "console", "supervisor"]),
)
@click.option("--name", default="", help="Only the processes of this name, e.g. the workers'.")
@click.option("--json", "as_json", is_flag=True, help="Everything that the processes report.")
def health(what: str, name: str, as_json: bool) -> None:
    """Exit with status 1 unless these processes of this machine are live and ready."""
    from connectors.local.health import pages

    settings = Settings.load()
    found = pages(settings, what, name)
    if not found:
        click.echo(f"no {what} has run on {settings.data_dir}", err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps({page.name: page.document for page in found}, indent=2))
    else:
        for page in found:
            for line in page.lines():
                click.echo(line)
    sys.exit(0 if all(page.is_well for page in found) else 1)


@main.command()
@click.option(
    "--role",
    "roles",
    type=click.Choice(["edge", "worker", "sink"]),
    multiple=True,
    help="Services of this machine; default: all. May be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Findings as a JSON list.")
def doctor(roles: tuple[str, ...], as_json: bool) -> None:
    """Check the set-up; exit with status 1 if a finding keeps the line from working."""
    from connectors.doctor import run

    findings = list(run.examine(Settings.load(), roles or run.ROLES))
    click.echo(run.as_json(findings) if as_json else run.as_text(findings))
    sys.exit(run.has_error(findings))


@main.group()
def tenant() -> None:
    """Tenants and their API keys."""


def _of_a_key(command: Callable[..., None]) -> Callable[..., None]:
    """The options of a new key."""
    scope = click.option(
        "--scope",
        "scopes",
        type=click.Choice(["post", "read"]),
        multiple=True,
        help="What the key may do; default: everything. May be given several times.",
    )
    expiry = click.option(
        "--expires-at", type=click.DateTime(), help="When the key ends, in UTC; default: never."
    )
    return scope(expiry(command))


def _grant(scopes: tuple[Any, ...], expires_at: datetime | None) -> "Grant":
    from connectors.edge.tenants import EVERYTHING, Grant

    until = None if expires_at is None else expires_at.replace(tzinfo=UTC)
    return Grant(scopes or EVERYTHING.scopes, until)


@tenant.command("add")
@click.argument("name")
@click.option("--channel-merging", is_flag=True, help="Keep mobile and e-mail of Gameball events.")
@click.option(
    "--campaigns-disabled", is_flag=True, help="Store events without counting them in campaigns."
)
@click.option("--test", is_flag=True, help="Add NAME.test, whose events no KPI and no campaign counts.")
@_of_a_key
def tenant_add(
    name: str, channel_merging: bool, campaigns_disabled: bool, test: bool, **grant: Any
) -> None:
    """Add a tenant and show its first key, only this once."""
    counts, allowed = not campaigns_disabled, _grant(**grant)
    click.echo(_registry().add(name, channel_merging, counts, allowed, test=test))


@tenant.command("rotate")
@click.argument("name")
@_of_a_key
def tenant_rotate(name: str, **grant: Any) -> None:
    """Add a key and show it, only this once; older keys stay valid until revoked."""
    click.echo(_registry().rotate(name, _grant(**grant)))


@tenant.command("revoke")
@click.argument("name")
@click.argument("key_id")
def tenant_revoke(name: str, key_id: str) -> None:
    """Revoke a key, by the id that `tenant list` shows."""
    _registry().revoke(name, key_id)


@tenant.command("set")
@click.argument("name")
@click.option("--channel-merging/--no-channel-merging", default=None)
@click.option("--campaigns/--no-campaigns", default=None)
@click.option("--requests-per-s", type=click.FloatRange(min=0), help="0: as the setting says.")
@click.option("--items-per-s", type=click.FloatRange(min=0), help="0: as the setting says.")
@click.option("--bytes-per-s", type=click.FloatRange(min=0), help="0: as the setting says.")
def tenant_set(
    name: str, channel_merging: bool | None, campaigns: bool | None, **limits: float | None
) -> None:
    """Change a tenant's switches and limits for later requests."""
    switches = {"channel_merging": channel_merging, "campaigns_enabled": campaigns}
    given = {key: value for key, value in switches.items() if value is not None}
    limited = {key: value or None for key, value in limits.items() if value is not None}
    if not given and not limited:
        raise ConfigurationError("say what to set, e.g. --no-campaigns")
    if given:
        _registry().switch(name, **given)
    if limited:
        _registry().limit(name, limited)


@tenant.command("list")
def tenant_list() -> None:
    """List tenants, switches and the ids of valid keys."""
    for name, found in sorted(_registry().all().items()):
        merging = "on" if found.channel_merging else "off"
        campaigns = "on" if found.campaigns_enabled else "off"
        limits = "".join(f"  {limit}={value:g}" for limit, value in found.limits if value is not None)
        click.echo(f"{name}  channel-merging={merging}  campaigns={campaigns}{limits}")
        for key_id, key in found.keys.items():
            until = "" if key.expires_at is None else f"  until {key.expires_at:%Y-%m-%d %H:%M}"
            scopes = ",".join(key.scopes)
            click.echo(f"  key {key_id}  since {key.created_at:%Y-%m-%d %H:%M}{until}  may {scopes}")


def _registry() -> Any:
    from connectors.edge.tenants import Registry

    return Registry(Settings.load().tenants_path)


tenant.add_command(grant)
tenant.add_command(revoke_user)
tenant.add_command(tenant_webhook)
main.add_command(audit)
main.add_command(backfill)
main.add_command(dbt_sources)
main.add_command(export)
main.add_command(kpis)
main.add_command(campaign)
main.add_command(rates)
main.add_command(rejects)
main.add_command(rounds)
main.add_command(player)
main.add_command(standings)
main.add_command(webhooks)
