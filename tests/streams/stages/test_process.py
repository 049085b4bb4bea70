"""Decisions, sums of rounds and profiles: the line in memory, from posted JSON to sent records."""

import json
from decimal import Decimal
from typing import Any

from streams.core.identity import erased_mark
from tests.line import NATIVE, Line, bet, casino, win

FASTTRACK = NATIVE._replace(source="fasttrack")
GAMEBALL = NATIVE._replace(source="gameball")


def amounts(round_: dict[str, Any], *names: str) -> list[Decimal]:
    return [Decimal(round_[f"{name}_amount"]) for name in names]


def test_a_bet_and_its_win_become_one_round() -> None:
    line = Line()
    line.run([bet("b", 2), win("w", 5, is_bonus=True)])
    [round_] = line.sent["rounds"]
    assert (round_["bet_count"], round_["win_count"], round_["revision"]) == (1, 1, 1)
    assert amounts(round_, "bet", "win", "win_bonus", "bet_bonus") == [2, 5, 5, 0]
    assert len(line.sent["canonical.game-transactions"]) == 2


def test_the_same_event_again_is_a_duplicate_and_changes_nothing() -> None:
    #   post:  b    w    b(again)
    #   round: r1   r2   -
    line = Line()
    line.run([bet("b")])
    line.run([win("w", 3)])
    line.run([bet("b", ignored="unknown fields do not matter")])
    assert line.tally() == {"received": 3, "accepted": 2, "duplicate": 1, "conflict": 0, "rejected": 0}
    assert [sent["revision"] for sent in line.sent["rounds"]] == [1, 2]
    assert len(line.sent["canonical.game-transactions"]) == 2


def test_the_same_event_twice_in_one_chunk_is_a_duplicate() -> None:
    line = Line()
    line.post([bet("b"), bet("b")])
    line.post([bet("b")])
    line.settle()
    assert line.tally()["duplicate"] == 2
    assert line.rounds()["r-1"]["bet_count"] == 1


def test_the_same_id_with_other_content_is_a_conflict_and_is_kept_as_a_reject() -> None:
    line = Line()
    line.run([bet("b", 1)])
    line.run([bet("b", 2)])
    assert line.tally()["conflict"] == 1
    [reject] = line.sent["rejects"]
    assert (reject["code"], reject["outcome"], reject["stage"]) == (
        "id_conflict",
        "conflict",
        "process",
    )
    assert b'"amount": "2.000000000000000000"' in bytes.fromhex(reject["payload"])
    assert amounts(line.rounds()["r-1"], "bet") == [1]


def test_ids_are_the_tenants_the_sources_and_the_kinds_own() -> None:
    line = Line()
    line.run([bet("x"), {"event": "login", "data": {
        "unique_id": "x", "timestamp": "2026-03-14T12:00:00Z", "player_id": "p-1"}}])  # fmt: skip
    line.run([bet("x")], NATIVE._replace(tenant="other"))
    line.run([casino("bet", "x", round_id="r-2")], FASTTRACK)
    assert line.tally() == {"received": 4, "accepted": 4, "duplicate": 0, "conflict": 0, "rejected": 0}


def test_a_rollback_may_come_before_its_bet() -> None:
    line = Line()
    line.run([casino("rollbackbet", "rb", 4)], FASTTRACK)
    line.run([casino("bet", "b", 4, bonus_wager_amount=1)], FASTTRACK)
    line.run([casino("loss", "l", 0)], FASTTRACK)
    round_ = line.rounds()["r-1"]
    assert amounts(round_, "bet", "rollback_bet", "bet_bonus") == [4, 4, 1]
    assert (round_["loss_count"], round_["rollback_bet_count"]) == (1, 1)


