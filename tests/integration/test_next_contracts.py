"""A version with new fields in every contract continues a line with unfinished work in each step."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connectors.clickhouse.targets import TARGETS
from connectors.demo.day import day
from streams.settings import Settings
from tests.next_contracts import NEW, ROOT, begin, next_version, post
from tests.oracle import expect


@pytest.fixture(params=["built in", pytest.param("registry", marks=pytest.mark.kafka)])
def registry(request: pytest.FixtureRequest) -> str | None:
    """The address of a schema registry, or None: the ids are those that the project ships."""
    if request.param == "built in":
        return None
    url: str = request.getfixturevalue("schema_registry")
    return url


def finished(settings: Settings, *path: Path) -> dict[str, list[dict[str, Any]]]:
    """Lets the version at ``path`` finish the work of a line; returns the rows in ClickHouse."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, "-P", "-m", "tests.next_contracts", settings.model_dump_json()]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=settings.data_dir
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_every_contract_grows_with_work_in_flight_and_nothing_is_lost_or_changed(
    registry: str | None,
    memory_broker: str,
    line_settings: Callable[[str], Settings],
    tmp_path: Path,
) -> None:
    posts = day(seed=43, events=600)
    posts += posts[::3]  # some of them sent again, also posts that the earlier version accepted
    found = {}
    tree = next_version(tmp_path / "tree")
    for name, path in (("same", [ROOT]), ("next", [tree, ROOT])):
        settings = line_settings(memory_broker).model_copy(
            update={"data_dir": tmp_path / name, "schema_registry_url": registry}
        )
        settings.data_dir.mkdir()
        post(settings, posts)
        begin(settings)
        found[name] = finished(settings, *path)

    expected = expect(posts)
    outcomes = found["next"]["outcomes_rows"]
    accepted = sum(int(outcome["accepted"]) for outcome in outcomes)
    assert accepted == len(expected.events)
    counts = ("accepted", "duplicate", "conflict", "rejected")
    assert sum(int(outcome["received"]) for outcome in outcomes) == sum(expected.received.values())
    assert sum(int(o[count]) for o in outcomes for count in counts) == sum(expected.received.values())
    assert sum(int(outcome["duplicate"]) for outcome in outcomes) > 20
    assert sum(int(outcome["conflict"]) for outcome in outcomes) == 0
    for target in TARGETS.values():
        new = {field.name: field.shown for field in NEW[target.contract].values()}
        rows = found["next"][target.table]
        for row in rows:
            for field, shown in new.items():
                value = row.pop(field)
                assert (float(value) if isinstance(shown, float) else value) == shown, field
        assert sorted(map(json.dumps, rows)) == sorted(map(json.dumps, found["same"][target.table]))
        assert rows, target.table
