"""The bytes on every topic for a fixed input are those of ``golden.json``: what 0.1.0 wrote, but for
``rounds`` and ``state.window``, in which a round has ``first_bet_at`` since.

Other bytes would mean that a contract, the state or an id has changed, which consumers and restarted
workers may not be able to read.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.records.raw_batch import RawRecord, headers_of, join_requests
from streams.settings import Settings
from tests.contracts import OF_STAGES
from tests.integration.test_line import Line, read
from tests.line import NATIVE, bet, casino, win

SAMPLES = Path(__file__).parents[2] / "connectors" / "edge" / "samples"
GOLDEN = Path(__file__).with_name("golden.json")
PARTITIONS = range(4)
RECORDS_MAX = 30
VALUE_MAX = 2_000  # bytes


def requests() -> Iterator[tuple[list[tuple[str, bytes]], bytes]]:
    """Requests with items of every kind of every format: new, duplicate, conflicting and invalid."""
    number = 0

    def request(body: bytes, **batch: Any) -> tuple[list[tuple[str, bytes]], bytes]:
        nonlocal number
        number += 1
        fields = {"tenant": "acme", "batch_id": f"batch-{number}", **batch}
        received = 1_773_500_000_000_000 + number
        return headers_of(NATIVE._replace(received_at=received, **fields), 0), body

    for source in ("native", "fasttrack", "gameball"):
        for path in sorted((SAMPLES / source).glob("*.json")):
            for merges in (True, False):
                yield request(path.read_bytes(), source=source, merges_channels=merges)
    yield request(json.dumps([bet("b", 1), bet("b", 2), win("w", 3), bet("b", 1)]).encode())
    yield request(json.dumps([bet("b", 1), {"event": "unknown", "data": {}}, 7]).encode(), tenant="b")
    yield request(json.dumps([casino("rollbackbet", "x", 4)]).encode(), source="fasttrack")
    yield request(b'{"items": 1}')
    yield request(
        json.dumps([bet(f"many-{n}", n, round_id=f"r-{n % 7}") for n in range(1500)]).encode()
    )
    together = [request(json.dumps([bet(f"small-{n}")]).encode(), counts=n > 0) for n in range(3)]
    yield join_requests(together)
    yield [("tenant", b"acme")], b"not from the edge"


def written(line: Line) -> dict[str, list[str]]:
    """Runs the input through both stages; returns the records as text, by topic.

    The text of a record is its partition, key and value, the latter two in hex. A hash replaces a long
    value, and the records after the first :data:`RECORDS_MAX` of a topic.
    """
    for number, (headers, body) in enumerate(requests()):
        line.translate([RawRecord(number % 4, number // 4, headers, body)])
    for partition in PARTITIONS:
        staged = line.staged(partition)
        with line.owned(partition) as owned:
            for start in range(0, len(staged), 10):
                owned.apply(staged[start : start + 10])
    found = {}
    for topic in sorted(OF_STAGES):
        records = [
            f"{message.partition()} {(message.key() or b'').hex()} {_shown(message.value() or b'')}"
            for message in read(line.settings, topic, *PARTITIONS)
        ]
        rest = hashlib.sha256("\n".join(records[RECORDS_MAX:]).encode()).hexdigest()
        found[topic] = [*records[:RECORDS_MAX], f"{max(0, len(records) - RECORDS_MAX)} more: {rest}"]
    return found


def _shown(value: bytes) -> str:
    return value.hex() if len(value) <= VALUE_MAX else hashlib.sha256(value).hexdigest()


@pytest.mark.parametrize("settings", ["memory"], indirect=True)
def test_the_bytes_on_every_topic_have_not_changed(settings: Settings) -> None:
    expected = json.loads(GOLDEN.read_text())
    found = written(Line(settings))
    assert found.keys() == expected.keys()
    for topic in expected:
        assert found[topic] == expected[topic], topic