def test_a_second_currency_within_a_round_is_a_conflict_not_a_sum() -> None:
    line = Line()
    line.run([bet("b", 1), win("w", 9, currency="USD")])
    assert line.tally() == {"received": 2, "accepted": 1, "duplicate": 0, "conflict": 1, "rejected": 0}
    assert line.sent["rejects"][0]["code"] == "round_currency_conflict"
    assert amounts(line.rounds()["r-1"], "win") == [0]


def test_what_was_refused_is_refused_again_and_not_called_a_duplicate() -> None:
    line = Line()
    line.run([bet("b", 1)])
    for _ in range(2):
        line.run([win("w", 9, currency="USD")])
    assert line.tally()["conflict"] == 2


def gameround(unique_id: str, bet_: float, win_: float) -> dict[str, Any]:
    data = {
        "user_id": "p-1",
        "timestamp": "2026-03-14T12:00:00Z",
        "unique_id": unique_id,
        "game_id": "g-1",
        "user_currency": "EUR",
        "bonus_bet_user": 0,
        "total_bet_user": bet_,
        "bonus_win_user": 0,
        "total_win_user": win_,
    }
    return {"event": "realtime-gameround", "data": data}


def test_a_round_reported_by_two_kinds_is_counted_once() -> None:
    line = Line()
    line.run([gameround("r-1", 2, 3)], FASTTRACK)
    line.run([casino("bet", "b", 2), casino("win", "w", 3)], FASTTRACK)
    line.run([casino("bet", "c", 7, round_id="r-2")], FASTTRACK)
    line.run([gameround("r-2", 7, 0)], FASTTRACK)
    assert line.tally() == {"received": 5, "accepted": 2, "duplicate": 0, "conflict": 3, "rejected": 0}
    assert {reject["code"] for reject in line.sent["rejects"]} == {"round_reported_twice"}
    assert amounts(line.rounds()["r-1"], "bet", "win") == [2, 3]
    assert amounts(line.rounds()["r-2"], "bet") == [7]


def test_a_round_that_would_not_fit_any_more_refuses_the_event() -> None:
    line = Line()
    huge = 99_999_999_999_999_999_999
    line.run([bet("b", huge), bet("c", huge)])
    assert line.sent["rejects"][0]["code"] == "round_overflow"
    assert amounts(line.rounds()["r-1"], "bet") == [huge]


def player(event_id: str, at: str, **fields: Any) -> dict[str, Any]:
    return {
        "event": "player",
        "data": {"unique_id": event_id, "timestamp": at, "player_id": "p-1"} | fields,
    }


def game(event_id: str, at: str, **fields: Any) -> dict[str, Any]:
    return {
        "event": "game",
        "data": {"unique_id": event_id, "timestamp": at, "game_id": "g-1"} | fields,
    }


def test_a_round_is_enriched_with_the_newest_of_player_and_game_by_event_time() -> None:
    #   event time:  p1 -- p2        posted:  p2, p1, g1, bet
    line = Line()
    line.run([player("p2", "2026-03-02T00:00:00Z", country="FI", tags=["vip"])])
    line.run([player("p1", "2026-03-01T00:00:00Z", country="SE", affiliate="a-1", tags=[])])
    line.run([game("g1", "2026-03-01T00:00:00Z", name="Book", categories=["slots"])])
    line.run([bet("b")])
    round_ = line.rounds()["r-1"]
    assert (round_["player_country"], round_["player_affiliate"]) == ("FI", "a-1")
    assert round_["player_tags"] == ["vip"]
    assert (round_["game_name"], round_["game_categories"]) == ("Book", ["slots"])


def test_a_game_is_known_on_every_partition_but_counted_and_emitted_once() -> None:
    line = Line(partitions=4)
    players = [f"p-{n}" for n in range(40)]
    line.run([game("g1", "2026-03-01T00:00:00Z", name="Book")])
    line.run([bet(f"b-{p}", player_id=p, round_id=f"r-{p}") for p in players])
    assert {round_["game_name"] for round_ in line.rounds().values()} == {"Book"}
    assert len(line.sent["canonical.games"]) == 1
    assert line.tally()["accepted"] == 41


