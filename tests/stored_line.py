"""The line in memory, with its records in ClickHouse's tables as the sink fills them."""

import json
from decimal import Decimal
from typing import Any

from clickhouse_connect.driver.client import Client

from connectors.clickhouse.migrate import migrate
from connectors.clickhouse.questions import ask
from connectors.clickhouse.sink import ClickHouseTables
from connectors.clickhouse.targets import TARGETS
from streams.wire.avro import Container
from streams.wire.contracts import schema
from tests.line import Line

ALL = frozenset(TARGETS)


class StoredLine:
    """A line whose records stand in ClickHouse, in a database of its own."""

    def __init__(self, client: Client, database: str) -> None:
        self.client = client
        self.line = Line()
        client.command(f"DROP DATABASE IF EXISTS {database}")
        migrate(client, database)

    def store(self, topics: frozenset[str] = ALL) -> None:
        """Inserts what the line has sent to topics since the last call."""
        tables = ClickHouseTables(lambda: self.client)
        for topic in topics & self.line.datums.keys():
            target = TARGETS[topic]
            datums = self.line.datums.pop(topic)
            token = f"{topic}{self.line.raw_offset}{len(datums)}"
            tables.insert(target, Container(schema(target.contract)), datums, token)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(ask(self.client, sql, "json"), parse_float=Decimal)[
            "data"
        ]
        return found
