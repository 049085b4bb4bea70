"""The steps of a campaign's SQL from entries that count to ranks and prizes; see :mod:`.compiler`."""

from decimal import Decimal

from connectors.campaigns.definition import Campaign
from connectors.campaigns.expressions import any_of, money, one_of, product
from connectors.campaigns.forms import Challenge, DepositBonus, Leaderboard, Mission
from connectors.campaigns.points import Multiplier
from connectors.clickhouse.literals import quoted

_VALUES = {
    "turnover": "amount",
    "rounds": money(1),
    "largest_win": "payout",
    "best_multiplier": "toDecimal128(toDecimal256(payout, 36) / amount, 18)",
    "wins_in_a_row": "if(payout > 0, 1, 0)",
    "sum_of_wins": "payout",
    "net_loss": "amount - payout",
    "deposits": "amount",
    "deposit_count": money(1),
    "login_days": money(1),
    "custom_events": money(1),
    "sports_turnover": "amount",
}
_LARGEST = ("largest_win", "best_multiplier")


def worth(campaign: Campaign) -> str:
    """What each entry that counts is worth."""
    value = _VALUES[campaign.measure]
    zone = campaign.period.time_zone
    for multiplier in campaign.points.multipliers:
        factor = f"if({_applies(multiplier, zone)}, {money(multiplier.times)}, {money(1)})"
        value = product(value, factor)
    if campaign.points.most_an_entry is not None:
        value = f"least({value}, {money(campaign.points.most_an_entry)})"
    return (
        f"SELECT person_id, id, at, payout, {value} AS value, toDate(at, {quoted(zone)}) AS day\n"
        "FROM ranged\nWHERE rule = ''"
    )


def _applies(multiplier: Multiplier, time_zone: str) -> str:
    zone = quoted(time_zone)
    conditions = []
    if multiplier.games:
        conditions.append(one_of("game_id", multiplier.games))
    if multiplier.providers:
        conditions.append(one_of("ifNull(newest_provider, '')", multiplier.providers))
    if multiplier.categories:
        conditions.append(any_of("newest_categories", multiplier.categories))
    if multiplier.minimum_odds is not None:
        conditions.append(f"odds >= {money(multiplier.minimum_odds)}")
    if (days := multiplier.days()) is not None:
        conditions.append(f"toDayOfWeek(at, 0, {zone}) IN ({', '.join(map(str, days))})")
    if (minutes := multiplier.minutes()) is not None:
        start, end = minutes
        now = f"toHour(at, {zone}) * 60 + toMinute(at, {zone})"
        both = "AND" if start < end else "OR"
        conditions.append(f"({now} >= {start} {both} {now} < {end})")
    return " AND ".join(conditions)


def progress(campaign: Campaign) -> str:
    """The score as it stood after each entry."""
    points, in_order = campaign.points, "OVER (PARTITION BY person_id ORDER BY at, id)"
    if campaign.measure == "wins_in_a_row":
        run = "OVER (PARTITION BY person_id, losses ORDER BY at, id)"
        return (
            f"SELECT person_id, id, at, toDecimal128(sum(value) {run}, 18) AS score\n"
            f"FROM\n(\n    SELECT *, countIf(payout <= 0) {in_order} AS losses\n    FROM worth\n)"
        )
    over, source = "max" if campaign.measure in _LARGEST else "sum", "worth"
    if points.most_a_day is not None:
        most = money(points.most_a_day)
        source = f"""(
    SELECT * REPLACE (least({most}, so_far) - least({most}, so_far - value) AS value)
    FROM
    (
        SELECT *, sum(value) OVER (PARTITION BY person_id, day ORDER BY at, id) AS so_far
        FROM worth
    )
)"""
    score = f"{over}(value) {in_order}"
    if points.most_a_player is not None:
        score = f"least({money(points.most_a_player)}, {score})"
    return f"SELECT person_id, id, at, {score} AS score\nFROM {source}"


