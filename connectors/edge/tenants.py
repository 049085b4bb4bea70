"""Tenants and their API keys: a JSON file that the edge reads again when it changes.

A key is shown once, when it is made; the file holds its SHA-256. Keys are 32 random bytes, so a
fast hash is enough.

The test tenant of ``acme`` is the tenant ``acme.test``: its name alone marks its events, so the file
has no field for it.
"""

import base64
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from connectors.local.files import replace_file
from streams.core.event import TEST_SUFFIX, Batch, is_test
from streams.errors import ConfigurationError

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_NOBODY = hashlib.sha256(secrets.token_bytes(32)).hexdigest()


Scope = Literal["post", "read"]


class Key(BaseModel):
    """A key of a tenant: what it may do, and until when."""

    model_config = ConfigDict(extra="forbid")

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created_at: datetime
    scopes: tuple[Scope, ...] = ("post", "read")
    expires_at: AwareDatetime | None = None


class Grant(NamedTuple):
    """What a new key may do, and until when."""

    scopes: tuple[Scope, ...] = ("post", "read")
    expires_at: datetime | None = None


EVERYTHING = Grant()


class Limits(BaseModel):
    """A tenant's own limits; None stands for the setting."""

    model_config = ConfigDict(extra="forbid")

    requests_per_s: float | None = Field(None, gt=0)
    items_per_s: float | None = Field(None, gt=0)
    bytes_per_s: float | None = Field(None, gt=0)


class Webhook(BaseModel):
    """Where a tenant's webhooks go, and the secrets that they are signed with, the newest first."""

    model_config = ConfigDict(extra="forbid")

    url: str
    secrets: tuple[str, ...] = Field(repr=False)
    set_at: AwareDatetime


class Caller(NamedTuple):
    """The tenant of a request, and the key that it was made with."""

    name: str
    tenant: "Tenant"
    key: Key


class Tenant(BaseModel):
    """A tenant's switches and limits, the marks of its erased players, its webhook, and its keys by key
    id.
    """

    model_config = ConfigDict(extra="forbid")

    channel_merging: bool = False
    campaigns_enabled: bool = True
    limits: Limits = Limits()
    erased: frozenset[str] = frozenset()
    webhook: Webhook | None = None
    keys: dict[str, Key] = {}

    def batch(self, name: str, source: str, batch_id: str, received_at: int) -> Batch:
        """The batch of a request of this tenant, which has this name; times are in microseconds."""
        return Batch(
            tenant=name,
            source=source,
            batch_id=batch_id,
            received_at=received_at,
            counts=self.campaigns_enabled,
            merges_channels=self.channel_merging,
            idempotency_key=None,
        )


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tenants: dict[str, Tenant] = {}


