"""librdkafka's in-memory cluster as a process: Kafka's protocol without a JDK, for small loads.

It keeps about 5 MB a partition and then silently drops the oldest records, returns aborted
records, does not fence producers, creates topics of four partitions on first use, and keeps no data
after its end.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Producer

from streams.runtime.fail_stop import told_to_stop

PARTITIONS = 4
START_WITHIN_S = 15.0


@contextmanager
def cluster() -> Iterator[str]:
    """Runs a cluster of one broker within the block; yields its bootstrap address."""
    producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    brokers = producer.list_topics(timeout=10).brokers.values()
    try:
        yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    finally:
        producer.flush(1)


def serve(address_file: Path) -> None:
    """Runs until SIGTERM or SIGINT; writes its bootstrap address to ``address_file``."""
    stopping = told_to_stop()
    with cluster() as address:
        fresh = address_file.with_suffix(".tmp")
        fresh.write_text(address)
        fresh.replace(address_file)
        stopping.wait()


def wait_for_address(address_file: Path) -> str:
    """The address that :func:`serve` wrote."""
    deadline = time.monotonic() + START_WITHIN_S
    while not address_file.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the in-memory broker did not start: {address_file} is missing")
        time.sleep(0.05)
    return address_file.read_text()
