"""The yardstick job: seeded bodies of native bets and wins, and the summary that a correct run has.

A body has 500 ``gameround`` items. About 45 % of the rounds are won; there are 3 tenants with 5,000
players each; 5 % of the items are sent again; 0.2 % are invalid.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

TENANTS = ("alpha", "beta", "gamma")
PLAYERS = 5_000
BATCH_ITEMS = 500
WARM_UP_SHARE = 0.2
"""Of a measured run: the events that come first and are in no figure."""

WON_SHARE = 0.45
RESENT_SHARE = 0.05
INVALID_SHARE = 0.002


@dataclass
class Summary:
    """The sums that the outcomes and the newest rounds must have."""

    received: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    rounds: int = 0
    staked: Decimal = Decimal(0)
    paid: Decimal = Decimal(0)


def bodies(
    events: float, seed: int = 1, batch_items: int = BATCH_ITEMS
) -> Iterator[tuple[str, bytes, Summary]]:
    """Yields batches of (tenant, body), each with the summary of all batches so far, until they have
    ``events`` items.
    """
    rng = random.Random(seed)
    summary = Summary()
    pending: dict[str, list[tuple[str, Decimal]]] = {tenant: [] for tenant in TENANTS}
    sent: dict[str, list[str]] = {tenant: [] for tenant in TENANTS}
    number = 0
    while summary.received < events:
        tenant = TENANTS[number % len(TENANTS)]
        number += 1
        items: list[str] = []
        known = sent[tenant]
        while len(items) < batch_items:
            chance = rng.random()
            if chance < INVALID_SHARE:
                items.append(_item(f"bad-{number}-{len(items)}", "p", "r", '"1.00"', False))
                summary.rejected += 1
            elif chance < INVALID_SHARE + RESENT_SHARE and known:
                items.append(rng.choice(known))
                summary.duplicate += 1
            elif pending[tenant] and rng.random() < 0.31:
                item, won = pending[tenant].pop(0)
                summary.paid += won
                items.append(item)
                known.append(item)
                summary.accepted += 1
            else:
                items.append(_bet(rng, tenant, summary, pending[tenant]))
                known.append(items[-1])
                summary.accepted += 1
        if len(known) > 50_000:
            del known[:25_000]
        summary.received += len(items)
        yield tenant, ("[" + ",".join(items) + "]").encode(), summary


def _bet(rng: random.Random, tenant: str, summary: Summary, pending: list[tuple[str, Decimal]]) -> str:
    summary.rounds += 1
    round_id = f"{tenant}-{summary.rounds}"
    player = f"player-{rng.randrange(PLAYERS)}"
    cents = rng.choice((20, 50, 100, 125, 250))
    summary.staked += Decimal(cents) / 100
    if rng.random() < WON_SHARE:
        won = cents * rng.randrange(1, 400) // 100
        win = _item(f"{round_id}-w", player, round_id, f"{won / 100:.2f}", True)
        pending.append((win, Decimal(won) / 100))
    return _item(f"{round_id}-b", player, round_id, f"{cents / 100:.2f}", False)


def _item(unique_id: str, player: str, round_id: str, amount: str, is_win: bool) -> str:
    return (
        f'{{"event":"gameround","data":{{"unique_id":"{unique_id}",'
        f'"timestamp":"2026-03-14T12:00:00.000Z","player_id":"{player}","game_id":"game-{len(unique_id)}",'
        f'"round_id":"{round_id}","amount":{amount},"currency":"EUR",'
        f'"is_win":{json.dumps(is_win)},"is_bonus":false}}}}'
    )
