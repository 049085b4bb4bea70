"""Measures the topic ``standings`` on a real Kafka: the first publication of a campaign with many
players, later evaluations, the size of the topic before and after compaction, and a restart.

Nothing is evaluated: the standings are made, so that the figures are those of the writer. Each
evaluation changes the score of ``--changed`` players at random places.
"""

import argparse
import json
import resource
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import polars
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from benchmarks.broker import kafka
from benchmarks.machine import described, fresh_home, own_peak_mib
from connectors.campaigns.evaluation import Result
from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.standings import SCHEMA, Standings
from connectors.standings.publisher import Publisher
from streams.kafka.admin import ensure_topics
from streams.kafka.clients import client_config, idempotent_producer
from streams.kafka.schema_ids import frames
from streams.kafka.schemas import Schemas
from streams.records.topics import STANDINGS
from streams.settings import Settings

COMPACTS_WITHIN_S = 90.0
START = datetime(2026, 3, 1, tzinfo=UTC)
CAMPAIGN = Campaign.model_validate(
    {
        "name": "race", "tenant": "acme", "period": {"from": "2026-03-01", "to": "2027-03-01"},
        "measure": "turnover", "counts": {"currency": "EUR"},
        "form": {"kind": "leaderboard", "prizes": [{"ranks": "1-100", "amount": Decimal(10)}]},
    }
)  # fmt: skip


def ranked(scores: polars.DataFrame) -> Standings:
    """Standings of players with ``player_id`` and ``cents``."""
    amount = polars.Decimal(38, 18)
    zero = polars.lit(0).cast(amount)
    frame = scores.sort("cents", "player_id", descending=[True, False]).with_row_index("rank", 1)
    return Standings(
        frame.select(
            "rank", "player_id",
            (polars.col("cents").cast(amount) / 100).cast(amount).alias("score"),
            polars.lit(START).dt.cast_time_unit("us").alias("reached_at"),
            polars.lit(20).alias("entries"), polars.lit(0).alias("step"),
            polars.when(polars.col("rank") <= 100).then(10).otherwise(0).cast(amount).alias("prize"),
            zero.alias("unpaid"), polars.lit("").alias("items"), zero.alias("items_cost"),
            polars.lit(0).alias("stage"), polars.lit("").alias("team"), zero.alias("team_score"),
        ).cast(SCHEMA)
    )  # fmt: skip


class Measured:
    """The seconds and CPU seconds of a step, and the bytes that it adds to the topic's files."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def bytes(self) -> int:
        """The bytes of the records in the topic's files."""
        return sum(
            path.stat().st_size for path in self._home.rglob(f"*{STANDINGS}-*/*.log") if path.is_file()
        )

    def step(self, work: Any) -> dict[str, float]:
        """Does the work; ``changes`` is what it returns."""
        size, began, cpu = self.bytes(), time.monotonic(), _cpu_s()
        changes = work()
        took = time.monotonic() - began
        return {
            "s": round(took, 2),
            "cpu_s": round(_cpu_s() - cpu, 2),
            "changes": changes or 0,
            "mb": round((self.bytes() - size) / 1e6, 1),
        }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def publisher_of(settings: Settings) -> Publisher:
    """A writer of the topic."""
    return Publisher(settings, Schemas(settings, frames(settings)), lambda text: None)


def measure(players: int, changed: int, evaluations: int) -> dict[str, Any]:
    """All steps on a Kafka of their own."""
    home = fresh_home()
    with kafka(home) as (settings, _):
        ensure_topics(settings)
        measured = Measured(home)
        scores = polars.select(
            polars.format("player-{}", polars.int_range(players)).alias("player_id"),
            (polars.int_range(players).hash(7) % 10_000_000).cast(polars.Int64).alias("cents"),
        )
        writer = publisher_of(settings)
        writer.take([CAMPAIGN])
        found: dict[str, Any] = {}
        for number in range(evaluations + 1):
            result = Result(CAMPAIGN, START + timedelta(minutes=number + 1), 0, ranked(scores), {})
            found[f"evaluation {number}"] = measured.step(partial(writer.write, result))
            picked = polars.int_range(polars.len()).hash(number) % players < changed
            scores = scores.with_columns(cents=polars.col("cents") + picked.cast(polars.Int64) * 12_345)
        found["writer_peak_mib"] = own_peak_mib()
        found["topic_mb"] = round(measured.bytes() / 1e6, 1)
        again = publisher_of(settings)
        found["restart"] = measured.step(lambda: again.take([CAMPAIGN]))
        found["nothing new"] = measured.step(
            lambda: again.write(result._replace(as_of=result.as_of + timedelta(minutes=1)))
        )
        found["peak_mib"] = own_peak_mib()
        found["compacted_mb"] = _compacted_mb(settings, measured)
    return found


def _compacted_mb(settings: Settings, measured: Measured) -> float:
    """The size after the broker has compacted the topic, which it is told to do at once."""
    topic = settings.topic_prefix + STANDINGS
    told = ConfigResource(
        ResourceType.TOPIC,
        topic,
        incremental_configs=[
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in (("segment.ms", "100"), ("min.cleanable.dirty.ratio", "0.001"))
        ],
    )
    admin = AdminClient(client_config(settings))  # its answers end with it
    [done] = admin.incremental_alter_configs([told]).values()
    done.result(60)
    producer = idempotent_producer(settings)
    smallest, deadline = measured.bytes(), time.monotonic() + COMPACTS_WITHIN_S
    while time.monotonic() < deadline:
        for number in range(settings.partitions):  # a record closes the segment before it
            producer.produce(topic, None, "acme|other|nobody", partition=number)
        producer.flush(60)
        time.sleep(5)
        smallest = min(smallest, measured.bytes())
    return round(smallest / 1e6, 1)


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--players", type=int, default=1_000_000)
    parser.add_argument("--changed", type=int, default=10_000)
    parser.add_argument("--evaluations", type=int, default=3)
    arguments = parser.parse_args()
    found = measure(arguments.players, arguments.changed, arguments.evaluations)
    print(json.dumps({**described(), **vars(arguments), **found}, indent=2))


if __name__ == "__main__":
    main()
