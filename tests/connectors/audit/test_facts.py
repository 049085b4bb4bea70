"""The comparison of an audit: each planted difference is found and named, and nothing else."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal

import pytest

from connectors.audit.facts import (
    Amount,
    Counts,
    Erased,
    Facts,
    Identity,
    Place,
    Posted,
    compare,
    totals,
)
from streams.core.event import Kind
from streams.core.identity import erased_mark, key_of


def identity(event_id: str) -> Identity:
    return Identity(Kind.PAYMENT, "acme", "native", "deposit", event_id, "p-1")


EURO = Amount(1, Decimal("1.50"))
A, B, C = Place("one", 0), Place("one", 1), Place("two", 0)


def whole() -> Facts:
    """Two accepted items and a repeated one, in all places."""
    stored = {identity("a"): {A: EURO}, identity("b"): {B: EURO}}
    outcomes = {"one": Counts(3, 2, 0, 0, 1), "two": Counts(1, 0, 1, 0, 0)}
    return Facts(
        posted={"one": Posted("acme", 0, 7, 3, 1), "two": Posted("acme", 1, 8, 1, 0)},
        items={identity("a"): {A: EURO, C: EURO}, identity("b"): {B: EURO}},
        outcomes=outcomes,
        stored_outcomes=dict(outcomes),
        topics=deepcopy(stored),
        stored=deepcopy(stored),
    )


def lose_on_topics(facts: Facts) -> None:
    del facts.topics[identity("b")], facts.stored[identity("b")]


def lose_in_clickhouse(facts: Facts) -> None:
    del facts.stored[identity("b")]


def count_twice(facts: Facts) -> None:
    for events in (facts.topics, facts.stored):
        events[identity("a")][C] = EURO


def repeat_on_topic(facts: Facts) -> None:
    facts.topics[identity("a")][A] = EURO + EURO


def change_amount_on_topics(facts: Facts) -> None:
    facts.topics[identity("a")][A] = facts.stored[identity("a")][A] = Amount(1, Decimal("1.51"))


def change_amount_in_clickhouse(facts: Facts) -> None:
    facts.stored[identity("a")][A] = Amount(1, Decimal("1.500000000000000001"))


def invent(facts: Facts) -> None:
    facts.topics[identity("x")] = facts.stored[identity("x")] = {Place("zero", 0): EURO}


def insert_only_in_clickhouse(facts: Facts) -> None:
    facts.stored[identity("x")] = {Place("zero", 0): EURO}


def lose_outcome(facts: Facts) -> None:
    del facts.outcomes["two"]


def leave_unsettled(facts: Facts) -> None:
    facts.outcomes["two"] = facts.stored_outcomes["two"] = Counts(1, 0, 0, 0, 0)


def refuse_more(facts: Facts) -> None:
    facts.outcomes["one"] = facts.stored_outcomes["one"] = Counts(3, 1, 0, 0, 2)


def lose_stored_outcome(facts: Facts) -> None:
    del facts.stored_outcomes["one"]


@pytest.mark.parametrize(
    ("plant", "codes"),
    [
        (lambda facts: None, []),
        (lose_on_topics, ["accepted_differs", "missing"]),
        (lose_in_clickhouse, ["not_stored"]),
        (count_twice, ["accepted_differs", "twice"]),
        (repeat_on_topic, ["twice"]),
        (change_amount_on_topics, ["amount_differs"]),
        (change_amount_in_clickhouse, ["amount_differs"]),
        (invent, ["not_posted"]),
        (insert_only_in_clickhouse, ["only_stored"]),
        (lose_outcome, ["no_outcome"]),
        (leave_unsettled, ["unsettled"]),
        (refuse_more, ["accepted_differs", "outcome_differs"]),
        (lose_stored_outcome, ["outcome_not_stored"]),
    ],
)
def test_each_difference_is_found(plant: Callable[[Facts], None], codes: list[str]) -> None:
    facts = whole()
    plant(facts)
    assert sorted(finding.code for finding in compare(facts)) == codes


def test_an_item_that_was_accepted_earlier_or_refused_by_process_is_not_missing() -> None:
    facts = whole()
    lose_on_topics(facts)
    facts.earlier.add(identity("b"))
    assert "missing" not in {finding.code for finding in compare(facts)}
    facts.earlier.clear()
    facts.refused.add(B)
    assert "missing" not in {finding.code for finding in compare(facts)}


def test_a_finding_names_the_item_and_its_request() -> None:
    facts = whole()
    lose_in_clickhouse(facts)
    [finding] = compare(facts)
    assert finding.subject == "native deposit b of p-1 (payment) in one[1]"


def test_totals_are_the_accounts_of_the_period() -> None:
    assert totals(whole())["acme"] == {
        "received": 4, "accepted": 2, "duplicate": 1, "conflict": 0, "rejected": 1,
    }  # fmt: skip


@pytest.mark.parametrize("received_in_period", [True, False])
def test_what_a_correction_has_replaced_is_no_finding(received_in_period: bool) -> None:
    facts = whole()
    place = Place("correction-1", 1)
    more = Amount(1, Decimal("1.60"))
    facts.corrected[identity("a")] = place
    del facts.stored[identity("a")]
    if received_in_period:
        facts.posted["correction-1"] = Posted("acme", 0, 9, 2, 0)
        facts.items[identity("a")] |= {place._replace(position=0): EURO, place: more}
        facts.outcomes["correction-1"] = facts.stored_outcomes["correction-1"] = Counts(2, 0, 2, 0, 0)
        facts.topics[identity("a")][place] = more
        facts.stored[identity("a")] = {place: more}
    assert list(compare(facts)) == []
    if received_in_period:
        facts.stored[identity("a")] = {A: EURO}
        assert {found.code for found in compare(facts)} == {"not_stored", "only_stored"}


def test_an_erased_player_is_compared_by_neither_id_nor_pseudonym() -> None:
    facts = whole()
    facts.stored = {one._replace(subject="erased-1"): places for one, places in facts.stored.items()}
    assert {finding.code for finding in compare(facts)} == {"not_stored", "only_stored"}
    mark = erased_mark(key_of("acme", "p-1")).hex()
    for tenant, expected in (("acme", set()), ("other", {"not_stored", "only_stored"})):
        found = Erased(frozenset({(tenant, mark)}), frozenset({(tenant, "erased-1")}))
        named = replace(
            facts,
            items=found.names(facts.items),
            topics=found.names(facts.topics),
            stored=found.names(facts.stored),
        )
        assert {finding.code for finding in compare(named)} == expected
