"""Faults of services that a stack does not run, webhooks and standings: each is started for its own."""

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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
from tests.integration.test_webhooks import publish
from tests.waiting import WITHIN_S

TENANT = TENANTS[0].name


@contextmanager
def _running(line: Line, arguments: list[str], more: Mapping[str, str] | None = None) -> Iterator[None]:
    """A command of Roundhouse beside the stack; at the end it is told to stop."""
    command = [sys.executable, "-P", "-m", "connectors.cli", *arguments]
    environment = {**line.stack.environment, **(more or {})}
    log = line.settings.data_dir / "logs" / f"{arguments[0]}.log"
    with (
        log.open("ab") as out,
        subprocess.Popen(command, env=environment, stdout=out, stderr=out) as process,
    ):
        try:
            yield
        finally:
            process.terminate()
            process.wait(WITHIN_S)


@contextmanager
def _answering(status: int) -> Iterator[str]:
    """The address of an endpoint that answers every webhook with a status."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/awards"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def endpoint_answers(line: Line, status: int) -> Iterator[None]:
    """An operator's endpoint answers webhooks with a status."""
    registry = Registry(line.settings.tenants_path)
    with _answering(status) as url, _running(line, ["webhooks", "run"]):
        registry.send_webhooks(TENANT, url)
        try:
            publish(line.settings, f"answers-{status}", range(2), TENANT)
            yield
        finally:
            registry.stop_webhooks(TENANT)


@contextmanager
def standings_without_clickhouse(line: Line) -> Iterator[None]:
    """The topic has standings of an hour ago, and the service does not reach ClickHouse; a file in its
    folder has a mistake.
    """
    folder = line.settings.data_dir / "campaigns"
    folder.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    path = folder / "race.yaml"
    path.write_text(
        RACE.format(name="race", start=now - timedelta(days=1), end=now + timedelta(days=1))
    )
    (folder / "wrong.yaml").write_text("name: 7")
    publisher = Publisher(
        line.settings, Schemas(line.settings, frames(line.settings)), lambda text: None
    )
    campaign = load(path).campaign
    publisher.take([campaign])
    publisher.write(Result(campaign, now - timedelta(hours=1), 0, standings({"p": 1}), {}))
    nowhere = {"ROUNDHOUSE_CLICKHOUSE_DSN": "http://roundhouse:none@127.0.0.1:9"}
    with _running(line, ["standings", "run", "--campaigns", str(folder)], nowhere):
        yield
