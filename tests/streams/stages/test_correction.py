"""Corrections: an accepted item is replaced once, whatever is repeated before and after."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.event import CORRECTION_PREFIX
from tests.line import NATIVE, Line, bet, casino, win

FASTTRACK = NATIVE._replace(source="fasttrack")


def correction(number: int = 1, source: str = "native") -> Any:
    return NATIVE._replace(
        batch_id=f"{CORRECTION_PREFIX}{number}", source=source, received_at=NATIVE.received_at + number
    )


def deposit(event_id: str, amount: float, **more: Any) -> dict[str, Any]:
    data = {
        "unique_id": event_id,
        "timestamp": "2026-03-14T12:00:00Z",
        "player_id": "p-1",
        "amount": amount,
        "currency": "EUR",
        "method": "card",
    }
    return {"event": "deposit", "data": data | more}


def newest(line: Line, topic: str) -> dict[str, dict[str, Any]]:
    """What ClickHouse shows: of each id the event that was written last."""
    return {event["event_id"]: event for event in line.sent[topic]}


def codes(line: Line) -> list[str]:
    return [reject["code"] for reject in line.sent["rejects"]]


def test_a_bet_is_replaced_in_its_round_and_on_its_topic_and_its_retry_is_a_duplicate() -> None:
    line, wrong, right = Line(), bet("b-1", 10, is_bonus=True), bet("b-1", 12)
    line.run([wrong, bet("b-2", 5), win("w-1", 3)])
    line.run([right])
    assert codes(line) == ["id_conflict"]
    line.run([wrong, right], correction())
    [found] = line.rounds().values()
    assert (found["bet_amount"], found["bet_bonus_amount"], found["bet_count"]) == (
        *("17.000000000000000000", "0.000000000000000000"),
        2,
    )
    event = newest(line, "canonical.game-transactions")["b-1"]
    assert event["amount"] == "12.000000000000000000"
    assert event["batch_id"] == "correction-1"
    before = line.tally()
    assert (before["accepted"], before["duplicate"], before["conflict"]) == (3, 2, 1)
    line.run([right])
    line.run([wrong])
    after = line.tally()
    assert (after["duplicate"], after["conflict"]) == (3, 2)


def test_a_correction_that_arrives_again_also_in_the_same_chunk_changes_nothing() -> None:
    line, wrong, right = Line(), bet("b-1", 10), bet("b-1", 12)
    line.run([wrong])
    for _ in range(2):
        line.post([wrong, right], correction())
        line.post([wrong, right], correction())
        line.settle()
    assert len(line.sent["canonical.game-transactions"]) == 2
    assert line.rounds()["r-1"]["bet_amount"] == "12.000000000000000000"
    assert codes(line) == []
    assert line.tally()["duplicate"] == 8


def test_a_correction_of_the_same_chunk_sees_what_is_accepted_before_it() -> None:
    line, wrong, right = Line(), win("w-1", 10), win("w-1", 2)
    line.post([wrong])
    line.post([wrong, right], correction())
    line.post([right])
    line.settle()
    found = line.rounds()["r-1"]
    assert (found["win_amount"], found["largest_win_amount"]) == ("2.000000000000000000",) * 2
    assert line.tally() == {"received": 4, "accepted": 1, "duplicate": 3, "conflict": 0, "rejected": 0}


def test_a_payment_a_sports_bet_and_a_login_may_be_corrected_in_every_field() -> None:
    line = Line()
    wrong, right = deposit("d-1", 10), deposit("d-1", 9.5, method="bank", currency="SEK")
    line.run([wrong])
    line.run([wrong, right], correction())
    [found] = newest(line, "canonical.payments").values()
    assert (found["amount"], found["method"]) == ("9.500000000000000000", "bank")
    assert codes(line) == []


def test_an_item_of_a_bet_and_a_win_is_corrected_in_both_and_cannot_lose_its_win() -> None:
    def item(stake: float, win: float) -> dict[str, Any]:
        data = {
            "user_id": "p-1", "timestamp": "2026-03-14T12:00:00Z", "unique_id": "r-1",
            "game_id": "g-1", "user_currency": "EUR", "bonus_bet_user": 0, "total_bet_user": stake,
            "bonus_win_user": 0, "total_win_user": win,
        }  # fmt: skip
        return {"event": "realtime-gameround", "data": data}

    line, marked = Line(), correction(source="fasttrack")
    line.run([item(1, 2)], FASTTRACK)
    line.run([item(1, 2), item(3, 5)], marked)
    found = line.rounds()["r-1"]
    names = "bet_amount", "win_amount", "largest_win_amount"
    assert [float(found[name]) for name in names] == [3, 5, 5]
    assert (found["bet_count"], found["win_count"]) == (1, 1)
    events = {event["type"]: event["amount"] for event in line.sent["canonical.game-transactions"]}
    assert {kind: float(amount) for kind, amount in events.items()} == {"bet": 3, "win": 5}
    line.run([item(3, 5), item(3, 0)], marked)
    assert codes(line) == ["not_correctable"]


@pytest.mark.parametrize(
    ("wrong", "right", "code"),
    [
        (bet("b-1"), bet("b-1", round_id="r-2"), "not_correctable"),
        (bet("b-1"), bet("b-1", game_id="g-2"), "not_correctable"),
        (bet("b-1"), bet("b-1", currency="SEK"), "not_correctable"),
        (bet("b-1"), win("b-1"), "not_correctable"),
        (bet("b-1"), bet("b-1", timestamp="2026-03-14T12:00:01Z"), "not_correctable"),
        (win("w-1", 9), win("w-1", 7), "largest_win_unknown"),
    ],
)
def test_what_a_sum_cannot_take_back_is_refused_and_the_accepted_item_stays(
    wrong: Any, right: Any, code: str
) -> None:
    line = Line()
    line.run([wrong, win("w-0", 8)])
    before = line.rounds()
    line.run([wrong, right], correction())
    assert codes(line) == [code]
    assert line.rounds() == before
    line.run([wrong])
    assert codes(line) == [code]


def test_a_correction_of_what_is_not_accepted_or_not_any_more_is_refused() -> None:
    line = Line()
    line.run([bet("b-1", 1), bet("b-2", 2)], correction())
    line.run([bet("b-1", 1), bet("b-1", 2)], correction(2))
    line.run([bet("b-1", 3)])
    line.run([bet("b-1", 1), bet("b-1", 2)], correction(3))
    line.run([bet("b-1", 3), bet("b-1", 4), bet("b-1", 5)], correction(4))
    assert (
        codes(line) == ["not_correctable"] * 2 + ["correction_outdated"] * 4 + ["not_correctable"] * 3
    )
    assert line.rounds()["r-1"]["bet_amount"] == "3.000000000000000000"


def test_a_player_is_not_corrected_and_a_game_teaches_no_partition() -> None:
    line = Line()

    def named(event: str, subject: str, name: str) -> dict[str, Any]:
        return {
            "event": event,
            "data": {
                "unique_id": "u-1", "timestamp": "2026-03-14T12:00:00Z", f"{event}_id": subject,
                "username" if event == "player" else "name": name,
            },
        }  # fmt: skip

    for event in ("player", "game"):
        wrong, right = named(event, "x-1", "old"), named(event, "x-1", "new")
        line.run([wrong])
        line.run([wrong, right], correction())
    assert codes(line) == ["not_correctable"] * 4
    line.run([bet("b-1", game_id="x-1", player_id="x-1")])
    line.run([bet("b-2", game_id="x-1", player_id="p-2", round_id="r-2")])
    assert {found["game_name"] for found in line.rounds().values()} == {"old"}


AMOUNTS = st.integers(0, 5)
OTHERS = st.lists(
    st.tuples(st.sampled_from(["bet", "win", "loss", "rollbackwin"]), AMOUNTS), max_size=4
)


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from(["bet", "win", "rollbackbet"]),
    amounts=st.tuples(AMOUNTS, AMOUNTS),
    others=OTHERS,
    data=st.data(),
)
def test_any_order_of_both_items_others_and_repeats_gives_what_the_right_item_alone_gives(
    kind: str, amounts: tuple[int, int], others: list[tuple[str, int]], data: st.DataObject
) -> None:
    wrong, right = (casino(kind, "e-1", amount) for amount in amounts)
    more = [casino(name, f"o-{n}", amount) for n, (name, amount) in enumerate(others)]
    pair = [wrong, right], correction(source="fasttrack")
    posts: list[Any] = data.draw(st.permutations([*(([item], FASTTRACK) for item in more)]))
    cut = data.draw(st.integers(0, len(posts)))
    first = data.draw(st.permutations([([wrong], FASTTRACK), ([right], FASTTRACK)]))
    late = [([wrong], FASTTRACK), ([right], FASTTRACK), pair]
    repeats = data.draw(st.lists(st.sampled_from(late), max_size=4))
    line = Line()
    for body, batch in [
        *posts[:cut],
        *first,
        pair,
        *data.draw(st.permutations([*posts[cut:], *repeats])),
    ]:
        line.post(body, batch)
        if data.draw(st.booleans()):
            line.settle()
    line.settle()

    refused = "largest_win_unknown" in codes(line)
    amount = newest(line, "canonical.game-transactions")["e-1"]["amount"]
    stays = wrong if refused and float(amount) == amounts[0] else right
    expected = Line()
    for item in [stays, *more]:
        expected.run([item], FASTTRACK)
    ignored = {"revision", "segment", "last_received_at"}
    assert _without(line.rounds(), ignored) == _without(expected.rounds(), ignored)
    ignored = {"batch_id", "position", "received_at"}
    topic = "canonical.game-transactions"
    assert _without(newest(line, topic), ignored) == _without(newest(expected, topic), ignored)
    assert line.tally()["accepted"] == 1 + len(more)


def _without(found: dict[str, dict[str, Any]], fields: set[str]) -> dict[str, dict[str, Any]]:
    return {
        key: {name: value for name, value in record.items() if name not in fields}
        for key, record in found.items()
    }
