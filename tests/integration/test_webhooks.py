"""Webhooks on a real Kafka: delivered at least once and in order, wherever the service is killed."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from standardwebhooks.webhooks import Webhook

from connectors.campaigns.settling.awards import AWARD, Award, Prize, award_id, settlement_id
from connectors.campaigns.settling.ledger import Ledger, Settlement
from connectors.cli.main import main
from connectors.edge.tenants import Registry
from connectors.webhooks.service import failed
from streams.settings import Settings
from tests.faults.armed import arm_file
from tests.scrapes import documented, scrape, targets, total
from tests.services import service
from tests.waiting import WITHIN_S, wait_until

pytestmark = pytest.mark.kafka

PLAYERS, STEPS = 6, 3
METRICS = Path(__file__).parent.parent.parent / "docs" / "metrics.md"
AT = datetime(2026, 3, 15, 1, tzinfo=UTC)
AFTER_A_POST = "between a webhook and its record"
AFTER_A_RECORD = "between a webhook's record and the position"


class Received(dict[str, Any]):
    """The data of a webhook that the receiver has verified."""


class Endpoint:
    """An operator's endpoint: checks signatures, and answers as it is told."""

    def __init__(self) -> None:
        self.secret = ""
        self.received: list[Received] = []
        self.answer: Callable[[Received], int] = lambda data: 204
        self.wrong: list[Exception] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = self.rfile.read(size := int(self.headers["content-length"]))
                if len(text) < size:  # the service was killed while it posted
                    self.close_connection = True
                    return
                try:
                    document = Webhook(endpoint.secret).verify(text, dict(self.headers))
                except Exception as error:
                    endpoint.wrong.append(error)
                    raise
                data = Received(document["data"])
                assert self.headers["webhook-id"] == data["award_id"]
                status = endpoint.answer(data)
                if status == 204:
                    endpoint.received.append(data)
                self.send_response(status)
                if status == 302:
                    self.send_header("location", "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/awards"

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answers while the block runs; fails at its end if a webhook's signature was wrong."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
        assert not self.wrong

    def ids(self) -> set[str]:
        return {data["award_id"] for data in self.received}

    def first_in_order(self) -> bool:
        """Whether each player's webhooks came in the order of their steps, repetitions aside."""
        steps: dict[str, list[int]] = {}
        for data in self.received:
            known = steps.setdefault(data["player_id"], [])
            if data["step"] not in known:
                known.append(data["step"])
        return all(known == sorted(known) for known in steps.values())


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    with made.serving():
        yield made


@pytest.fixture
def line(real_settings: Settings, endpoint: Endpoint) -> Settings:
    """Settings of a line whose tenant acme has the endpoint, and awards of a campaign."""
    registry = Registry(real_settings.tenants_path)
    registry.add("acme", channel_merging=False, campaigns_enabled=True)
    endpoint.secret = registry.send_webhooks("acme", endpoint.url) or ""
    publish(real_settings, "first", range(PLAYERS))
    return real_settings


def publish(settings: Settings, campaign: str, players: range, tenant: str = "acme") -> None:
    """Publishes awards of a campaign, each player's steps in order."""
    awards = [
        Award(
            award_id(tenant, campaign, 0, (f"p-{player}", step)), AWARD, tenant, campaign, "",
            settlement_id(tenant, campaign, 0), 0, f"p-{player}", 1, step, Decimal(10),
            Prize(Decimal(step)), None, None, None, "", "definition", AT, AT,
        )
        for step in range(1, STEPS + 1)
        for player in players
    ]  # fmt: skip
    ledger = Ledger(settings, tenant, campaign)
    ledger.take()
    ledger.publish(
        Settlement(
            settlement_id(tenant, campaign, 0), tenant, campaign, "", 0, "run", "definition", "result",
            AT, AT, AT, "ann", "", 0, len(players), Decimal(1), len(awards),
        ),
        awards,
    )  # fmt: skip


def environment(settings: Settings) -> dict[str, str]:
    return os.environ | {
        "ROUNDHOUSE_DATA_DIR": str(settings.data_dir),
        "ROUNDHOUSE_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "ROUNDHOUSE_TOPIC_PREFIX": settings.topic_prefix,
        "ROUNDHOUSE_SESSION_TIMEOUT_S": str(settings.session_timeout_s),
    }


def run_webhooks(settings: Settings, log: Path) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """``roundhouse webhooks run``."""
    return service(["webhooks", "run"], environment(settings), log)


def shown(settings: Settings) -> dict[str, float]:
    """The attempts by outcome that the service shows, which serves the metrics of docs/metrics.md."""
    [target] = [found for found in targets(settings) if found.job == "webhooks"]
    families = scrape(target)
    rows = documented(METRICS)
    assert set(families) == {name for name, row in rows.items() if "webhooks" in row.jobs}
    for name, family in families.items():
        assert (family.type, family.documentation) == (rows[name].type, rows[name].meaning)
    samples = families["roundhouse_webhooks"].samples
    return {sample.labels["outcome"]: sample.value for sample in samples}


def shown_waiting(settings: Settings) -> float:
    """How many webhooks are tried again, as the service shows it."""
    [target] = [found for found in targets(settings) if found.job == "webhooks"]
    return total(scrape(target), "roundhouse_webhooks_waiting")


def run(settings: Settings, *arguments: str) -> str:
    done = CliRunner(env=environment(settings)).invoke(main, [*arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_service_that_is_killed_delivers_each_award_at_least_once_and_in_order(
    line: Settings, endpoint: Endpoint, tmp_path: Path
) -> None:
    log = tmp_path / "webhooks.log"
    for point in (AFTER_A_POST, AFTER_A_RECORD):
        arm_file(line.data_dir, "webhooks").write_text(point)
        with run_webhooks(line, log) as process:
            assert process.wait(WITHIN_S) == -signal.SIGKILL, log.read_text()
    before = [data["award_id"] for data in endpoint.received]
    with run_webhooks(line, log):
        wait_until(lambda: len(endpoint.ids()) == PLAYERS * STEPS, "every webhook")
        publish(line, "second", range(PLAYERS))
        wait_until(lambda: len(endpoint.ids()) == 2 * PLAYERS * STEPS, "the second campaign's")
        told = shown(line)
    assert told["delivered"] == len(endpoint.received) - len(before)
    first = [data for data in endpoint.received if data["campaign"] == "first"]
    second = [data for data in endpoint.received if data["campaign"] == "second"]
    assert len(second) == PLAYERS * STEPS, "delivered once while nobody is killed"
    assert len(first) >= PLAYERS * STEPS
    endpoint.received = first
    assert endpoint.first_in_order()
    assert not failed(line)
    assert "whsec_" not in log.read_text()


def test_an_endpoint_that_fails_gets_its_webhooks_later_in_order_also_after_a_restart(
    line: Settings, endpoint: Endpoint, tmp_path: Path
) -> None:
    """A redirect is a failure: nothing is posted elsewhere."""
    attempts: list[str] = []

    def fails(data: Received) -> int:
        attempts.append(data["award_id"])
        return 302 if len(attempts) == 1 else 500

    endpoint.answer = fails
    log = tmp_path / "webhooks.log"
    with run_webhooks(line, log):
        wait_until(lambda: len(failed(line)) == PLAYERS * STEPS, "every webhook on the topic")
        wait_until(lambda: shown_waiting(line) == PLAYERS * STEPS, "all of them shown")
        run(line, "tenant", "webhook", "acme", "--off")
        wait_until(lambda: shown_waiting(line) == 0, "none is tried again without an endpoint")
    endpoint.secret = Registry(line.tenants_path).send_webhooks("acme", endpoint.url) or ""
    waiting = failed(line)
    assert {each.award_id for each in waiting if each.attempts} == set(attempts)
    assert all(each.next_at for each in waiting)
    assert run(line, "webhooks", "list").count("again") == PLAYERS * STEPS
    assert not endpoint.received
    endpoint.answer = lambda data: 204
    with run_webhooks(line, log):
        wait_until(lambda: not failed(line), "every webhook delivered")
    assert len(endpoint.received) == PLAYERS * STEPS
    assert endpoint.first_in_order()


def test_an_endpoint_that_is_gone_gets_nothing_until_it_is_set_anew_and_a_replay(
    line: Settings, endpoint: Endpoint, tmp_path: Path
) -> None:
    attempts: list[str] = []

    def gone(data: Received) -> int:
        attempts.append(data["award_id"])
        return 410

    endpoint.answer = gone
    log = tmp_path / "webhooks.log"
    with run_webhooks(line, log):
        wait_until(
            lambda: len([each for each in failed(line) if each.next_at is None]) == PLAYERS * STEPS,
            "every webhook is dead",
        )
    assert len(attempts) <= PLAYERS
    endpoint.answer = lambda data: 204
    run(line, "tenant", "webhook", "acme", "--url", endpoint.url)
    dead = failed(line)[0]
    assert "delivered" in run(line, "webhooks", "replay", dead.award_id)
    assert endpoint.ids() == {dead.award_id}
    run(line, "webhooks", "replay", "--tenant", "acme", "--from", "2026-03-16")
    assert len(endpoint.received) == 1, "no award was written then"
    run(line, "webhooks", "replay", "--tenant", "acme")
    assert len(endpoint.received) == PLAYERS * STEPS
    assert not failed(line)
    run(line, "webhooks", "replay", "--delivered", "--tenant", "acme", "--to", "2026-03-16")
    assert len(endpoint.received) == 2 * PLAYERS * STEPS
    assert len(endpoint.ids()) == PLAYERS * STEPS
    with run_webhooks(line, log):
        publish(line, "later", range(1))
        wait_until(lambda: len(endpoint.ids()) == (PLAYERS + 1) * STEPS, "the later campaign's")
