"""Signatures, payloads and times of webhooks, without Kafka."""

import base64
import json
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from standardwebhooks.webhooks import Webhook as Receiver
from standardwebhooks.webhooks import WebhookVerificationError

from connectors.cli.main import main
from connectors.edge.tenants import Registry, Webhook
from connectors.webhooks.delivery import GONE, SCHEDULE_S, Delivery
from connectors.webhooks.poster import Poster, body, signed
from streams.wire.avro import codec
from streams.wire.money import to_bytes
from tests.contracts import sample
from tests.waiting import WITHIN_S

NOW = 1_773_500_000_000_000


def test_the_reference_vector_of_the_specification_has_its_signature() -> None:
    webhook = Webhook(
        url="https://there.example", secrets=("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",),
        set_at=datetime.now(UTC),
    )  # fmt: skip
    at = datetime.fromtimestamp(1_614_265_330, UTC)
    headers = signed(webhook, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"


def test_either_secret_of_a_rotation_verifies_and_another_does_not(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "tenants.json")
    registry.add("acme", channel_merging=False, campaigns_enabled=True)
    first = registry.send_webhooks("acme", "https://there.example/hook")
    assert first is not None
    second = registry.rotate_webhook("acme")
    webhook = registry.all()["acme"].webhook
    assert webhook is not None
    payload = b'{"amount":"1.5"}'
    headers = signed(webhook, "id-1", datetime.now(UTC), payload)
    for secret in (first, second):
        assert Receiver(secret).verify(payload, headers) == {"amount": "1.5"}
    third = registry.rotate_webhook("acme")
    webhook = registry.all()["acme"].webhook
    assert webhook is not None
    headers = signed(webhook, "id-1", datetime.now(UTC), payload)
    with pytest.raises(WebhookVerificationError):
        Receiver(first).verify(payload, headers)
    registry.retire_webhook_secret("acme")
    webhook = registry.all()["acme"].webhook
    assert webhook is not None
    assert webhook.secrets == (third,)
    assert third not in repr(webhook)
    assert stat.S_IMODE(registry.path.stat().st_mode) == 0o600


def test_a_payload_has_amounts_as_text_with_all_digits() -> None:
    record = sample(codec("award").schema) | {
        "kind": "correction", "amount": to_bytes(1_500_000_000_000_000_001), "amount_before": None,
        "score": to_bytes(20 * 10**18), "settled_at": NOW,
    }  # fmt: skip
    document = json.loads(body(record))
    assert document["type"] == "award.corrected"
    assert document["timestamp"] == "2026-03-14T14:53:20.000000Z"
    data = document["data"]
    assert (data["amount"], data["amount_before"], data["score"]) == (
        "1.500000000000000001",
        None,
        "20",
    )
    assert data.keys() == record.keys()


def test_attempts_follow_the_schedule_of_the_specification_and_end() -> None:
    delivery = Delivery("a", "acme", "p", b"", 0, 0)
    pauses = []
    now = NOW
    while True:
        delivery = delivery.failed(500, "refused", now, jitter=0)
        if delivery.next_at is None:
            break
        pauses.append((delivery.next_at - now) / 1e6)
        now = delivery.next_at
    assert tuple(pauses) == SCHEDULE_S
    assert delivery.attempts == len(SCHEDULE_S) + 1
    assert timedelta(seconds=sum(pauses)) == timedelta(hours=75, minutes=35, seconds=5)


def test_an_endpoint_that_is_gone_is_not_tried_again_and_retry_after_is_heeded() -> None:
    delivery = Delivery("a", "acme", "p", b"", 0, 0)
    assert delivery.failed(GONE, "gone", NOW, jitter=0).next_at is None
    assert delivery.failed(503, "later", NOW, 0, wait_s=600).next_at == NOW + 600_000_000


def test_the_answer_counts_before_its_body_which_may_have_no_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, closing(Poster(WITHIN_S)) as poster:
        server.settimeout(WITHIN_S)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        webhook = Webhook(url=url, secrets=("whsec_AAAA",), set_at=datetime.now(UTC))
        record = sample(codec("award").schema) | {"award_id": "a", "settled_at": NOW, "as_of": NOW}
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(poster.post, webhook, record, datetime.now(UTC))
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{")
                assert answer.result(WITHIN_S).is_success


@pytest.mark.parametrize("url", ["http://there.example/hook", "ftp://there.example", "there.example"])
def test_an_address_that_is_not_encrypted_is_refused(url: str, tmp_path: Path) -> None:
    environment = {"ROUNDHOUSE_DATA_DIR": str(tmp_path)}
    runner = CliRunner(env=environment)
    assert runner.invoke(main, ["tenant", "add", "acme"]).exit_code == 0
    refused = runner.invoke(main, ["tenant", "webhook", "acme", "--url", url])
    assert refused.exit_code == 78
    assert "use https://" in refused.output
    shown = runner.invoke(main, ["tenant", "webhook", "acme", "--url", "http://127.0.0.1:9/hook"])
    assert shown.output.startswith("whsec_")
    again = runner.invoke(main, ["tenant", "webhook", "acme", "--url", "https://there.example"])
    assert (again.exit_code, again.output) == (0, "")


PAGE = Path(__file__).parent.parent.parent.parent / "docs" / "operators.md"


def receivers() -> Iterator[Any]:
    """The programs of the page that verify a webhook, as commands of a shell's arguments."""
    text = PAGE.read_text()
    [python] = [found for found in re.findall(r"```python\n(.*?)```", text, re.S) if "hmac" in found]
    [script] = re.findall(r"```js\n(.*?)```", text, re.S)
    call = "import json, sys\ns, h, b = sys.argv[1:]\nprint(is_genuine(s, json.loads(h), b.encode()))"
    yield pytest.param([sys.executable, "-c", python + call], id="python")
    call = "const [s, h, b] = process.argv.slice(1);"
    call += "console.log(isGenuine(s, JSON.parse(h), Buffer.from(b)))"
    missing = shutil.which("node") is None
    skip = pytest.mark.skipif(missing, reason="Node.js is not installed")
    yield pytest.param(["node", "-e", script + call], id="node", marks=skip)


@pytest.mark.parametrize("receiver", list(receivers()))
def test_the_programs_of_the_page_accept_what_is_genuine_alone(receiver: list[str]) -> None:
    old, new, other = (f"whsec_{base64.b64encode(bytes([n]) * 24).decode()}" for n in range(3))
    webhook = Webhook(url="https://there.example", secrets=(new, old), set_at=datetime.now(UTC))
    payload = '{"amount":"1.5","player_id":"Größe"}'
    headers = signed(webhook, "id-1", datetime.now(UTC), payload.encode())
    late = signed(webhook, "id-1", datetime.now(UTC) - timedelta(hours=1), payload.encode())

    def accepted(secret: str, headers: dict[str, str], body: str) -> bool:
        command = [*receiver, secret, json.dumps(headers), body]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip().lower() == "true"

    assert accepted(new, headers, payload)
    assert accepted(old, headers, payload)
    assert not accepted(other, headers, payload)
    assert not accepted(new, headers, payload + " ")
    assert not accepted(new, headers | {"webhook-id": "id-2"}, payload)
    assert not accepted(new, late, payload)
