"""Measures Roundhouse's worker and its peers with the yardstick job on a real Kafka: CPU and rate.

``raw.batches`` is loaded first, then the contender is started; the CPU is that of its processes alone.
The difference of two sizes gives the steady cost, without start-up and warm-up. A run is verified
against the generator's summary before its figure is printed; a wrong run prints no figure and fails.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from benchmarks.broker import Node, kafka
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.machine import Probe, cpu_s, described, fresh_home, peak_mib
from benchmarks.yardstick import BATCH_ITEMS, WARM_UP_SHARE, Summary, bodies
from connectors.local.stack import Stack
from streams.core.event import Batch
from streams.kafka.admin import ensure_topics
from streams.kafka.clients import committed_consumer
from streams.records.raw_batch import headers_of
from streams.settings import Settings
from streams.wire.avro import Reader, frame
from streams.wire.contracts import SCHEMA_IDS, Schema, version_of
from streams.wire.money import from_bytes, to_decimal


def load(
    settings: Settings,
    events: int,
    batch_items: int,
    per_s: float | None = None,
    at_warm: Callable[[int], None] = lambda events: None,
) -> Summary:
    """Fills ``raw.batches``, at a rate (events/s) if it is given; returns the summary that the output
    must have. ``at_warm`` is called with the number of events so far when :data:`WARM_UP_SHARE` of them
    are written.
    """
    last_warm = int(events * WARM_UP_SHARE) // batch_items
    producer = Producer(
        {"bootstrap.servers": settings.kafka_bootstrap, "compression.type": "lz4", "linger.ms": 5}
    )
    summary, began = Summary(), time.monotonic()
    for number, (tenant, body, after) in enumerate(bodies(events, batch_items=batch_items)):
        if per_s is not None:
            time.sleep(max(0.0, began + summary.received / per_s - time.monotonic()))
        batch = Batch(tenant, "native", f"batch-{number}", 1_773_500_000_000_000, True, False, None)
        producer.produce(
            f"{settings.topic_prefix}raw.batches",
            body,
            headers=headers_of(batch, 0),  # type: ignore[arg-type]  # declared with a wider type of pair
            partition=number % settings.partitions,
        )
        summary = after
        if number == last_warm:
            at_warm(summary.received)
        if number % 200 == 0:
            producer.flush()
    producer.flush()
    return summary


def run(
    contender: Contender,
    events: int,
    batch_items: int,
    home: Path,
    *,
    partitions: int = 4,
    prepare: Callable[[Settings], None] | None = None,
    per_s: float | None = None,
) -> dict[str, Any]:
    """Runs one size on a Kafka node of its own; calls ``prepare`` after the topics are created."""
    with kafka(home) as (node, broker):
        settings = node.model_copy(update={"partitions": partitions})
        ensure_topics(settings)
        _make_peer_topics(settings)
        if prepare is not None:
            prepare(settings)
        (home / "peer").mkdir()
        return measure_on(Node(settings, broker), contender, events, batch_items, per_s)


def measure_on(
    node: Node, contender: Contender, events: int, batch_items: int, per_s: float | None = None
) -> dict[str, Any]:
    """Runs one size on a Kafka node, with the topics and the directory that the settings name.

    The CPU is that of whole processes. With ``per_s`` the input comes at that rate while the contender
    runs, the broker's CPU includes its writing, and the figures are without those of the contender's
    start and of the first events, :data:`WARM_UP_SHARE` of them.
    """
    settings, broker = node
    ensure_topics(settings)
    expected = load(settings, events, batch_items) if per_s is None else Summary()
    began = time.monotonic()
    commands, log = contender.commands(settings), settings.data_dir / "log"
    with _started(commands, settings, log) as processes, Probe() as probe:

        def used() -> tuple[float, float]:
            return sum(cpu_s(process.pid) for process in processes), cpu_s(broker)

        warm, before = 0, (0.0, cpu_s(broker))

        def at_warm(received: int) -> None:
            nonlocal warm, before
            warm, before = received, used()

        if per_s is not None:
            expected = load(settings, events, batch_items, per_s, at_warm)
        first = wait_for_all(settings, expected.accepted, processes)
        wall = time.monotonic() - first
        cpu, broker_cpu = (now - then for now, then in zip(used(), before, strict=True))
        peak = sum(peak_mib(process.pid) for process in processes)
    verify(settings, expected)
    return {
        "events": expected.received - warm,
        "cpu_s": round(cpu, 2),
        "broker_cpu_s": round(broker_cpu, 2),
        "start_up_s": round(first - began, 2),
        "wall_s": round(wall, 2),
        "peak_mib": round(peak),
        "probe_ms": probe.ms,
    }


@contextmanager
def _started(
    commands: list[list[str]], settings: Settings, log: Path
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Starts the contender's processes, which end with the block; prints their logs if it fails."""
    environment = Stack(settings).environment
    with log.open("wb") as out, ExitStack() as running:
        processes = [
            running.enter_context(subprocess.Popen(command, env=environment, stdout=out, stderr=out))
            for command in commands
        ]
        try:
            yield processes
        except BaseException:
            for process in processes:
                process.kill()
            print(log.read_text()[-3000:], file=sys.stderr)
            raise
        for process in processes:
            process.terminate()


