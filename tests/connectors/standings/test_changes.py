"""What an evaluation writes: a reader who follows the records has the standings, and nothing is written
twice.
"""

import random
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars
import pytest

from connectors.campaigns.evaluation import Result
from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.standings import SCHEMA, Standings
from connectors.standings.changes import EXACT_RANKS, ON_TOPIC, changes
from connectors.standings.records import Evaluation, Place, frame_of, of_evaluation, of_players
from streams.records.topics import CONTRACTS, STANDINGS
from streams.wire.avro import codec

START = datetime(2026, 3, 1, tzinfo=UTC)
PLAYERS = EXACT_RANKS + 200
CAMPAIGN = Campaign.model_validate(
    {
        "name": "race", "tenant": "ac|me", "period": {"from": "2026-03-01", "to": "2026-04-01"},
        "measure": "turnover", "counts": {"currency": "EUR"},
        "form": {"kind": "leaderboard", "prizes": [{"ranks": "1-3", "amount": Decimal(10)}]},
    }
)  # fmt: skip


def standings(scores: Mapping[str, int], teams: Mapping[str, str] | None = None) -> Standings:
    """Standings by score, then by player; with teams by the sum of the team's scores."""
    teams = teams or {}
    totals: dict[str, int] = {}
    for player, score in scores.items():
        totals[teams.get(player, player)] = totals.get(teams.get(player, player), 0) + score
    order = sorted(totals, key=lambda each: (-totals[each], each))
    ranks = {each: rank for rank, each in enumerate(order, 1)}
    rows = [
        {
            "rank": ranks[teams.get(player, player)], "player_id": player, "score": Decimal(score),
            "reached_at": START, "entries": 1, "step": 0,
            "prize": Decimal(10 if ranks[teams.get(player, player)] <= 3 else 0), "unpaid": Decimal(0),
            "items": "", "items_cost": Decimal(0), "stage": 0, "team": teams.get(player, ""),
            "team_score": Decimal(totals[teams[player]] if player in teams else 0),
        }
        for player, score in scores.items()
    ]  # fmt: skip
    frame = polars.DataFrame(rows, schema=SCHEMA)
    return Standings(frame.sort("rank", "player_id"))


class Reader:
    """Follows the records of a campaign, and fails if one says what the one before has said."""

    def __init__(self) -> None:
        self.board: dict[str, Any] = {}
        self.records = 0

    def follow(self, result: Result, on_topic: polars.DataFrame) -> polars.DataFrame:
        """Takes the records of an evaluation, as they are on the wire; returns what the topic has."""
        found = changes(on_topic, result.standings)
        contract = codec(CONTRACTS[STANDINGS])
        for key, record in of_players(result, found):
            self.records += 1
            player = Place.of(key.encode()).player
            assert player is not None
            if record is None:
                del self.board[player]
                continue
            read = contract.decode(contract.encode(record))
            known = self.board.get(player)
            assert known is None or said(known) != said(read)
            for name in ("rank", "score", "step", "prize", "items"):
                assert read[f"{name}_before"] == (known and known[name])
            self.board[player] = read
        key, record = of_evaluation(result, len(found))
        assert Place.of(key.encode()) == ("ac%7Cme|race", None)
        assert record["players"] == len(self.board)
        return found.on_topic


def said(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ON_TOPIC}


def result_of(found: Standings, day: int) -> Result:
    return Result(CAMPAIGN, START + timedelta(days=day), 0, found, {})


def histories(generator: random.Random) -> Iterable[dict[str, int]]:
    scores = {f"p|{number:04}": generator.randrange(500) for number in range(PLAYERS)}
    for _ in range(4):
        yield dict(scores)
        for player in generator.sample(sorted(scores), 30):
            scores[player] = generator.randrange(500)
        for player in generator.sample(sorted(scores), 5):
            del scores[player]
        scores |= {f"new-{generator.random()}": generator.randrange(500) for _ in range(5)}


@pytest.mark.parametrize("seed", range(3))
def test_a_reader_has_the_standings_and_exact_ranks_as_far_as_promised(seed: int) -> None:
    reader, on_topic = Reader(), ON_TOPIC.to_frame()
    for day, scores in enumerate(histories(random.Random(seed))):
        now = standings(scores)
        on_topic = reader.follow(result_of(now, day), on_topic)
        read = frame_of(reader.board.values())
        assert read.sort("player_id").equals(on_topic.sort("player_id"))
        due = now.frame.select(ON_TOPIC.names())
        assert read.drop("rank").sort("player_id").equals(due.drop("rank").sort("player_id"))
        first = read.filter(polars.col("rank") <= EXACT_RANKS).sort("rank")
        assert first.equals(due.head(EXACT_RANKS))
        order = read.sort(
            "stage", "score", "reached_at", "player_id", descending=[True, True, False, False]
        )
        assert order["player_id"].to_list() == due["player_id"].to_list()


def test_one_player_who_passes_all_others_is_not_written_with_all_of_them() -> None:
    scores = {f"p{number:05}": number for number in range(5 * EXACT_RANKS)}
    before = changes(ON_TOPIC.to_frame(), standings(scores))
    assert len(before) == len(scores)
    after = changes(before.on_topic, standings(scores | {"p00000": len(scores)}))
    assert after.written["player_id"][0] == "p00000"
    assert after.written["rank_before"][0] == len(scores)
    assert len(after) == EXACT_RANKS + 1  # who was first is second, … , who was the 1,000th is not
    again = changes(after.on_topic, standings(scores | {"p00000": len(scores)}))
    assert len(again) == 0


def test_the_ranks_of_teams_are_exact_for_all_players() -> None:
    teams = {f"p{number}": f"team-{number % 2000:04}" for number in range(4000)}
    scores = {player: 4000 - int(team[5:]) for player, team in teams.items()}
    before = changes(ON_TOPIC.to_frame(), standings(scores, teams))
    after = changes(before.on_topic, standings(scores | {"p1999": 1_000_000}, teams))
    due = standings(scores | {"p1999": 1_000_000}, teams).frame.select(ON_TOPIC.names())
    assert after.on_topic.sort("player_id").equals(due.sort("player_id"))
    assert len(after) == 4000


def test_the_end_of_an_evaluation_says_whether_it_is_the_last() -> None:
    found = standings({"p": 1})
    for day, unsettled, is_last in ((30, 0, False), (31, 1, False), (31, 0, True)):
        _, record = of_evaluation(result_of(found, day)._replace(unsettled=unsettled), 1)
        assert Evaluation.of(record).is_last == is_last