def test_gameball_brings_an_unknown_player_into_being_once() -> None:
    line = Line()
    body = {
        "playerUniqueId": "p-9",
        "email": "p@example.com",
        "events": {"visit": {}, "buy": {"price": 3}},
    }
    merging = GAMEBALL._replace(merges_channels=True, idempotency_key="k")
    line.run(body, merging)
    line.run(body, merging._replace(batch_id="retry", received_at=merging.received_at + 1))
    assert line.tally() == {"received": 4, "accepted": 2, "duplicate": 2, "conflict": 0, "rejected": 0}
    [derived] = line.sent["canonical.players"]
    assert (derived["player_id"], derived["email"]) == ("p-9", "p@example.com")


def test_gameball_without_an_idempotency_key_counts_every_request() -> None:
    line = Line()
    body = {"playerUniqueId": "p-9", "events": {"visit": {}}}
    line.run(body, GAMEBALL._replace(batch_id="one"))
    line.run(body, GAMEBALL._replace(batch_id="two"))
    assert line.tally()["accepted"] == 2


def test_events_of_a_tenant_without_campaigns_are_stored_and_do_not_count() -> None:
    line = Line()
    line.run([bet("b")])
    line.run([win("w", 3)], NATIVE._replace(counts=False))
    assert [sent["counts"] for sent in line.sent["canonical.game-transactions"]] == [True, False]
    assert line.rounds()["r-1"]["counts"] is False


def test_an_invalid_item_takes_no_neighbour_down_and_keeps_its_bytes() -> None:
    line = Line()
    line.run(b'[{"event":"login","data":{"x": 1.50}}, ' + json.dumps(bet("b")).encode() + b"]")
    assert line.tally() == {"received": 2, "accepted": 1, "duplicate": 0, "conflict": 0, "rejected": 1}
    [reject] = line.sent["rejects"]
    assert bytes.fromhex(reject["payload"]) == b'{"event":"login","data":{"x": 1.50}}'
    assert [error["pointer"] for error in reject["errors"]] == [
        "/0/data/unique_id",
        "/0/data/timestamp",
        "/0/data/player_id",
    ]


def test_tenants_share_ids_players_games_and_rounds_and_nothing_else() -> None:
    line = Line(1)
    player = {"unique_id": "u", "timestamp": "2026-03-14T12:00:00Z", "player_id": "p-1"}
    for tenant, country, amount in (("acme", "FI", 2), ("zinc", "MT", 3), ("acme|p-1", "SE", 5)):
        batch = NATIVE._replace(tenant=tenant)
        line.run([{"event": "player", "data": player | {"country": country}}], batch)
        line.run([bet("x", amount)], batch)
    assert line.tally()["accepted"] == 6
    found = {
        (sent["tenant"], int(Decimal(sent["bet_amount"])), sent["player_country"], sent["revision"])
        for sent in line.sent["rounds"]
    }
    assert found == {("acme", 2, "FI", 1), ("zinc", 3, "MT", 1), ("acme|p-1", 5, "SE", 1)}


def test_items_of_an_erased_player_are_refused_without_a_payload_and_others_count() -> None:
    line = Line(partitions=1)
    line.run([bet("before", player_id="p-1")])
    line.states[0].erased.add(erased_mark("acme|p-1"))
    line.run([bet("after", player_id="p-1"), bet("other", player_id="p-2"), bet("before")])
    assert line.tally() == {"received": 4, "accepted": 2, "duplicate": 0, "conflict": 2, "rejected": 0}
    refused = line.sent["rejects"]
    assert [(each["code"], each["position"], each["payload"]) for each in refused] == [
        ("erased_player", 0, ""),
        ("erased_player", 2, ""),
    ]
    assert line.rounds()["r-1"]["player_id"] == "p-2"
