"""Posts awards to endpoints as Standard Webhooks (https://www.standardwebhooks.com)."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import httpx
from standardwebhooks.webhooks import Webhook as Signer

from connectors.campaigns.sql.expressions import plain
from connectors.edge.tenants import Webhook
from streams.wire.money import from_bytes, to_decimal
from streams.wire.times import from_micros

AWARDED, CORRECTED = "award.published", "award.corrected"
_AMOUNTS = "score", "amount", "amount_before"
_TIMES = "as_of", "settled_at"


class Answer(NamedTuple):
    """The answer to an attempt. ``status`` is 0 if there was none, ``wait_s`` its ``Retry-After``."""

    status: int
    error: str
    wait_s: float = 0.0

    @property
    def is_success(self) -> bool:
        """Whether the webhook is delivered."""
        return 200 <= self.status < 300


class Poster:
    """Posts webhooks; several threads may use it at once. It follows no redirect."""

    def __init__(self, timeout_s: float) -> None:
        """``timeout_s``: the longest wait to connect, to send, and for the answer, each."""
        self._client = httpx.Client(timeout=timeout_s, follow_redirects=False)

    def post(self, webhook: Webhook, award: Mapping[str, Any], now: datetime) -> Answer:
        """One attempt to deliver the webhook of an award."""
        payload = body(award)
        headers = signed(webhook, award["award_id"], now, payload)
        try:
            with self._client.stream("POST", webhook.url, content=payload, headers=headers) as answer:
                if answer.headers.get("content-length") == "0":
                    answer.read()  # another body is not read: it may have no end
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Answer(0, f"{type(error).__name__}: {error}")
        wait = answer.headers.get("retry-after", "")
        return Answer(
            answer.status_code,
            "" if answer.is_success else f"the endpoint has answered {answer.status_code}",
            float(wait) if wait.isdecimal() else 0.0,
        )

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()


def signed(webhook: Webhook, award_id: str, now: datetime, payload: bytes) -> dict[str, str]:
    """The headers of an attempt, with a signature by each secret, so that secrets can be rotated."""
    text = payload.decode()
    signatures = [Signer(secret).sign(award_id, now, text) for secret in webhook.secrets]
    return {
        "content-type": "application/json",
        "user-agent": "roundhouse",
        "webhook-id": award_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def body(award: Mapping[str, Any]) -> bytes:
    """The payload of an award: the same bytes at every attempt. Amounts are text with all digits."""
    data = dict(award)
    for name in _AMOUNTS:
        if data[name] is not None:
            data[name] = plain(to_decimal(from_bytes(data[name])))
    for name in _TIMES:
        at = from_micros(data[name])
        data[name] = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    document = {
        "type": CORRECTED if award["kind"] == "correction" else AWARDED,
        "timestamp": data["settled_at"],
        "data": data,
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
