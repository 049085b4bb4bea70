"""Who asks: the tenant of a request's API key, if the key may do what is asked."""

from connectors.edge.problems import Problem
from connectors.edge.tenants import Caller, Registry, Scope


def caller_of(registry: Registry, key: str | None, header: str) -> Caller:
    """The tenant of the key in a header. Raises :class:`Problem` if there is none."""
    if not key:
        raise Problem(401, "no_key", f"Send your API key in the header {header}.")
    found = registry.authenticate(key)
    if found is None:
        raise Problem(403, "unknown_key", "This API key is unknown or was revoked.")
    return found


def allow(caller: Caller, scope: Scope, now: int) -> None:
    """Raises :class:`Problem` if the key has expired or lacks the scope; ``now`` is in microseconds."""
    key = caller.key
    if key.expires_at is not None and now >= key.expires_at.timestamp() * 1e6:
        raise Problem(
            403, "expired_key", f"This API key expired at {key.expires_at:%Y-%m-%dT%H:%M:%SZ}."
        )
    if scope not in key.scopes:
        raise Problem(403, "wrong_scope", f"This API key may not {scope}: it lacks the scope {scope}.")
