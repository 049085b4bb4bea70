"""The steps of a campaign's SQL from entries that count to ranks and prizes; see :mod:`.compiler`."""

from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.model.forms import Challenge, Leaderboard
from connectors.campaigns.model.points import Multiplier
from connectors.campaigns.sql.expressions import any_of, money, one_of, product
from connectors.clickhouse.literals import quoted

_VALUES = {
    "turnover": "amount",
    "rounds": money(1),
    "largest_win": "payout",
    "best_multiplier": "toDecimal128(toDecimal256(payout, 36) / amount, 18)",
    "wins_in_a_row": f"if(payout > 0, {money(1)}, {money(0)})",
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
    day = f"toDate(at, {quoted(campaign.period.time_zone)}) AS day"
    return (
        f"SELECT person_id, id, at, payout, {value_of(campaign)} AS value, {day}{_amount(campaign)}\n"
        "FROM ranged\nWHERE rule = ''"
    )


def all_worth(campaign: Campaign) -> str:
    """What every entry is worth, for :func:`totals`. One that a rule excludes is of no person, and is
    worth nothing.
    """
    return (
        "SELECT if(rule = '', person_id, '') AS holder, rule, at,\n"
        f"    if(rule = '', {value_of(campaign)}, {money(0)}) AS value{_amount(campaign)}\n"
        "FROM ranged"
    )


def value_of(campaign: Campaign) -> str:
    """What an entry is worth, as an expression over the columns of ``ranged``; the limits of a day and
    of a player are not in it.
    """
    value = _VALUES[campaign.measure]
    zone = campaign.period.time_zone
    for multiplier in campaign.points.multipliers:
        factor = f"if({_applies(multiplier, zone)}, {money(multiplier.times)}, {money(1)})"
        value = product(value, factor)
    if campaign.points.most_an_entry is not None:
        value = f"least({value}, {money(campaign.points.most_an_entry)})"
    return value


def has_pool(campaign: Campaign) -> bool:
    """Whether the prizes grow with the amounts that count."""
    return isinstance(campaign.form, Leaderboard) and campaign.form.pool is not None


def _amount(campaign: Campaign) -> str:
    """The column of the amounts, where they are needed."""
    return ", amount" if has_pool(campaign) else ""


def _turnover(campaign: Campaign, of: str = "sum(amount)") -> str:
    return f",\n    {of} AS turnover" if has_pool(campaign) else ""


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
    points, amount = campaign.points, _amount(campaign)
    in_order = "OVER (PARTITION BY person_id ORDER BY at, id)"
    if campaign.measure == "wins_in_a_row":
        run = "OVER (PARTITION BY person_id, losses ORDER BY at, id)"
        return (
            f"SELECT person_id, id, at, toDecimal128(sum(value) {run}, 18) AS score{amount}\n"
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
    return f"SELECT person_id, id, at, {score} AS score{amount}\nFROM {source}"


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
    {paid_at} AS paid_at{_turnover(campaign)}
FROM progress
GROUP BY person_id
HAVING score > 0{_enough(campaign)}"""


def _enough(campaign: Campaign) -> str:
    least = campaign.minimum_entries
    return f" AND entries >= {least}" if least > 1 else ""


def totals(campaign: Campaign) -> str:
    """The score of each person from :func:`all_worth`, without :func:`progress`; ``falls``: the score
    has been higher in between. For each rule that excludes entries there is a row of no person with
    their number.
    """
    return f"""
SELECT
    holder AS person_id,
    rule,
    {totals_columns(campaign)}
FROM worth
GROUP BY holder, rule
HAVING rule != '' OR {has_total(campaign)}"""


def totals_columns(campaign: Campaign) -> str:
    """The columns of a standing, as aggregates of what entries are worth."""
    score, reached, falls = "sum(value)", "maxIf(at, value > 0)", "min(value) < 0"
    if campaign.measure in _LARGEST:
        score, falls = "max(value)", "false"
        reached = "argMax(at, (value, -toUnixTimestamp64Micro(at)))"
    elif campaign.measure == "net_loss":
        reached, falls = "max(at)", "false"
    return f"""{score} AS score,
    {reached} AS reached_at,
    count() AS entries,
    0 AS step,
    reached_at AS paid_at,
    {falls} AS falls{_turnover(campaign, "sumIf(amount, rule = '')")}"""


def has_total(campaign: Campaign) -> str:
    """Whether a person has a standing, or :func:`standing` must say so."""
    return f"((score > 0 OR falls){_enough(campaign)})"
