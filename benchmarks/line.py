"""Translate and process on the yardstick job: CPU an event and events a second, on a real Kafka.

``raw.batches`` is loaded first, then one worker is started: the figure is the worker's own. Two sizes
give the steady cost, start-up cancels out. A run is verified against the generator's summary before its
figure is printed; a wrong run prints none and fails.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from confluent_kafka import Producer, TopicPartition

from benchmarks.broker import kafka
from benchmarks.yardstick import Summary, bodies
from streams.canonical import Batch
from streams.codec import codec, unframe
from streams.kafka import committed_consumer, ensure_topics
from streams.money import from_bytes, to_decimal
from streams.settings import Settings
from streams.stack import Stack
from streams.translation import headers_of

TICK = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def peak_mib(pid: int) -> float:
    """Peak resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def load(settings: Settings, events: int, batch_items: int) -> Summary:
    """Fills ``raw.batches``; returns what must come out."""
    producer = Producer(
        {"bootstrap.servers": settings.kafka_bootstrap, "compression.type": "lz4", "linger.ms": 5}
    )
    summary = Summary()
    for number, (tenant, body, after) in enumerate(bodies(events, batch_items=batch_items)):
        batch = Batch(tenant, "native", f"batch-{number}", 1_773_500_000_000_000, True, False, None)
        producer.produce(
            f"{settings.topic_prefix}raw.batches",
            body,
            headers=list(headers_of(batch, 0).items()),
            partition=number % settings.partitions,
        )
        summary = after
        if number % 200 == 0:
            producer.flush()
    producer.flush()
    return summary


def run(events: int, batch_items: int, home: Path) -> dict[str, Any]:
    """One size, on a Kafka of its own."""
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with kafka(home) as (settings, broker):
        ensure_topics(settings)
        expected = load(settings, events, batch_items)
        broker_before = cpu_s(broker)
        began = time.monotonic()
        command = [sys.executable, "-m", "streams.cli", "worker-process", "0"]
        with subprocess.Popen(command, env=Stack(settings).environment, **quiet) as worker:
            first = wait_for_outcomes(settings, expected.received)
            wall = time.monotonic() - first
            cpu, peak = cpu_s(worker.pid), peak_mib(worker.pid)
            broker_cpu = cpu_s(broker) - broker_before
            worker.terminate()
        verify(settings, expected)
    return {
        "events": expected.received,
        "worker_cpu_s": round(cpu, 2),
        "broker_cpu_s": round(broker_cpu, 2),
        "start_up_s": round(first - began, 2),
        "wall_s": round(wall, 2),
        "events_per_s": round(expected.received / wall),
        "peak_mib": round(peak),
        "expected": {key: str(value) for key, value in asdict(expected).items()},
    }


def wait_for_outcomes(settings: Settings, received: int) -> float:
    """Returns when all items are settled: the moment at which the first was."""
    consumer = committed_consumer(settings, "bench", **{"enable.partition.eof": False})
    topic = f"{settings.topic_prefix}outcomes"
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(settings.partitions)])
    settled, first, last = 0, 0.0, time.monotonic()
    outcome = codec("outcome")
    while settled < received:
        messages = consumer.consume(1000, 0.05)
        for message in messages:
            record = outcome.decode(unframe(message.value() or b""))
            settled += sum(record[part] for part in ("accepted", "duplicate", "conflict", "rejected"))
        now = time.monotonic()
        if messages:
            first, last = first or now, now
        if now - last > 120:
            raise RuntimeError(f"the line stands still at {settled} of {received}")
    consumer.close()
    return first


def verify(settings: Settings, expected: Summary) -> None:
    """The newest rounds and the canonical topic against the summary. Raises ``RuntimeError``."""
    consumer = committed_consumer(settings, "verify")
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
                    record = codec("round").decode(unframe(message.value() or b""))
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
        raise RuntimeError(f"wrong output: {facts}, due {due}")


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, nargs="+", default=[100_000, 300_000])
    parser.add_argument("--batch-items", type=int, default=500)
    arguments = parser.parse_args()
    runs = []
    for events in arguments.events:
        with tempfile.TemporaryDirectory(prefix="roundhouse-bench-") as home:
            runs.append(run(events, arguments.batch_items, Path(home)))
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "batch_items": arguments.batch_items,
        "runs": runs,
    }
    if len(runs) > 1:
        small, large = runs[0], runs[-1]
        events = large["events"] - small["events"]
        result["steady_cpu_us_per_event"] = round(
            (large["worker_cpu_s"] - small["worker_cpu_s"]) / events * 1e6, 1
        )
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
