"""The time of a round's first bet, by which campaigns date the round."""

from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streams.core.event import Batch
from streams.core.round import Round, Transaction, fold, of_state, opened_by, to_state

BATCH = Batch("acme", "native", "b-1", 1_000, True, False, None)


def transaction(kind: str, at: int) -> Transaction:
    return Transaction("gameround", at, kind, "p-1", "r-1", "g-1", "EUR", b"\x01", b"\x00")


def folded(events: Sequence[Transaction]) -> Round:
    state = opened_by(BATCH, events[0], 0)
    for event in events:
        state = of_state(to_state(state))
        fold(state, BATCH, event)
    return state


EVENTS = st.lists(
    st.builds(
        transaction,
        st.sampled_from(["bet", "win", "loss", "rollback_bet", "rollback_win"]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=6,
)


@given(EVENTS)
def test_the_first_bet_is_the_earliest_by_event_time_in_whatever_order_they_arrive(
    events: list[Transaction],
) -> None:
    bets = [event.occurred_at for event in events if event.type == "bet"]
    assert folded(events).first_bet_at == min(bets, default=None)


@given(EVENTS, EVENTS)
def test_the_first_bet_of_a_state_that_had_bets_and_no_time_stays_unknown(
    before: list[Transaction], after: list[Transaction]
) -> None:
    #   0.1.0 folds `before` ---- this release goes on with `after`
    fields: list[object] = msgspec.msgpack.decode(to_state(folded(before)))
    state = of_state(msgspec.msgpack.encode(fields[:27]))
    assert state.first_bet_at is None
    for event in after:
        fold(state, BATCH, event)
    known = all(event.type != "bet" for event in before)
    bets = [event.occurred_at for event in after if event.type == "bet"]
    assert state.first_bet_at == (min(bets, default=None) if known else None)


def test_a_worker_of_0_1_0_reads_a_state_with_the_time_of_the_first_bet() -> None:
    older = msgspec.defstruct(
        "Round",
        [(name, object) for name in Round.__struct_fields__[:27]],
        array_like=True,
    )
    state = folded([transaction("bet", 2)])
    read = msgspec.msgpack.decode(to_state(state), type=older)
    assert msgspec.structs.astuple(read) == msgspec.structs.astuple(state)[:27]
