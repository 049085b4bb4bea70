"""The newest batches and the errors of a tenant, beyond what the tests of the console cover."""

import time
from contextlib import closing
from pathlib import Path

from connectors.clickhouse.client import connect
from connectors.status.recent import BATCHES_MAX, errors_by_code, newest_batches
from streams.settings import Settings
from tests.line import NATIVE, bet
from tests.stored_line import StoredLine

HOUR = 3_600_000_000


def test_older_batches_fill_the_list_and_bytes_that_are_not_text_are_shown(tmp_path: Path) -> None:
    with closing(connect(Settings(data_dir=tmp_path))) as client:
        _check(StoredLine(client, "recent"))


def _check(stored: StoredLine) -> None:
    now = time.time_ns() // 1000
    for number, hours in enumerate([24 * 400, 30, 2, *[0] * 3]):
        at = now - hours * HOUR + number
        stored.line.run([bet(f"e-{number}")], NATIVE._replace(batch_id=f"b-{number}", received_at=at))
    stored.line.run(b"\xff\xfe", NATIVE._replace(batch_id="bytes", received_at=now - HOUR))
    stored.line.run([bet("old", currency="x")], NATIVE._replace(received_at=now - 25 * HOUR))
    stored.store()
    newest = [batch["batch_id"] for batch in newest_batches(stored.rows, "acme")]
    assert newest == ["b-5", "b-4", "b-3", "bytes", "b-2", "batch", "b-1", "b-0"]
    assert len(newest) < BATCHES_MAX
    [error] = errors_by_code(stored.rows, "acme")
    assert (error["code"], error["example"]["item"]) == ("not_json", "\ufffd")
    assert newest_batches(stored.rows, "other") == errors_by_code(stored.rows, "other") == []
