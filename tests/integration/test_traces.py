"""A posted batch is followed by its trace from the edge to ClickHouse."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from clickhouse_connect.driver.client import Client
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from connectors.clickhouse.migrate import migrate
from connectors.clickhouse.sink import Sink
from connectors.edge.app import create_app
from connectors.edge.tenants import Registry
from connectors.edge.writer import KafkaWriter
from streams.errors import ConfigurationError
from streams.kafka.schemas import Schemas
from streams.records.raw_batch import requests_of
from streams.runtime.stages_on_kafka import Translate
from streams.settings import Settings
from streams.state.owned_partition import open_partition
from streams.state.owners import Lanes
from streams.telemetry.traces import Traces, open_traces
from tests.integration.test_line import Line, running, tables
from tests.line import FRAMES, bet
from tests.metrics import edge_metrics, sink_metrics, worker_metrics
from tests.waiting import wait_until

CLIENT_TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT_SPAN = "b7ad6b7169203331"
CONTACT = "player@somewhere.example"


class Traced(Line):
    """A line whose spans are kept in memory."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.traces = Traces(provider)
        self.translate = Translate(
            settings, FRAMES, self.shared("w").computing, worker_metrics(), self.traces
        )

    def requests(self, key: str, count: int) -> None:
        """Posts batches at the same time, the first as part of a client's trace."""

        async def post() -> None:
            writer = KafkaWriter(self.settings, edge_metrics())
            app = create_app(self.settings, writer, edge_metrics(), traces=self.traces)
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
                await asyncio.gather(*(self._post(client, key, number) for number in range(count)))
            writer.close()

        asyncio.run(post())

    async def _post(self, client: httpx.AsyncClient, key: str, number: int) -> None:
        headers = {"x-api-key": key, "content-type": "application/json"}
        if number == 0:
            headers["traceparent"] = f"00-{CLIENT_TRACE}-{CLIENT_SPAN}-01"
        items = [bet(f"b{number}", comment=CONTACT)]
        answer = await client.post("/api/v1/events", content=json.dumps(items), headers=headers)
        assert answer.status_code == 204

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


def own_ids(spans: list[ReadableSpan]) -> set[int]:
    return {span.context.span_id for span in spans if span.context}


def linked_ids(spans: list[ReadableSpan]) -> set[int]:
    return {link.context.span_id for span in spans for link in span.links}


def test_a_posted_batch_is_followed_from_the_edge_to_clickhouse(
    line_settings: Callable[[str], Settings], memory_broker: str, chdb: Client
) -> None:
    settings = line_settings(memory_broker)
    migrate(chdb, settings.clickhouse_database)
    line = Traced(settings)
    key = Registry(settings.tenants_path).add("acme", channel_merging=False, campaigns_enabled=True)

    line.requests(key, count=3)
    posts = line.spans("POST /api/v1/events")
    assert len(posts) == 3
    [followed] = [span for span in posts if span.parent is not None]
    assert followed.parent is not None
    assert followed.context is not None
    assert f"{followed.context.trace_id:032x}" == CLIENT_TRACE
    assert f"{followed.parent.span_id:016x}" == CLIENT_SPAN

    records = line.raw()
    carried = [
        request.headers["traceparent"].split(b"-") for r in records for request in requests_of(r)
    ]
    assert {int(span_id, 16) for _, _, span_id, _ in carried} == own_ids(posts)

    line.translate(records)
    assert linked_ids(line.spans("translate")) == own_ids(posts)
    shared = line.shared("w")._replace(traces=line.traces)
    lanes = Lanes(settings, "w", shared.computing, shared.metrics, line.traces)
    shared = shared._replace(lanes=lanes)
    for partition in range(settings.partitions):
        owned = open_partition(shared, partition)
        if staged := line.staged(partition):
            owned.apply(staged)
        owned.close()
    assert linked_ids(line.spans("transaction")) == own_ids(posts)

    schemas = Schemas(settings, FRAMES)
    sink = Sink(settings, tables(chdb), schemas.schema_of, sink_metrics(), line.traces)
    with running(sink):
        wait_until(lambda: linked_ids(line.spans("insert")) == own_ids(posts), "the inserts' spans")
    told = " ".join(span.to_json() for span in line.exporter.get_finished_spans())
    assert CONTACT not in told
    assert key not in told


def test_traces_without_their_exporter_are_a_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_traces(Settings(data_dir=tmp_path), "edge") is None
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter", None)
    with pytest.raises(ConfigurationError, match=r"roundhouse\[traces\]"):
        open_traces(Settings(data_dir=tmp_path, trace_share=0.1), "edge")
