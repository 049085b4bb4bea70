"""The last step of a campaign's SQL: ranks, prizes, and what the budget leaves of them."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import accumulate
from typing import NamedTuple

from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.model.forms import (
    Challenge,
    DepositBonus,
    Item,
    Leaderboard,
    Mission,
    Pool,
    Step,
)
from connectors.campaigns.sql.expressions import cents, money, product
from connectors.clickhouse.literals import quoted

_BY_SCORE = "score DESC, reached_at, person_id"


class _Due(NamedTuple):
    """Expressions: the rank, what is due before the budget, the text and cost of items, and the order
    in which the budget is spent. ``among`` begins each window; ``columns`` are needed by the others.
    """

    rank: str
    amount: str
    items: str
    items_cost: str
    order: str
    among: str
    columns: str = "*"


def ranked(campaign: Campaign, each: str = "") -> str:
    """Rank, prize, and what the budget leaves of it; ``each``: among the rows that are equal in this
    column.
    """
    due = _due(campaign, f"PARTITION BY {each} " if each else "")
    spent = (
        f"sum(due + due_cost) OVER ({due.among}ORDER BY {due.order} "
        "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    )
    fits = "true" if campaign.budget is None else f"{spent} <= {money(campaign.budget)}"
    return f"""
SELECT
    *,
    {fits} AS fits,
    if(fits, due, {money(0)}) AS prize,
    due - prize AS unpaid,
    if(fits, due_items, '') AS items,
    if(fits, due_cost, {money(0)}) AS items_cost
FROM
(
    SELECT *, {due.amount} AS due, {due.items} AS due_items, {due.items_cost} AS due_cost
    FROM
    (
        SELECT {due.columns}, {due.rank} AS rank
        FROM standing
    )
)"""


def has_items(campaign: Campaign) -> bool:
    """Whether anything is won beside money."""
    form = campaign.form
    if isinstance(form, Leaderboard):
        return any(prize.item for prize in form.prizes)
    return isinstance(form, Challenge | Mission) and any(step.item for step in form.steps)


def _due(campaign: Campaign, among: str) -> _Due:
    form = campaign.form
    rank, order = f"row_number() OVER ({among}ORDER BY {_BY_SCORE})", "paid_at, person_id"
    if isinstance(form, Leaderboard):
        return _by_rank(form, among)
    if isinstance(form, Challenge | Mission):
        return _Due(rank, *_by_step(form.steps), order, among)
    assert isinstance(form, DepositBonus)
    share = f"toDecimal128(toDecimal256(toDecimal256(score, 18) * {money(form.percent / 100)}, 2), 18)"
    return _Due(rank, f"least({money(form.cap)}, {share})", "''", money(0), order, among)


def _by_rank(form: Leaderboard, among: str) -> _Due:
    level, order = ("stage, score", "stage DESC, ") if form.stages else ("score", "")
    row = f"row_number() OVER ({among}ORDER BY {order}{_BY_SCORE})"
    rank, amount = row, _prize_of("rank", form)
    columns = "*" if form.pool is None else f"*, {_pool(form.pool, among)} AS pool"
    if form.ties != "earliest":
        rank = f"rank() OVER ({among}ORDER BY {order}score DESC)"
    if form.ties == "split":
        columns += f", {row} AS position"
        equals = f"{among.strip()}, {level}" if among else f"PARTITION BY {level}"
        pot = f"sum({_prize_of('position', form)}) OVER ({equals})"
        amount = cents(f"{pot} / count() OVER ({equals})")
    items = [(_on(prize.span()), prize.item) for prize in form.prizes if prize.item]
    return _Due(
        rank,
        amount,
        _case([(when, quoted(item.text)) for when, item in items], "''"),
        _case([(when, money(item.worth)) for when, item in items], money(0)),
        "rank, person_id",
        among,
        columns,
    )


def _by_step(steps: Sequence[Step]) -> tuple[str, str, str]:
    """The prizes of all steps that were reached, by ``step``."""
    when = [f"step = {number}" for number in range(1, len(steps) + 1)]
    given: list[list[Item]] = [[step.item] if step.item else [] for step in steps]
    items = list(accumulate(given, lambda before, more: [*before, *more]))
    amounts = accumulate(step.prize for step in steps)
    texts = [quoted("; ".join(item.text for item in each)) for each in items]
    costs = [money(sum((item.worth for item in each), Decimal(0))) for each in items]
    has_items = any(given)
    return (
        _case(list(zip(when, map(money, amounts), strict=True)), money(0)),
        _case(list(zip(when, texts, strict=True)) if has_items else [], "''"),
        _case(list(zip(when, costs, strict=True)) if has_items else [], money(0)),
    )


def _prize_of(rank: str, form: Leaderboard) -> str:
    cases = []
    for prize in form.prizes:
        amount = money(prize.amount)
        if prize.share is not None:
            amount = cents(product("pool", money(prize.share / 100)))
        cases.append((_on(prize.span(), rank), amount))
    return _case(cases, money(0))


def _pool(pool: Pool, among: str) -> str:
    """What is in the pool, by the amounts of everyone in the standings."""
    staked = f"sum(turnover) OVER ({among.strip()})"
    size = f"{money(pool.base)} + {product(staked, money(pool.percent / 100))}"
    return size if pool.cap is None else f"least({money(pool.cap)}, {size})"


def _on(span: tuple[int, int], rank: str = "rank") -> str:
    first, last = span
    return f"{rank} BETWEEN {first} AND {last}"


def _case(cases: Sequence[tuple[str, str]], otherwise: str) -> str:
    listed = "".join(f"{when}, {then}, " for when, then in cases)
    return f"multiIf({listed}{otherwise})" if cases else otherwise
