"""``roundhouse tenant grant`` and ``revoke-user``: users of a tenant in ClickHouse; ``kpis``."""

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

import click

from streams.errors import ConfigurationError, QueryFailed
from streams.settings import Settings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from connectors.clickhouse.tenant_access import Reader

_PRINT = click.option(
    "--print", "only_print", is_flag=True, help="Print the statements, and change nothing."
)


@click.command()
@click.argument("tenant")
@click.argument("user")
@click.option(
    "--password-stdin",
    is_flag=True,
    help="Read the password from standard input. Default: one is made, and shown only this once.",
)
@_PRINT
def grant(tenant: str, user: str, password_stdin: bool, only_print: bool) -> None:
    """Make a ClickHouse user that reads this tenant alone; again after an upgrade."""
    from connectors.clickhouse import tenant_access
    from connectors.edge.tenants import Registry

    settings = Settings.load()
    if tenant not in Registry(settings.tenants_path).all():
        raise ConfigurationError(f"there is no tenant {tenant}; `roundhouse tenant list` shows all")
    reader = _reader(settings, user)
    if only_print:
        click.echo("".join(f"{statement};\n" for statement in reader.granted(tenant)), nl=False)
        return
    with _administrating(settings) as client:
        there = tenant_access.exists(client, reader, tenant)
        password = _given() if password_stdin else None if there else secrets.token_urlsafe(24)
        tenant_access.grant(client, reader, tenant, password)
        if password is not None:
            check_alone(settings, client, reader, tenant, password)
    if not there and not password_stdin:
        click.echo(password)
    elif password is None:
        click.echo(f"{user} keeps its password, so it was not tried what it sees", err=True)


@click.command("revoke-user")
@click.argument("user")
@_PRINT
def revoke_user(user: str, only_print: bool) -> None:
    """Remove a ClickHouse user that `tenant grant` made, and its row policies."""
    from connectors.clickhouse import tenant_access

    settings = Settings.load()
    reader = _reader(settings, user)
    if only_print:
        click.echo("".join(f"{statement};\n" for statement in reader.revoked()), nl=False)
        return
    with _administrating(settings) as client:
        tenant_access.revoke(client, reader)


def _reader(settings: Settings, user: str) -> "Reader":
    from connectors.clickhouse.tenant_access import Reader

    return Reader.named(user, settings.clickhouse_database, settings.clickhouse_cluster)


def _given() -> str:
    """The password on standard input. Raises ``ConfigurationError`` for an empty one."""
    if sys.stdin.isatty():
        password = str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if len(password) < 12:
        raise ConfigurationError("the password on standard input has fewer than 12 characters")
    return password


@contextmanager
def _administrating(settings: Settings) -> "Iterator[Client]":
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from connectors.clickhouse.client import connect, is_embedded

    if is_embedded(settings):
        raise ConfigurationError(
            "chDB has no users: set ROUNDHOUSE_CLICKHOUSE_DSN to a ClickHouse server. `--print` shows "
            "the statements"
        )
    client = connect(settings)
    try:
        yield client
    except ClickHouseError as error:
        raise QueryFailed(
            f"{error}\nThe user of ROUNDHOUSE_CLICKHOUSE_DSN needs the rights of access management."
        ) from None
    finally:
        client.close()


def check_alone(
    settings: Settings, client: "Client", reader: "Reader", tenant: str, password: str
) -> None:
    """Logs in as the user, and removes it again unless it sees its tenant alone."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    from connectors.clickhouse import tenant_access
    from connectors.clickhouse.client import connect

    there = urlsplit(settings.clickhouse_url)
    host = there.netloc.rpartition("@")[2]
    login = f"{quote(reader.user)}:{quote(password, safe='')}@{host}"
    dsn = urlunsplit(there._replace(netloc=login))
    try:
        as_user = connect(settings.model_copy(update={"clickhouse_dsn": dsn}))
        try:
            others = tenant_access.seen_of_others(as_user, reader, tenant)
        finally:
            as_user.close()
    except ClickHouseError as error:
        tenant_access.revoke(client, reader)
        raise QueryFailed(
            f"what {reader.user} sees could not be checked, so it was removed: {error}"
        ) from None
    if others:
        tenant_access.revoke(client, reader)
        raise ConfigurationError(
            f"{reader.user} saw rows of other tenants in {', '.join(others)}, and was removed. On a "
            "cluster, `remote_servers` needs a `<secret>`: without one the shards do not know who asks"
        )


@click.group()
def kpis() -> None:
    """Results of KPIs that are kept."""


@kpis.command("rebuild")
def rebuild_kept() -> None:
    """Compute anew what is kept of KPIs, and compare it with what was kept before."""
    from connectors.clickhouse.query import rebuild_kpis

    before, now, differing = rebuild_kpis(Settings.load())
    click.echo(f"{before} results were kept, {now} are kept now, {len(differing)} of them differ")
    for view, tenant, period in differing:
        click.echo(f"  {tenant} {period}: kpi_play({view})")
    if differing:
        sys.exit(1)