class Registry:
    """The tenants in a file. Reads take no lock; every change is atomic."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int] | None = None
        self._tenants: dict[str, Tenant] = {}
        self._by_key_id: dict[str, Caller] = {}

    def authenticate(self, key: str) -> Caller | None:
        """The tenant of a key, or None; the key may have expired.

        Takes the same time for a wrong secret and an unknown id.
        """
        self._reload()
        _, _, rest = key.partition("rh_")
        found = self._by_key_id.get(rest.partition("_")[0])
        given = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
        if hmac.compare_digest(given, found.key.sha256 if found else _NOBODY):
            return found
        return None

    def all(self) -> dict[str, Tenant]:
        """Every tenant by name."""
        self._reload()
        return self._tenants

    def add(
        self,
        name: str,
        channel_merging: bool,
        campaigns_enabled: bool,
        grant: Grant = EVERYTHING,
        *,
        test: bool = False,
    ) -> str:
        """Adds a tenant, or with ``test`` the test tenant of that name; returns its first key."""
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"tenant name {name!r}: use 1 to 64 of a-z, 0-9, - and _, a letter or digit first. "
                "`roundhouse tenant add NAME --test` adds the test tenant NAME.test"
            )
        if test:
            name += TEST_SUFFIX
        with self._changing() as tenants:
            if name in tenants:
                raise ConfigurationError(f"tenant {name} exists; `roundhouse tenant rotate` adds a key")
            tenants[name] = Tenant(channel_merging=channel_merging, campaigns_enabled=campaigns_enabled)
            return _new_key(name, tenants[name], grant)

    def rotate(self, name: str, grant: Grant = EVERYTHING) -> str:
        """Adds a key; older keys stay valid until they are revoked."""
        with self._changing() as tenants:
            return _new_key(name, existing(tenants, name), grant)

    def revoke(self, name: str, key_id: str) -> None:
        """Revokes a key."""
        with self._changing() as tenants:
            if existing(tenants, name).keys.pop(key_id, None) is None:
                raise ConfigurationError(f"tenant {name} has no live key {key_id}")

    def switch(self, name: str, **switches: bool) -> None:
        """Sets ``channel_merging`` or ``campaigns_enabled`` for later requests."""
        with self._changing() as tenants:
            tenants[name] = existing(tenants, name).model_copy(update=switches)

    def limit(self, name: str, limits: dict[str, float | None]) -> None:
        """Sets fields of a tenant's :class:`Limits` for later requests."""
        with self._changing() as tenants:
            tenant = existing(tenants, name)
            tenant.limits = tenant.limits.model_copy(update=limits)

    def send_webhooks(self, name: str, url: str) -> str | None:
        """Sends a tenant's webhooks to an address. Returns the secret if it is the tenant's first.

        Raises ``ConfigurationError`` for an address that is not https, nor http to this machine.
        """
        there = urlsplit(url)
        local = there.scheme == "http" and there.hostname in ("localhost", "127.0.0.1", "::1")
        if not there.hostname or not (local or there.scheme == "https"):
            raise ConfigurationError(
                f"{url!r}: use https://…, or http:// to an address of this machine"
            )
        with self._changing() as tenants:
            tenant = existing(tenants, name)
            known = tenant.webhook
            given = known.secrets if known else (_new_secret(),)
            tenant.webhook = Webhook(url=url, secrets=given, set_at=datetime.now(UTC))
        return None if known else given[0]

    def rotate_webhook(self, name: str) -> str:
        """Adds a secret and returns it; the one before is used too, an older one no longer."""
        with self._changing() as tenants:
            webhook = _webhook_of(tenants, name)
            webhook.secrets = (_new_secret(), webhook.secrets[0])
            return webhook.secrets[0]

    def retire_webhook_secret(self, name: str) -> None:
        """Ends the use of every secret but the newest."""
        with self._changing() as tenants:
            webhook = _webhook_of(tenants, name)
            webhook.secrets = webhook.secrets[:1]

    def stop_webhooks(self, name: str) -> None:
        """Sends no more webhooks of a tenant, and forgets its secrets."""
        with self._changing() as tenants:
            existing(tenants, name).webhook = None

    def erase(self, name: str, mark: str) -> None:
        """Refuses the player with this mark in later requests."""
        with self._changing() as tenants:
            tenant = existing(tenants, name)
            tenant.erased |= {mark}

    def erased(self, name: str) -> frozenset[str]:
        """The marks of a tenant's erased players, as of the last reading of the file."""
        return self._tenants[name].erased

    def _reload(self) -> None:
        try:
            stat = os.stat(self.path)
        except FileNotFoundError:
            stamp, loaded = None, _File()
        else:
            stamp = stat.st_mtime_ns, stat.st_ino
            if stamp == self._stamp:
                return
            loaded = _load(self.path)
        self._stamp, self._tenants = stamp, loaded.tenants
        self._by_key_id = {
            key_id: Caller(name, tenant, key)
            for name, tenant in loaded.tenants.items()
            for key_id, key in tenant.keys.items()
        }

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Tenant]]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            loaded = _load(self.path) if self.path.exists() else _File()
            yield loaded.tenants
            replace_file(self.path, loaded.model_dump_json(indent=2, exclude_defaults=True).encode())


def _load(path: Path) -> _File:
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        return _File.model_validate(document)
    except (ValueError, ValidationError) as error:
        raise ConfigurationError(f"tenants file {path}: {error}") from None


def existing(tenants: Mapping[str, Tenant], name: str) -> Tenant:
    """The tenant of a name. Raises ``ConfigurationError`` if there is none."""
    if name not in tenants:
        raise ConfigurationError(f"there is no tenant {name}; `roundhouse tenant list` shows all")
    return tenants[name]


def _webhook_of(tenants: Mapping[str, Tenant], name: str) -> Webhook:
    found = existing(tenants, name).webhook
    if found is None:
        raise ConfigurationError(f"tenant {name} has no webhook; `--url` sets one")
    return found


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _new_key(name: str, tenant: Tenant, grant: Grant) -> str:
    key_id = f"{'test-' if is_test(name) else ''}{secrets.token_hex(4)}"
    key = f"rh_{key_id}_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(key.encode()).hexdigest()
    tenant.keys[key_id] = Key(sha256=digest, created_at=datetime.now(UTC), **grant._asdict())
    return key
