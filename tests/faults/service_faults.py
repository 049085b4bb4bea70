"""Faults of services that a stack does not run, webhooks and standings.

Each starts its service under the supervisor of the line, where it stays when the fault is over: an
alert ceases because the service is well again, not because nobody is there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from connectors.campaigns.evaluation import Result
from connectors.campaigns.model.definition import load
from connectors.demo.day import TENANTS
from connectors.edge.tenants import Registry
from connectors.standings.publisher import Publisher
from streams.kafka.schema_ids import frames
from streams.kafka.schemas import Schemas
from tests.connectors.standings.test_changes import standings
from tests.faults.harness import Line
from tests.integration.test_standings import RACE
from tests.integration.test_webhooks import Endpoint, publish
from tests.scrapes import scrape, targets, total
from tests.waiting import wait_until

TENANT = TENANTS[0].name
AWAY = "http://roundhouse:none@127.0.0.1:9"
"""A ClickHouse that nobody reaches."""


@contextmanager
def endpoint_answers(line: Line, status: int) -> Iterator[None]:
    """An operator's endpoint answers webhooks with a status, and at the end takes them."""
    if "webhooks" not in line.stack.supervisor.pids():
        line.stack.start("webhooks", "webhooks", "run")
    registry, endpoint = Registry(line.settings.tenants_path), Endpoint()
    endpoint.answer = lambda data: status
    with endpoint.serving():
        endpoint.secret = registry.send_webhooks(TENANT, endpoint.url) or ""
        publish(line.settings, f"answers-{status}", range(2), TENANT)
        yield
        endpoint.answer = lambda data: 204
        wait_until(lambda: _waiting(line) == 0, "no webhook that waits")
        registry.stop_webhooks(TENANT)


def _waiting(line: Line) -> float:
    found = [target for target in targets(line.settings) if target.job == "webhooks"]
    return sum(total(scrape(target), "roundhouse_webhooks_waiting") for target in found)


@contextmanager
def standings_without_clickhouse(line: Line) -> Iterator[None]:
    """The topic has standings of an hour ago, and the service does not reach ClickHouse; a file in its
    folder has a mistake. At the end ClickHouse is there, and the file is not.
    """
    folder = line.settings.data_dir / "campaigns"
    folder.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    path = folder / "race.yaml"
    path.write_text(
        RACE.format(name="race", start=now - timedelta(days=1), end=now + timedelta(days=1))
    )
    wrong = folder / "wrong.yaml"
    wrong.write_text("name: 7")
    publisher = Publisher(
        line.settings, Schemas(line.settings, frames(line.settings)), lambda text: None
    )
    campaign = load(path).campaign
    publisher.take([campaign])
    publisher.write(Result(campaign, now - timedelta(hours=1), 0, standings({"p": 1}), {}))
    command = [*line.stack.program, "standings", "run", "--campaigns", str(folder)]
    environment = line.stack.environment
    supervisor = line.stack.supervisor
    supervisor.start("standings", command, {**environment, "ROUNDHOUSE_CLICKHOUSE_DSN": AWAY})
    yield
    wrong.unlink()
    supervisor.end("standings")
    supervisor.start("standings", command, environment)
