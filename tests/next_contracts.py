"""Makes a next version in which every contract has new fields, and runs the work of a line.

``python -m tests.next_contracts`` does that work with the version that is on the path: it translates,
processes and stores the records that another version left, and prints the rows in ClickHouse.
"""

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

from connectors.campaigns.settling.awards import AWARD, Award, Prize
from connectors.campaigns.settling.ledger import Ledger, Settlement
from connectors.clickhouse.client import connect
from connectors.clickhouse.migrate import migrate
from connectors.clickhouse.sink import ClickHouseTables, Sink
from connectors.clickhouse.targets import TARGETS
from connectors.demo.day import Post
from streams.core.event import Kind
from streams.kafka.clients import idempotent_producer
from streams.kafka.offsets import committed_offset
from streams.kafka.schema_ids import frames
from streams.kafka.schemas import Schemas
from streams.records.topics import RAW
from streams.settings import Settings
from tests.integration.test_line import Line, read
from tests.metrics import sink_metrics
from tests.released import raw_records
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent


class New(NamedTuple):
    """A new field of a contract, its column, and ClickHouse's JSON form of its default."""

    name: str
    type: Any
    default: Any
    column: str
    shown: Any


_DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18}
TEXT = New("new_text", "string", "web", "String DEFAULT 'web'", "web")
NUMBER = New("new_number", "int", -7, "Int32 DEFAULT -7", -7)
NOTHING = New("new_nothing", ["null", "string"], None, "Nullable(String)", None)
FLAG = New("new_flag", "boolean", True, "Bool DEFAULT true", True)
_TEXTS = {"type": "array", "items": "string"}
TAGS = New("new_tags", _TEXTS, ["a"], "Array(String) DEFAULT ['a']", ["a"])
MONEY = New("new_money", _DECIMAL, "\u0001", "Decimal(38, 18) DEFAULT toDecimal128('1e-18', 18)", 1e-18)

NEW: dict[str, dict[int, New]] = {
    # the leading fields of all canonical contracts get new ones before and after the position
    **{kind.contract: {2: TEXT, 7: FLAG, 9: MONEY, 99: NUMBER} for kind in Kind},
    "login": {2: TEXT, 7: FLAG, 99: TAGS},
    "round": {0: TEXT, 5: NUMBER, 28: TAGS, 33: NOTHING, 99: MONEY},
    "reject": {0: NUMBER, 99: NOTHING},
    "outcome": {0: MONEY, 7: TEXT, 99: FLAG},
    "award": {0: TEXT, 12: FLAG, 99: NOTHING},
    "settlement": {0: NUMBER, 9: MONEY, 99: TEXT},
    "webhook-delivery": {0: NOTHING, 99: TAGS},
    "standing": {0: NUMBER, 12: TEXT, 99: MONEY},
    "staged-chunk": {0: TEXT, 99: TAGS},
    "window-changes": {0: NUMBER, 99: TEXT},
    "profile": {0: NOTHING, 2: TAGS},
}
"""By contract: new fields, by the index of the present field before which they are inserted."""


def next_version(home: Path) -> Path:
    """Makes a copy of this version with new fields in all contracts; returns its ``PYTHONPATH``."""
    # imported here, since the next version has this module, but not that one
    from tests.publish import publish

    for folder in ("streams", "connectors", "avro"):
        shutil.copytree(ROOT / folder, home / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for contract, new in NEW.items():
        path = home / "avro" / f"{contract}.avsc"
        schema = json.loads(path.read_text())
        for place, field in sorted(new.items(), reverse=True):
            entry = {"name": field.name, "type": field.type, "default": field.default, "doc": "New."}
            schema["fields"].insert(place, entry)
        path.write_text(json.dumps(schema))
    publish(home, "next")
    statements = [
        f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {field.name} {field.column};\n"
        for target in TARGETS.values()
        for table in sorted({target.stored, target.table})
        for field in NEW[target.contract].values()
    ]
    (home / "connectors/clickhouse/migrations/9000_next.sql").write_text("\n".join(statements))
    return home


def post(settings: Settings, posts: Sequence[Post]) -> None:
    """Writes the raw records that an edge would write."""
    producer = idempotent_producer(settings)
    for number, (headers, body) in enumerate(raw_records(posts, "batch")):
        producer.produce(
            settings.topic_prefix + RAW,
            body,
            partition=number % settings.partitions,
            headers=headers,  # type: ignore[arg-type]  # declared with a wider type of pair
        )
    assert producer.flush(60) == 0


def begin(settings: Settings) -> None:
    """Translates half of the posts, and processes some of those; stores nothing. Settles a campaign."""
    award(settings)
    line = Line(settings, frames(settings))
    raw = line.raw()
    for record in raw[: len(raw) // 2]:
        line.translate([record])
    for partition in range(settings.partitions):
        staged = line.staged(partition)
        with line.owned(partition) as owned:
            for staged_record in staged[: len(staged) // 2]:
                owned.apply([staged_record])


def award(settings: Settings) -> None:
    """Publishes a settlement and its award."""
    at = datetime(2026, 3, 15, 1, tzinfo=UTC)
    ledger = Ledger(settings, "aurora", "race")
    ledger.take()
    ledger.publish(
        Settlement(
            "settlement", "aurora", "race", "", 0, "run", "definition", "result", at, at, at, "ann", "",
            0, 1, Decimal("0.000000000000000001"), 1,
        ),
        [
            Award(
                "award", AWARD, "aurora", "race", "", "settlement", 0, "p-1", 1, 0, Decimal(10),
                Prize(Decimal(5)), "EUR", None, None, "", "definition", at, at,
            )
        ],
    )  # fmt: skip


def finish(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Translates, processes and stores the rest; returns the rows of each table."""
    line = Line(settings, frames(settings))
    raw = line.raw()
    for record in raw[len(raw) // 2 - 1 :]:  # one of them once more
        line.translate([record])
    for partition in range(settings.partitions):
        staged = line.staged(partition)
        with line.owned(partition) as owned:
            assert owned.position.staged_offset >= 0, "the position was not found"
            for staged_record in staged:
                owned.apply([staged_record])
    client = connect(settings)
    migrate(client, settings.clickhouse_database)
    schemas = Schemas(settings, frames(settings))
    sink = Sink(settings, ClickHouseTables(lambda: client), schemas.schema_of, sink_metrics())
    ends = {
        (message.topic() or "", message.partition() or 0): (message.offset() or 0) + 1
        for topic in TARGETS
        for message in read(settings, topic, *range(settings.partitions))
    }
    thread = Thread(target=sink.run)
    thread.start()
    try:
        wait_until(lambda: all(_committed(settings, *place) == end for place, end in ends.items()))
    finally:
        sink.stop()
        thread.join()
    assert sink.waiting() == {}
    return {target.table: list(_rows(client, target.stored)) for target in TARGETS.values()}


def _committed(settings: Settings, topic: str, partition: int) -> int:
    return committed_offset(settings, f"{settings.topic_prefix}sink", topic, partition)


def _rows(client: Any, table: str) -> Iterator[dict[str, Any]]:
    text = client.raw_query(
        f"SELECT * FROM {table} FINAL ORDER BY ALL FORMAT JSONEachRow "
        "SETTINGS output_format_json_quote_decimals = 1"
    )
    return map(json.loads, text.decode().splitlines())


if __name__ == "__main__":
    print(json.dumps(finish(Settings.model_validate_json(sys.argv[1]))))
