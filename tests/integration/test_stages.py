"""What the stages do before anything is sent."""

import json
from pathlib import Path

import pytest

from streams.codec import SCHEMA_IDS, frame
from streams.errors import TooManyRejects
from streams.settings import Settings
from streams.stages import Translate
from streams.translation import RawRecord, headers_of
from tests.line import NATIVE, bet

FRAMES = {name: frame(number) for name, number in SCHEMA_IDS.items()}


def bodies(good: int, bad: int) -> bytes:
    return json.dumps([bet(f"g{n}") for n in range(good)] + [bet("b", -1)] * bad).encode()


@pytest.fixture
def stage(tmp_path: Path, memory_broker: str) -> Translate:
    return Translate(Settings(data_dir=tmp_path, kafka_bootstrap=memory_broker), FRAMES)


def records(body: bytes, invalid: int, count: int) -> list[RawRecord]:
    return [RawRecord(0, offset, headers_of(NATIVE, invalid), body) for offset in range(count)]


def test_many_rejects_that_the_edge_did_not_see_stop_the_stage(stage: Translate) -> None:
    with pytest.raises(TooManyRejects, match=r"500 of the last 2000 items.*REJECT_SHARE_MAX"):
        stage(records(bodies(75, 25), invalid=0, count=20))


def test_many_rejects_that_the_edge_has_seen_are_the_operators_affair(stage: Translate) -> None:
    stage(records(bodies(10, 90), invalid=90, count=40))


def test_a_few_unexpected_rejects_do_not_stop_the_stage(stage: Translate) -> None:
    stage(records(bodies(90, 10), invalid=0, count=40))
