"""Periods that recur: their occurrences by name, in UTC, over changes of the clock, and wrong ones."""

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from connectors.campaigns.model.definition import load
from connectors.cli.main import main
from streams.errors import DefinitionError

RACE = """name: race
tenant: acme
period: {{{period}, time_zone: Europe/Helsinki}}
measure: turnover
form: {{kind: leaderboard, prizes: [{{ranks: 1, amount: 1}}]}}
"""
DAILY = "every: day, from: 2026-03-27T06:00"


def race(tmp_path: Path, period: str) -> Path:
    path = tmp_path / "race.yaml"
    path.write_text(RACE.format(period=period))
    return path


def test_days_are_local_ones_also_when_the_clock_changes(tmp_path: Path) -> None:
    definition = load(race(tmp_path, DAILY + ", to: 2026-03-31T06:00"))
    found = list(definition.occurrences(datetime(2027, 1, 1, tzinfo=UTC)))
    periods = [each.campaign.period.utc() for each in found]
    assert [each.campaign.name for each in found] == [f"race-2026-03-{day}" for day in range(27, 31)]
    assert [(end - start) / timedelta(hours=1) for start, end in periods] == [24, 23, 24, 24]
    assert all(one[1] == other[0] for one, other in itertools.pairwise(periods))


@pytest.mark.parametrize(
    ("period", "day", "start", "end"),
    [
        ("every: week, from: 2026-03-02", "2026-03-08", "2026-03-02", "2026-03-09"),
        ("every: week, from: 2026-03-02", "2026-03-09", "2026-03-09", "2026-03-16"),
        ("every: month, from: 2025-11-15", "2026-03-14", "2026-02-15", "2026-03-15"),
        ("every: month, from: 2025-11-15", "2026-03-15", "2026-03-15", "2026-04-15"),
        ("every: month, from: 2025-01-01", "2025-12-31", "2025-12-01", "2026-01-01"),
        (DAILY, "2026-03-28", "2026-03-28T06:00", "2026-03-29T06:00"),
    ],
)
def test_an_occurrence_is_named_by_a_day(
    period: str, day: str, start: str, end: str, tmp_path: Path
) -> None:
    campaign = load(race(tmp_path, period), occurrence=datetime.fromisoformat(day)).campaign
    assert campaign.name == f"race-{start[:10]}"
    assert (campaign.period.start, campaign.period.end) == (
        datetime.fromisoformat(start), datetime.fromisoformat(end),
    )  # fmt: skip


def test_an_occurrence_has_the_hash_of_the_campaign_written_by_hand(tmp_path: Path) -> None:
    recurring = load(race(tmp_path, DAILY), occurrence=datetime(2026, 3, 29)).campaign
    by_hand = race(tmp_path, "from: 2026-03-29T06:00, to: 2026-03-30T06:00")
    by_hand.write_text(by_hand.read_text().replace("name: race", "name: race-2026-03-29"))
    assert load(by_hand).campaign.sha256 == recurring.sha256
    listed = list(load(race(tmp_path, DAILY)).occurrences(datetime(2026, 3, 30, tzinfo=UTC)))
    assert listed[2].campaign.sha256 == recurring.sha256


def test_the_running_occurrence_is_the_default_and_the_nearest_where_none_runs(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    running = load(race(tmp_path, DAILY)).campaign.period.utc()
    assert running[0] <= now + timedelta(minutes=1)
    assert now < running[1]
    over = load(race(tmp_path, DAILY + ", to: 2026-03-31T06:00")).campaign
    assert over.name == "race-2026-03-30"
    assert load(race(tmp_path, "every: month, from: 2150-01-01")).campaign.name == "race-2150-01-01"


@pytest.mark.parametrize(
    ("period", "day", "message"),
    [
        ("every: year, from: 2026-01-01", None, "race.yaml:3: period.every: input should be 'day'"),
        ("every: month, from: 2026-01-31", None, "race.yaml:3: period: `from` is on day 31"),
        ("every: week, from: 2026-03-02, to: 2026-03-10", None, "end of a week, like 2026-03-16"),
        ("every: day", None, "race.yaml:3: period.from: field required"),
        (DAILY, "2026-03-26", "has no occurrence on 2026-03-26: the first begins at 2026-03-27T06:00"),
        (DAILY + ", to: 2026-03-28T06:00", "2026-03-29", "and the last ends at 2026-03-28T06:00"),
        ("from: 2026-01-01, to: 2026-01-02", "2026-01-01", "its period does not recur"),
    ],
)  # fmt: skip
def test_a_wrong_recurrence_says_what_to_write(
    period: str, day: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DefinitionError) as raised:
        load(race(tmp_path, period), occurrence=datetime.fromisoformat(day) if day else None)
    assert message in str(raised.value)


def test_a_name_that_leaves_no_room_for_the_date_is_refused(tmp_path: Path) -> None:
    path = race(tmp_path, DAILY)
    path.write_text(path.read_text().replace("name: race", f"name: {'r' * 54}"))
    with pytest.raises(DefinitionError, match=r"race\.yaml:1: name: the date of each occurrence"):
        load(path)


def test_the_command_lists_the_occurrences_that_have_begun(tmp_path: Path) -> None:
    path = race(tmp_path, DAILY + ", to: 2026-03-30T06:00")
    found = CliRunner().invoke(main, ["campaign", "occurrences", str(path)])
    assert found.exit_code == 0, found.output
    lines = found.output.splitlines()
    assert [line.split("  ")[0] for line in lines] == [f"race-2026-03-{day}" for day in (27, 28, 29)]
    assert lines[1].startswith("race-2026-03-28  2026-03-28T04:00 2026-03-29T03:00  ")