def _make_peer_topics(settings: Settings) -> None:
    """Creates the peers' topic of events by player, which is like ``staged``, and Faust's changelogs.

    Faust creates its changelogs itself, but an agent that starts before it has their metadata crashes.
    """
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    changelogs = [f"peer-faust-{table}-changelog" for table in ("ids", "states")]
    names = [f"{settings.topic_prefix}peer.by-player", *changelogs]
    topics = [NewTopic(name, settings.partitions, 1) for name in names]
    for made in admin.create_topics(topics).values():
        made.result()


def wait_for_all(
    settings: Settings, accepted: int, processes: Sequence[subprocess.Popen[bytes]]
) -> float:
    """Waits until ``accepted`` canonical events are committed; returns when the first was."""
    consumer = committed_consumer(settings, "bench", **{"enable.partition.eof": False})
    topic = f"{settings.topic_prefix}canonical.game-transactions"
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(settings.partitions)])
    seen, first, last = 0, 0.0, time.monotonic()
    while seen < accepted:
        messages = consumer.consume(10_000, 0.05)
        seen += len(messages)
        now = time.monotonic()
        if messages:
            first, last = first or now, now
        if now - last > 120 or any(process.poll() is not None for process in processes):
            raise RuntimeError(f"a process ended, or none makes progress: {seen} of {accepted} events")
    consumer.close()
    return first


def verify(settings: Settings, expected: Summary) -> None:
    """Compares the newest rounds and the canonical topic with the summary.

    Raises ``RuntimeError`` if they differ.
    """
    consumer = committed_consumer(settings, "verify")
    rounds = Reader("round", frame(SCHEMA_IDS["round"]), _schema_of)  # a peer writes the first version
    accepted = 0
    newest: dict[str, tuple[int, int]] = {}
    for topic in ("canonical.game-transactions", "rounds"):
        name = f"{settings.topic_prefix}{topic}"
        consumer.assign(
            [TopicPartition(name, partition, 0) for partition in range(settings.partitions)]
        )
        ended = 0
        while ended < settings.partitions:
            for message in consumer.consume(10_000, 0.2):
                if message.error():
                    ended += 1
                elif topic == "rounds":
                    record = rounds.read(message.value() or b"")
                    key = f"{record['tenant']}|{record['round_id']}"
                    newest[key] = from_bytes(record["bet_amount"]), from_bytes(record["win_amount"])
                else:
                    accepted += 1
    consumer.close()
    staked = to_decimal(sum(bet for bet, _ in newest.values()))
    paid = to_decimal(sum(win for _, win in newest.values()))
    facts = (accepted, len(newest), staked, paid)
    due = (expected.accepted, expected.rounds, expected.staked, expected.paid)
    if facts != due:
        raise RuntimeError(f"wrong output: {facts}, expected {due}")


def _schema_of(contract: str, named: bytes) -> Schema:
    """The schema of a published version, by the frame of its records."""
    found = version_of(int.from_bytes(named[1:], "big"))
    assert found is not None
    return found.schema


def measure(name: str, sizes: Sequence[int], batch_items: int) -> dict[str, Any]:
    """Runs one contender with each size; returns the runs and the steady cost."""
    contender = CONTENDERS[name]
    contender.build()
    runs = [run(contender, events, batch_items, fresh_home()) for events in sizes or contender.events]
    small, large = runs[0], runs[-1]
    result: dict[str, Any] = {"name": name, "runs": runs}
    if len(runs) > 1:
        events = large["events"] - small["events"]
        result["steady_cpu_us"] = round((large["cpu_s"] - small["cpu_s"]) / events * 1e6, 1)
        result["steady_broker_us"] = round(
            (large["broker_cpu_s"] - small["broker_cpu_s"]) / events * 1e6, 1
        )
        result["steady_events_per_s"] = round(events / (large["wall_s"] - small["wall_s"]))
    return result


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--events", type=int, nargs="+", default=[], help="sizes for all of them")
    parser.add_argument("--batch-items", type=int, default=BATCH_ITEMS)
    arguments = parser.parse_args()
    result = {
        **described(),
        "batch_items": arguments.batch_items,
        "contenders": [
            measure(name, arguments.events, arguments.batch_items) for name in arguments.contenders
        ],
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
