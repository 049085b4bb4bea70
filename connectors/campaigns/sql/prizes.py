"""The last steps of a campaign's SQL: ranks, prizes, and what the budget leaves of them.

The amounts of several campaigns in one query are constants beside its steps, by the number of the
campaign, so that one step gives the prizes of all that differ in amounts alone.
"""

from collections.abc import Callable, Iterator, Sequence
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
from connectors.campaigns.sql.expressions import cents, money, plain, product
from connectors.campaigns.sql.steps import Steps
from connectors.clickhouse.literals import quoted

WON = "won"
"""The step with the prizes by position."""

_BY_SCORE = "score DESC, reached_at, person_id"


class _Won(NamedTuple):
    """What a player wins on each position from ``first`` to ``last``; ``share``: of the pool, 1 for all
    of it.
    """

    first: int
    last: int
    amount: Decimal
    share: Decimal = Decimal(0)
    items: str = ""
    items_cost: Decimal = Decimal(0)


_COLUMNS = (
    "number Int32, first UInt64, last UInt64, amount Decimal(38, 18), share Decimal(38, 18), "
    "items_cost Decimal(38, 18), items String"
)


class _Due(NamedTuple):
    """Expressions: the rank, the position in :data:`WON`, '' for a form whose prizes are not won by
    position, what is due before the budget, and the order in which the budget is spent; ``columns`` are
    needed by the others.
    """

    rank: str
    position: str
    amount: str
    order: str
    columns: Sequence[str] = ("*",)


def steps(campaign: Campaign, name: str = "ranked") -> Steps:
    """The steps from ``standing`` to ranks and prizes."""
    table = won([campaign], several=False)
    return [*([(WON, table)] if table else []), (name, ranked(campaign))]


def won(campaigns: Sequence[Campaign], *, several: bool) -> str | None:
    """The prizes by position, and of several campaigns by their number from 1; None if nothing is won
    by position.
    """
    rows = []
    for number, campaign in enumerate(campaigns, 1):
        for each in _won(campaign):
            amounts = [quoted(plain(one)) for one in (each.amount, each.share, each.items_cost)]
            where = f"{number}, {each.first}, {each.last}"
            rows.append(f"({where}, {', '.join(amounts)}, {quoted(each.items)})")
    if not rows:
        return None
    listed = ",\n        ".join(rows)
    by_number = "\n    each.number AS number," if several else ""
    return f"""
SELECT{by_number}
    arrayJoin(range(each.first, each.last + 1)) AS position,
    each.amount AS won_amount,
    each.share AS won_share,
    each.items_cost AS won_items_cost,
    each.items AS won_items
FROM
(
    SELECT arrayJoin(CAST([
        {listed}
    ], 'Array(Tuple({_COLUMNS}))')) AS each
)"""


