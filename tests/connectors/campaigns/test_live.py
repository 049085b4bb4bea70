"""Standings kept in memory: what is evaluated and when, what a reader gets, and what changed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from connectors.campaigns.evaluation import evaluate
from connectors.campaigns.live import SETTLES_WITHIN, Live, Snapshot
from connectors.campaigns.model.definition import Campaign
from connectors.clickhouse.client import connect
from connectors.clickhouse.literals import moment
from connectors.clickhouse.migrate import migrate
from streams.settings import Settings

PLAYERS = 300
START = datetime(2026, 3, 1, tzinfo=UTC)
DURING = datetime(2026, 3, 10, tzinfo=UTC)
AFTERWARDS = datetime(2026, 5, 1, tzinfo=UTC)


def campaign(name: str, tenant: str = "acme", start: str = "2026-03-01") -> Campaign:
    return Campaign.model_validate(
        {
            "name": name, "tenant": tenant, "period": {"from": start, "to": "2026-04-01"},
            "measure": "turnover",
            "form": {"kind": "leaderboard", "prizes": [{"ranks": "1-3", "amount": Decimal(10)}]},
        }
    )  # fmt: skip


def bet(client: Client, player: str, amount: str, at: datetime, players: int = 1) -> None:
    """A bet of each of some players, received when it was played; the later player bets more."""
    client.command(
        "INSERT INTO game_transactions_rows (tenant, source, batch_id, received_at, counts, position, "
        "source_event, event_id, occurred_at, player_id, round_id, game_id, type, amount, "
        f"bonus_amount, currency) SELECT 'acme', 'native', 'b', {moment(at)}, true, 0, 'gameround', "
        f"concat('{player}', toString(number), '{at:%H%M%S}') AS id, {moment(at)}, "
        f"concat('{player}', toString(number)), id, 'g', 'bet', "
        f"toDecimal128('{amount}', 18) + number, 0, 'EUR' FROM numbers({players})"
    )
    client.command(
        "INSERT INTO rounds_rows (tenant, player_id, round_id, revision, game_id, currency, counts, "
        "first_event_at, last_event_at, last_received_at, first_bet_at, bet_count, bet_amount) SELECT "
        f"'acme', concat('{player}', toString(number)), concat('{player}', toString(number), "
        f"'{at:%H%M%S}'), 1, 'g', 'EUR', true, {moment(at)}, {moment(at)}, {moment(at)}, {moment(at)}, "
        f"1, toDecimal128('{amount}', 18) + number FROM numbers({players})"
    )


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[tuple[Settings, Client]]:
    settings = Settings(data_dir=tmp_path)
    client = connect(settings)
    migrate(client, settings.clickhouse_database)
    bet(client, "p", "0.000000000000000001", START + timedelta(hours=1), PLAYERS)
    yield settings, client
    client.close()


def test_a_snapshot_is_what_a_backtest_as_of_its_moment_gives_later(
    stored: tuple[Settings, Client],
) -> None:
    settings, client = stored
    published: list[Snapshot] = []
    live = Live(settings, lambda: [campaign("race")], published.append)
    assert live.look(DURING, now=0)
    snapshot = live.snapshot("race")
    assert snapshot is not None
    assert published == [snapshot]
    assert snapshot.result.as_of == DURING - SETTLES_WITHIN
    bet(client, "late", "5000", DURING)  # received after the moment
    assert evaluate(settings, campaign("race"), snapshot.result.as_of) == snapshot.result
    assert snapshot.result.standings[0].score == Decimal("299.000000000000000001")


def test_readers_page_search_and_find_a_player_with_its_movement(
    stored: tuple[Settings, Client],
) -> None:
    settings, client = stored
    live = Live(settings, lambda: [campaign("race")])
    live.look(DURING, now=0)
    first = live.snapshot("race")
    assert first is not None
    assert first.rows(100, 2).select("position", "rank", "player_id", "rank_before").rows() == [
        (100, 101, "p199", None), (101, 102, "p198", None),
    ]  # fmt: skip
    bet(client, "p", "1000", DURING)  # p0, the last, is the first now
    bet(client, "new", "999", DURING)
    assert live.look(DURING + timedelta(hours=1), now=1000)
    second = live.snapshot("race")
    assert second is not None
    assert second.rows(0, 3).select("rank", "player_id", "rank_before").rows() == [
        (1, "p0", 300), (2, "new0", None), (3, "p299", 1),
    ]  # fmt: skip
    assert second.of_player("p298").select("rank", "rank_before").rows() == [(4, 2)]
    assert second.of_player("nobody").is_empty()
    assert second.found("p29", 3)["player_id"].to_list() == ["p299", "p298", "p297"]
    assert second.found("%", 3).is_empty()


def test_only_what_runs_or_is_asked_for_is_evaluated_and_the_longest_unseen_first(
    stored: tuple[Settings, Client],
) -> None:
    settings, _ = stored
    names: list[str] = []
    present = [campaign("a"), campaign("b", tenant="other"), campaign("to-come", start="2026-03-20")]
    live = Live(settings, lambda: present, lambda snapshot: names.append(snapshot.result.campaign.name))
    assert [live.look(DURING, now) for now in (0, 1, 2)] == [True, True, False]
    assert sorted(names) == ["a", "b"]
    assert live.peek("to-come") is None
    assert not live.look(DURING, now=300)  # nothing was received
    assert not live.look(DURING, now=700, is_rested=False)
    assert [live.look(DURING, now) for now in (700, 701, 702)] == [True, True, False]

    present[0] = campaign("a", start="2026-03-02")
    assert live.look(DURING, now=710)
    changed = live.peek("a")
    assert changed is not None
    assert (len(changed.result.standings), changed.before) == (0, None)

    assert not live.look(AFTERWARDS, now=5000)  # over, and nobody has asked
    assert live.peek("b") is None


def test_campaigns_that_share_a_query_are_evaluated_together_unless_one_is_looked_at(
    stored: tuple[Settings, Client],
) -> None:
    settings, _ = stored
    rounds: list[list[str]] = []
    present = [campaign("a"), campaign("b"), campaign("c", start="2026-03-02")]
    live = Live(
        settings, lambda: present, lambda snapshot: rounds[-1].append(snapshot.result.campaign.name)
    )

    def look(now: float, *, is_rested: bool = True) -> bool:
        rounds.append([])
        return live.look(DURING, now, is_rested=is_rested)

    assert look(now=0, is_rested=False)  # none has standings yet
    assert sorted(rounds[-1]) == ["a", "b", "c"]
    snapshots = [live.peek(each.name) for each in present]
    assert [snapshot and len(snapshot.result.standings) for snapshot in snapshots] == [300, 300, 0]
    assert all(
        snapshot and snapshot.result == evaluate(settings, each, snapshot.result.as_of)
        for each, snapshot in zip(present, snapshots, strict=True)
    )
    assert live.snapshot("b")  # somebody looks at it
    assert look(now=700)
    assert rounds[-1] == ["b"]
    assert look(now=701)
    assert sorted(rounds[-1]) == ["a", "c"]
    assert not look(now=702)
