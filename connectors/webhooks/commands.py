"""``roundhouse webhooks`` and ``roundhouse tenant webhook``."""

import sys
from datetime import UTC, datetime

import click

from connectors.cli.options import UtcTime
from streams.errors import ConfigurationError
from streams.settings import Settings


@click.group()
def webhooks() -> None:
    """Deliver awards to the operators, signed as Standard Webhooks."""


@webhooks.command("run")
def run_service() -> None:
    """Run the service that delivers webhooks; secrets and addresses are in the tenants file."""
    from connectors.webhooks.service import run
    from streams.runtime.fail_stop import told_to_stop

    run(Settings.load(), told_to_stop())


@webhooks.command("list")
@click.option("--tenant", help="Only those of a tenant.")
def list_failed(tenant: str | None) -> None:
    """List the webhooks that have failed: those that are tried again, and those that are not."""
    from connectors.webhooks.service import failed

    for each in failed(Settings.load()):
        if tenant in (None, each.tenant):
            due = "dead" if each.next_at is None else f"again {_time(each.next_at)}"
            click.echo(
                f"{each.award_id}  {each.tenant}  {each.player_id}  {each.attempts} attempts  {due}  "
                f"{each.error}"
            )


@webhooks.command()
@click.argument("award_ids", nargs=-1)
@click.option("--tenant", help="Only those of a tenant.")
@click.option("--from", "since", type=UtcTime(), help="Awards written at or after (UTC).")
@click.option("--to", "before", type=UtcTime(), help="Awards written before (UTC).")
@click.option("--delivered", is_flag=True, help="Also those that were delivered.")
def replay(
    award_ids: tuple[str, ...], tenant: str | None, since: datetime | None, before: datetime | None,
    delivered: bool,
) -> None:  # fmt: skip
    """Send webhooks again: those that are not tried again, or with --delivered all others too.

    Exit with status 1 if one fails. Those that wait for their next attempt are left to the service.
    """
    from connectors.webhooks import service

    if delivered and not (award_ids or tenant or since or before):
        raise ConfigurationError("--delivered needs award ids, --tenant, --from or --to")
    chosen = service.Chosen(tenant, award_ids, since, before, delivered)
    failures = 0
    for delivery, answer in service.replay(Settings.load(), chosen):
        failures += not answer.is_success
        said = "delivered" if answer.is_success else answer.error
        click.echo(f"{delivery.award_id}  {delivery.tenant}  {delivery.player_id}  {said}")
    sys.exit(1 if failures else 0)


@click.command("webhook")
@click.argument("name")
@click.option("--url", help="Send webhooks there. The first time, the secret is shown.")
@click.option("--rotate", is_flag=True, help="Add a secret and show it; the one before stays in use.")
@click.option("--retire", is_flag=True, help="Use the newest secret alone.")
@click.option("--off", is_flag=True, help="Send no more webhooks, and forget the secrets.")
def tenant_webhook(name: str, url: str | None, rotate: bool, retire: bool, off: bool) -> None:
    """Set where the awards of a tenant are sent, and the secrets that sign them."""
    from connectors.edge.tenants import Registry

    if sum((url is not None, rotate, retire, off)) != 1:
        raise ConfigurationError("say one of --url URL, --rotate, --retire and --off")
    registry = Registry(Settings.load().tenants_path)
    if url is not None:
        secret = registry.send_webhooks(name, url)
        if secret is not None:
            click.echo(secret)
    elif rotate:
        click.echo(registry.rotate_webhook(name))
    elif retire:
        registry.retire_webhook_secret(name)
    else:
        registry.stop_webhooks(name)


def _time(at: int) -> str:
    return f"{datetime.fromtimestamp(at / 1e6, UTC):%Y-%m-%dT%H:%M:%SZ}"