def ranked(campaign: Campaign, among: Sequence[Campaign] = ()) -> str:
    """Rank, prize, and what the budget leaves of it. ``among``: several campaigns whose rows
    ``standing`` has, by their ``number``; the text is the same for those that differ in amounts alone.
    """
    due = _due(campaign, among)
    columns, joined = [*due.columns, f"{due.rank} AS rank"], ""
    fits, items, cost = "true", "''", money(0)
    if due.position:
        columns.append(f"{due.position} AS position")
        joined = f" AS placed\n    LEFT JOIN {WON} USING ({'number, ' if among else ''}position)"
    if has_items(campaign):
        items, cost = "won_items", "won_items_cost"
    if campaign.budget is not None:
        window = f"{_each(among)}ORDER BY {due.order} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
        fits = f"sum(due + due_cost) OVER ({window}) <= {_said(campaign, among, _budget)}"
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
    SELECT *, {due.amount} AS due, {items} AS due_items, {cost} AS due_cost
    FROM
    (
        SELECT {", ".join(columns)}
        FROM standing
    ){joined}
)"""


def has_items(campaign: Campaign) -> bool:
    """Whether anything is won beside money."""
    return any(each.items for each in _won(campaign))


def _won(campaign: Campaign) -> Iterator[_Won]:
    form = campaign.form
    if isinstance(form, Leaderboard):
        for prize in form.prizes:
            text, worth = (prize.item.text, prize.item.worth) if prize.item else ("", Decimal(0))
            yield _Won(*prize.span(), prize.amount, (prize.share or Decimal(0)) / 100, text, worth)
    elif isinstance(form, Challenge | Mission):
        yield from _by_step(form.steps)


def _by_step(steps: Sequence[Step]) -> Iterator[_Won]:
    """The prizes of all steps that were reached, by the last of them."""
    given: list[list[Item]] = [[step.item] if step.item else [] for step in steps]
    items = accumulate(given, lambda before, more: [*before, *more])
    amounts = accumulate(step.prize for step in steps)
    for number, (amount, won_items) in enumerate(zip(amounts, items, strict=True), 1):
        text = "; ".join(item.text for item in won_items)
        cost = sum((item.worth for item in won_items), Decimal(0))
        yield _Won(number, number, amount, items=text, items_cost=cost)


def _each(among: Sequence[Campaign]) -> str:
    """The beginning of a window over the rows of one campaign."""
    return "PARTITION BY number " if among else ""


def _said(
    campaign: Campaign, among: Sequence[Campaign], amount: Callable[[Campaign], Decimal | None]
) -> str:
    """An amount of the campaign, or that of each of several by its number."""
    if not among:
        return money(amount(campaign) or Decimal(0))
    listed = ", ".join(quoted(plain(amount(each) or Decimal(0))) for each in among)
    return f"CAST([{listed}], 'Array(Decimal(38, 18))')[number]"


def _budget(campaign: Campaign) -> Decimal | None:
    return campaign.budget


def _bonus(campaign: Campaign) -> DepositBonus | None:
    return campaign.form if isinstance(campaign.form, DepositBonus) else None


def _pool(campaign: Campaign) -> Pool | None:
    return campaign.form.pool if isinstance(campaign.form, Leaderboard) else None


def _due(campaign: Campaign, among: Sequence[Campaign]) -> _Due:
    form = campaign.form
    if isinstance(form, Leaderboard):
        return _by_rank(campaign, form, among)
    rank, order = f"row_number() OVER ({_each(among)}ORDER BY {_BY_SCORE})", "paid_at, person_id"
    if isinstance(form, Challenge | Mission):
        return _Due(rank, "step", "won_amount", order)
    part = _said(campaign, among, lambda each: bonus.percent / 100 if (bonus := _bonus(each)) else None)
    cap = _said(campaign, among, lambda each: bonus.cap if (bonus := _bonus(each)) else None)
    share = f"toDecimal128(toDecimal256(toDecimal256(score, 18) * {part}, 2), 18)"
    return _Due(rank, "", f"least({cap}, {share})", order)


def _by_rank(campaign: Campaign, form: Leaderboard, among: Sequence[Campaign]) -> _Due:
    each, columns = _each(among), ["*"]
    level, order = ("stage, score", "stage DESC, ") if form.stages else ("score", "")
    row = f"row_number() OVER ({each}ORDER BY {order}{_BY_SCORE})"
    rank = row if form.ties == "earliest" else f"rank() OVER ({each}ORDER BY {order}score DESC)"
    position, amount = "rank", "won_amount"
    if form.pool is not None:
        columns.append(f"{_in_pool(campaign, form.pool, among)} AS pool")
        amount = f"won_amount + {cents(product('pool', 'won_share'))}"
    if form.ties == "split":
        position, equals = row, f"PARTITION BY {'number, ' if among else ''}{level}"
        amount = cents(f"sum({amount}) OVER ({equals}) / count() OVER ({equals})")
    return _Due(rank, position, amount, "rank, person_id", columns)


def _in_pool(campaign: Campaign, pool: Pool, among: Sequence[Campaign]) -> str:
    """What is in the pool, by the amounts of everyone in the standings."""
    base = _said(campaign, among, lambda each: own.base if (own := _pool(each)) else None)
    part = _said(campaign, among, lambda each: own.percent / 100 if (own := _pool(each)) else None)
    staked = f"sum(turnover) OVER ({_each(among).strip()})"
    size = f"{base} + {product(staked, part)}"
    if pool.cap is None:
        return size
    cap = _said(campaign, among, lambda each: own.cap if (own := _pool(each)) else None)
    return f"least({cap}, {size})"