def standing(campaign: Campaign) -> str:
    """The score of each person, and when it was reached."""
    if campaign.measure == "net_loss":
        score, reached = "argMax(progress.score, (at, id))", "max(at)"
    else:
        score = "max(progress.score)"
        reached = "argMax(at, (progress.score, -toUnixTimestamp64Micro(at)))"
    step, paid_at = "0", "reached_at"
    if isinstance(campaign.form, Challenge):
        reached_steps = [
            f"minOrNullIf(at, progress.score >= {money(step.target)})" for step in campaign.form.steps
        ]
        times = f"arrayFilter(x -> isNotNull(x), [{', '.join(reached_steps)}])"
        step, paid_at = f"length({times})", f"ifNull(arrayElementOrNull({times}, -1), reached_at)"
    return f"""
SELECT
    person_id,
    {score} AS score,
    {reached} AS reached_at,
    count() AS entries,
    {step} AS step,
    {paid_at} AS paid_at
FROM progress
GROUP BY person_id
HAVING score > 0{_enough(campaign)}"""


def _enough(campaign: Campaign) -> str:
    least = campaign.minimum_entries
    return f" AND entries >= {least}" if least > 1 else ""


def totals(campaign: Campaign) -> str:
    """The same without :func:`progress`; ``falls``: the score has been higher in between."""
    score, reached, falls = "sum(value)", "maxIf(at, value > 0)", "min(value) < 0"
    if campaign.measure in _LARGEST:
        score, falls = "max(value)", "false"
        reached = "argMax(at, (value, -toUnixTimestamp64Micro(at)))"
    elif campaign.measure == "net_loss":
        reached, falls = "max(at)", "false"
    return f"""
SELECT
    person_id,
    {score} AS score,
    {reached} AS reached_at,
    count() AS entries,
    0 AS step,
    reached_at AS paid_at,
    {falls} AS falls
FROM worth
GROUP BY person_id
HAVING (score > 0 OR falls){_enough(campaign)}"""


def ranked(campaign: Campaign) -> str:
    """Rank, prize, and what the budget leaves of it."""
    form = campaign.form
    by_score = "score DESC, reached_at, person_id"
    rank, order = f"row_number() OVER (ORDER BY {by_score})", "paid_at, person_id"
    inner = "*"
    if isinstance(form, Leaderboard):
        order = "rank, person_id"
        due = _prize_of("rank", form)
        if form.ties != "earliest":
            rank = "rank() OVER (ORDER BY score DESC)"
        if form.ties == "split":
            position = f"row_number() OVER (ORDER BY {by_score})"
            inner = f"*, {position} AS position"
            pot = f"sum({_prize_of('position', form)}) OVER (PARTITION BY score)"
            due = f"toDecimal128(toDecimal128({pot} / count() OVER (PARTITION BY score), 2), 18)"
    elif isinstance(form, Challenge | Mission):
        cases = ", ".join(
            f"step = {number}, {money(sum((step.prize for step in form.steps[:number]), Decimal(0)))}"
            for number in range(1, len(form.steps) + 1)
        )
        due = f"multiIf({cases}, {money(0)})"
    else:
        assert isinstance(form, DepositBonus)
        share = (
            f"toDecimal128(toDecimal256(toDecimal256(score, 18) * {money(form.percent / 100)}, 2), 18)"
        )
        due = f"least({money(form.cap)}, {share})"
    cost = f"sum(due) OVER (ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    fits = "true" if campaign.budget is None else f"{cost} <= {money(campaign.budget)}"
    return f"""
SELECT *, if({fits}, due, {money(0)}) AS prize, due - prize AS unpaid
FROM
(
    SELECT *, {due} AS due
    FROM
    (
        SELECT {inner}, {rank} AS rank
        FROM standing
    )
)"""


def _prize_of(rank: str, form: Leaderboard) -> str:
    cases = []
    for prize in form.prizes:
        first, last = prize.span()
        cases.append(f"{rank} BETWEEN {first} AND {last}, {money(prize.amount)}")
    return f"multiIf({', '.join(cases)}, {money(0)})"
