"""Fair use: what each tenant may post, as token buckets of requests, items and bytes.

Items and bytes are known only after a body has been read. So a request is admitted while every bucket
of its tenant holds a token, and then takes what it used. A bucket may fall below zero; then later
requests wait until it has filled up. So a batch may be larger than a bucket, and a request is refused
before its body is read.

A client that posts again before the time that it was told is answered a second later, so that a
connection that never waits costs the edge one request a second.

The headers follow draft-ietf-httpapi-ratelimit-headers-10 (``RateLimit``, ``RateLimit-Policy``).
"""

import math
from collections.abc import Collection

from connectors.edge.problems import Problem
from connectors.edge.tenants import Limits, Tenant
from streams.settings import Settings

_UNITS = {"requests": "requests", "items": "items", "bytes": "content-bytes"}
"""The draft's quota unit of each limit; ``items`` is not among those that the draft registers."""


DELAY_S = 1.0
"""The delay of the answer to a client that did not wait for as long as it was told."""


class Bucket:
    """``rate`` tokens a second flow in, up to ``capacity``; times are microseconds since the epoch."""

    def __init__(self, rate: float, capacity: float, now: int) -> None:
        self.rate = rate
        self.capacity = capacity
        self._level = capacity
        self._at = now

    def level(self, now: int) -> float:
        """The tokens at a time; negative while more was taken than there was."""
        elapsed_s = max(0, now - self._at) / 1e6  # a clock that was set back fills nothing
        self._level = min(self.capacity, self._level + elapsed_s * self.rate)
        self._at = now
        return self._level

    def take(self, tokens: int) -> None:
        self._level -= tokens

    def wait_s(self, now: int) -> int:
        """Whole seconds until the bucket holds a token; 0 if it does."""
        return max(0, math.ceil((1 - self.level(now)) / self.rate))


class Quota:
    """The buckets of one tenant, by the name of the limit."""

    def __init__(self, rates: dict[str, float], burst_s: float, now: int) -> None:
        self.rates = rates
        self._burst_s = burst_s
        self._buckets = {
            name: Bucket(rate, max(1, rate * burst_s), now) for name, rate in rates.items()
        }
        self._refused_until = 0

    def admit(self, now: int) -> None:
        """Takes a request. Raises :class:`Problem` if a bucket is empty."""
        waits = {name: bucket.wait_s(now) for name, bucket in self._buckets.items()}
        violated = [name for name, wait_s in waits.items() if wait_s]
        if violated:
            wait_s = max(waits.values())
            delay_s = DELAY_S if now < self._refused_until else 0.0
            self._refused_until = max(self._refused_until, now + wait_s * 1_000_000)
            raise Problem(
                429,
                "rate_limited",
                f"Your limit of {' and '.join(violated)} is used up. Nothing is stored. Send the same "
                f"request again in {wait_s} s.",
                {"Retry-After": str(wait_s)},
                delay_s=delay_s,
                **{"violated-policies": violated},
            )
        self.take("requests", 1)

    def take(self, name: str, tokens: int) -> None:
        """Takes what a request used of a limit, if there is one of that name."""
        if name in self._buckets:
            self._buckets[name].take(tokens)

    def headers(self, now: int) -> dict[str, str]:
        """``RateLimit-Policy`` and ``RateLimit``."""
        policies, limits = [], []
        for name, bucket in self._buckets.items():
            unit, window_s = _UNITS[name], math.ceil(self._burst_s)
            policies.append(f'"{name}";q={int(bucket.capacity)};qu="{unit}";w={window_s}')
            limits.append(f'"{name}";r={max(0, int(bucket.level(now)))};t={bucket.wait_s(now)}')
        return {"ratelimit-policy": ", ".join(policies), "ratelimit": ", ".join(limits)}


class FairUse:
    """The quotas of all tenants that have a limit, in one edge process.

    ``limits`` are the names of those that hold.
    """

    def __init__(self, settings: Settings, limits: Collection[str] = tuple(_UNITS)) -> None:
        self._limits = limits
        self._burst_s = settings.tenant_burst_s
        self._rates = {
            "requests": settings.tenant_requests_per_s,
            "items": settings.tenant_items_per_s,
            "bytes": settings.tenant_bytes_per_s,
        }
        self._known: dict[str, tuple[Limits, Quota | None]] = {}

    def quota(self, name: str, tenant: Tenant, now: int) -> Quota | None:
        """The quota of a tenant; None if it has no limit. New limits begin with full buckets."""
        own, (known, quota) = tenant.limits, self._known.get(name, (None, None))
        if known is not own:
            rates = self._rates_of(own)
            if quota is None or quota.rates != rates:
                quota = Quota(rates, self._burst_s, now) if rates else None
            self._known[name] = own, quota
        return quota

    def _rates_of(self, own: Limits) -> dict[str, float]:
        rates = {
            "requests": own.requests_per_s or self._rates["requests"],
            "items": own.items_per_s or self._rates["items"],
            "bytes": own.bytes_per_s or self._rates["bytes"],
        }
        return {
            limit: rate for limit, rate in rates.items() if rate is not None and limit in self._limits
        }
