"""Computes the expected results of the queries of docs/analysts.md from the posts, in plain Python."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from connectors.demo.day import GAMEBALL, Post
from tests.connectors.campaigns.oracle import Books, Entry, books, round_of
from tests.oracle import expect, spoilt

Rows = list[tuple[Any, ...]]


def answers(posts: list[Post]) -> list[Rows]:
    """The rows of each query, in the order of the page."""
    by_tenant = dict(sorted(books(posts).items()))
    return [
        _revenue(by_tenant),
        _top_games(by_tenant),
        _wagered(by_tenant),
        _accounting(posts),
        _deposits(by_tenant),
        _refused(posts),
        _custom_events(posts),
    ]


def _rounds(tenant: Books) -> list[tuple[str, Entry]]:
    return [
        (player, round_of(round_id, plays, real=False))
        for (player, round_id), plays in tenant.plays.items()
    ]


def _value(known: dict[str, Any], name: str) -> Any:
    return known[name][1] if name in known else None


def _revenue(by_tenant: dict[str, Books]) -> Rows:
    rows: Rows = []
    for name, tenant in by_tenant.items():
        rounds = _rounds(tenant)
        for currency in sorted({entry.currency for _, entry in rounds}):
            mine = [(player, entry) for player, entry in rounds if entry.currency == currency]
            stake = sum(entry.amount for _, entry in mine)
            payout = sum(entry.payout for _, entry in mine)
            rows.append(
                (
                    name,
                    currency,
                    len(mine),
                    len({player for player, _ in mine}),
                    stake,
                    stake - payout,
                    round(float(payout) / float(stake) * 100, 1),
                )
            )
    return rows


def _top_games(by_tenant: dict[str, Books]) -> Rows:
    rows: Rows = []
    for name, tenant in by_tenant.items():
        found: dict[str, list[Entry]] = defaultdict(list)
        for _, entry in _rounds(tenant):
            found[entry.game].append(entry)
        totals = []
        for game, entries in found.items():
            stake = sum(entry.amount for entry in entries)
            ggr = stake - sum(entry.payout for entry in entries)
            known = tenant.games[game]
            facts = _value(known, "name"), _value(known, "provider"), len(entries), stake, ggr
            totals.append((-stake, game, facts))
        rows += [(name, game, *facts) for _, game, facts in sorted(totals)[:3]]
    return rows


def _wagered(by_tenant: dict[str, Books]) -> Rows:
    rows: Rows = []
    for name, tenant in by_tenant.items():
        wagered: Counter[str] = Counter()
        for player, entry in _rounds(tenant):
            wagered[player] += entry.amount - entry.bonus  # type: ignore[assignment]
        best = sorted((-amount, player) for player, amount in wagered.items())[:3]
        for rank, (amount, player) in enumerate(best, 1):
            country = _value(tenant.players[player], "country")
            rows.append((name, rank, player, country, -amount))
    return rows


def _accounting(posts: list[Post]) -> Rows:
    due = expect(posts)
    accepted = Counter(tenant for tenant, *_ in due.events)
    return [
        (
            tenant,
            due.received[tenant],
            accepted[tenant],
            due.received[tenant] - accepted[tenant] - due.rejected[tenant],
            0,
            due.rejected[tenant],
            0,
        )
        for tenant in sorted(due.received)
    ]


def _deposits(by_tenant: dict[str, Books]) -> Rows:
    rows: Rows = []
    for name, tenant in by_tenant.items():
        found: dict[tuple[str, str, str], list[Decimal]] = defaultdict(list)
        for (player, _), states in tenant.deposits.items():
            for state in states:
                country = _value(tenant.players[player], "country") or ""
                day = f"{state['key'][0]:%Y-%m-%d}"
                found[day, country, state["currency"]].append(Decimal(state["amount"]))
        rows += [
            (name, day, country, currency, len(amounts), sum(amounts))
            for (day, country, currency), amounts in sorted(found.items())
        ]
    return rows


def _refused(posts: Iterable[Post]) -> Rows:
    found: dict[str, list[str]] = defaultdict(list)
    for post in posts:
        document = json.loads(post.body)
        items = document.get("items", []) if isinstance(document, dict) else document
        for item in items:
            for name in spoilt(item["data"]):
                what = "a date and time in a string" if name == "timestamp" else "a string"
                found[post.tenant].append(f"{name} must be {what}")
    return [(tenant, "wrong_type", len(texts), min(texts)) for tenant, texts in sorted(found.items())]


def _custom_events(posts: Iterable[Post]) -> Rows:
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    distinct = {(post.tenant, post.idempotency_key): post for post in posts if post.path == GAMEBALL}
    for post in distinct.values():
        for name, facts in json.loads(post.body)["events"].items():
            values[post.tenant, name].append(float(facts.get("value", 0)))
    return [
        (tenant, name, len(found), sum(found) / len(found))
        for (tenant, name), found in sorted(values.items())
    ]
