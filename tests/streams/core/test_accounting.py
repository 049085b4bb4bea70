"""The sums of outcomes."""

from typing import Any

from streams.core.accounting import Accounts


def outcome(stage: str, offset: int, number: int, **counts: int) -> dict[str, Any]:
    zeros = dict.fromkeys(("received", "accepted", "duplicate", "conflict", "rejected"), 0)
    return {
        "outcome_id": f"0-{offset}-{stage}-0-{number}",
        "tenant": "acme",
        "raw_partition": 0,
        "raw_offset": offset,
        "stage": stage,
        **zeros,
        **counts,
    }


def test_what_translate_writes_again_counts_once_and_process_counts_always() -> None:
    #   translate 0, 1 | crash | translate 0, 1, 2
    accounts = Accounts()
    for offset in (0, 1, 0, 1, 2):
        for number in (0, 1):
            accounts.add(outcome("translate", offset, number, received=3, rejected=1))
    assert accounts.by_tenant["acme"]["received"] == 18
    assert accounts.unsettled() == {"acme": 12}
    for part in range(6):
        accounts.add(outcome("process", 2, part, accepted=1, duplicate=1))
    assert accounts.unsettled() == {}
