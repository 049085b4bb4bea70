"""A campaign as SQL: readable, one query, nothing computed outside ClickHouse.

Every query is a chain of named steps::

    merged              the players that are one person with others, and the person of each
    player, game        the newest facts of each person and game, of what was received until ``as_of``
    ever, entry         what may count: rounds, deposits, logins, custom events or sports bets; then
                        each with its person and, except for one person, only what lies in the period
    priced              the same, in the campaign's currency
    ruled, ranged       each with the rule that excludes it, '' for none
    worth               of those without: what each is worth
    progress            the score as it stood after each
    standing            the score of each person, and when it was reached; computed without progress
                        where the order of the entries cannot matter
    ranked              rank, prize, and what the budget leaves of it

Everything is computed from single events that were received until ``as_of``, never from a newest state,
so that the same definition and ``as_of`` give the same result whenever it is asked.

A person is one player, or the players of a tenant that are merged by their contacts. Its id is that of
one of its players, and results have it as ``player_id``. For a tenant of which no contact was received,
``merges=False`` gives the same results without the step ``merged``, which would take 0.1 s of planning.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo

from connectors.campaigns import scores
from connectors.campaigns.definition import (
    CUSTOM,
    DEPOSITS,
    LOGINS,
    ROUNDS,
    SPORTS,
    Campaign,
    Challenge,
    Holdout,
)
from connectors.campaigns.expressions import any_of, money, one_of, product
from connectors.clickhouse.literals import instant, moment, quoted

Steps = list[tuple[str, str]]
"""Names and texts of steps."""


class Rule(NamedTuple):
    """A condition in SQL that excludes an entry or a player, and its name."""

    excludes: str
    name: str


def standings(campaign: Campaign, as_of: datetime, *, merges: bool = True) -> str:
    """A query with one row for each player with a score; its columns are those of a stored result."""
    scored = [
        ("worth", scores.worth(campaign)),
        ("progress", scores.progress(campaign)),
        ("standing", scores.standing(campaign)),
    ]
    return _standings(campaign, _entries(campaign, as_of, merges), scored)


def totals(campaign: Campaign, as_of: datetime, *, merges: bool = True) -> str | None:
    """The same standings without sorting the entries, which takes half of the time; None if the score
    depends on their order.

    If ``falls`` is true in any row, a player's score has fallen in between, and only
    :func:`standings` knows its highest value.
    """
    in_order = campaign.measure == "wins_in_a_row" or campaign.points.in_order
    if in_order or isinstance(campaign.form, Challenge):
        return None
    entries = _entries(campaign, as_of, merges)
    scored = [("worth", scores.worth(campaign)), ("standing", scores.totals(campaign))]
    return _standings(campaign, entries, scored, ", falls")


def _standings(campaign: Campaign, entries: Steps, scored: Steps, more: str = "") -> str:
    steps = [*entries, *scored, ("ranked", scores.ranked(campaign))]
    columns = f"rank, person_id AS player_id, score, reached_at, entries, step, prize, unpaid{more}"
    return f"{chained(steps)}\nSELECT {columns}\nFROM ranked\nORDER BY rank, player_id"


def explanation(
    campaign: Campaign, as_of: datetime, player_ids: Sequence[str], *, merges: bool = True
) -> str:
    """A query with one row for each entry of the players of a person, and the rule that excludes it."""
    steps = _entries(campaign, as_of, merges, only=player_ids)
    columns = (
        "id, at, currency, amount, payout, rate, if(rule = '', 'counts', rule) AS verdict, player_id"
    )
    return f"{chained(steps)}\nSELECT {columns}\nFROM ranged\nORDER BY at, id"


def left_out(campaign: Campaign, as_of: datetime, *, merges: bool = True) -> str:
    """A query that counts the entries of the period and the players that each rule excludes; the empty
    rule excludes none.
    """
    steps = _entries(campaign, as_of, merges)
    return (
        f"{chained(steps)}\nSELECT rule, count() AS entries, uniqExact(person_id) AS players\n"
        "FROM ranged\nGROUP BY rule\nORDER BY rule"
    )


_MERGED = "merged"
"""The one step that is a value, two arrays, and not a table: a player is looked up without a join."""

PERSON = f"transform(player_id, {_MERGED}.1, {_MERGED}.2, player_id) AS person_id"
_OWN_ID = "if(player_id = person_id, id, concat(id, '|', player_id)) AS id"
"""Two players of a person may have used the same id."""


def chained(steps: Steps) -> str:
    """The named steps as the beginning of a query."""
    parts = []
    for name, text in steps:
        inner = f"(\n{_indented(text)}\n)"
        parts.append(f"{inner} AS {name}" if name == _MERGED else f"{name} AS\n{inner}")
    return "WITH\n" + ",\n".join(parts)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else line for line in text.strip().splitlines())


def _entries(campaign: Campaign, as_of: datetime, merges: bool, only: Sequence[str] = ()) -> Steps:
    """The steps up to each entry with its rule; of the period, or of some players at any time."""
    until = f"tenant = {quoted(campaign.tenant)} AND received_at <= {moment(as_of)}"
    mine = f"{until} AND {one_of('player_id', only)}" if only else until
    steps = [merged(campaign, as_of)] if merges else []
    person = PERSON if merges else "player_id AS person_id"
    steps.append(("player", PLAYER.format(person=person, until=mine)))
    if campaign.source == ROUNDS:
        steps.append(("game", _GAME.format(until=until)))
    entry = f"SELECT *{f' REPLACE ({_OWN_ID})' if merges else ''}, {person}\nFROM ever"
    if not only:
        start, end = campaign.period.utc()
        within = "{0} >= " + moment(start) + " AND {0} < " + moment(end)
        if campaign.source == ROUNDS and end - start <= _SHORT:
            mine = f"{mine} AND {_touched(mine, within)}"
        entry += f"\nWHERE {within.format('at')}"
    steps += [("ever", _SOURCES[campaign.source](campaign, mine)), ("entry", entry)]
    if campaign.counts.currency:
        steps.append(("dated", "SELECT *, currency AS base, toDate(at) AS day\nFROM entry"))
        steps.append(
            ("price", RATES.format(quote=quoted(campaign.counts.currency), as_of=moment(as_of)))
        )
    steps.append(("priced", _priced(campaign)))
    steps.append(("ruled", _ruled(campaign)))
    steps.append(("ranged", _ranged(campaign)))
    return steps


def merged(campaign: Campaign, as_of: datetime) -> tuple[str, str]:
    """The step that :data:`PERSON` needs."""
    of = f"tenant = {quoted(campaign.tenant)}, as_of = {quoted(instant(as_of))}"
    text = f"SELECT (groupArray(player_id), groupArray(person_id))\nFROM merged_players_at({of})"
    return _MERGED, text


_SHORT = timedelta(days=62)
_ROUND = "sipHash64(player_id, round_id)"


def _touched(until: str, within: str) -> str:
    """A condition for rounds with a transaction in a short period, so that other rounds are not
    assembled.

    Every round that lies in the period has such a transaction; rounds that lie only partly in it
    are excluded afterwards.
    """
    found = f"{until} AND {within.format('occurred_at')}"
    return f"{_ROUND} IN (\n    SELECT {_ROUND} FROM game_transactions_rows\n    WHERE {found}\n)"


_NEWEST = "(occurred_at, source_event, event_id)"


def _newest(column: str, when: str | None = None) -> str:
    return f"argMaxIf({column}, {_NEWEST}, {when or f'isNotNull({column})'}) AS newest_{column}"


PLAYER = (
    "SELECT\n    {person},\n"
    + ",\n".join(
        f"    {_newest(column, when)}"
        for column, when in (
            ("country", None),
            ("affiliate", None),
            ("registered_at", None),
            ("consent_email", None),
            ("is_blocked", None),
            ("is_promo_banned", None),
            ("tags", "has_tags"),
        )
    )
    + "\nFROM player_events_rows FINAL\nWHERE {until}\nGROUP BY person_id"
)
_GAME = (
    "SELECT\n    game_id,\n"
    + ",\n".join(
        f"    {_newest(column, when)}"
        for column, when in (
            ("provider", None),
            ("categories", "has_categories"),
            ("features", "has_features"),
        )
    )
    + "\nFROM game_events_rows FINAL\nWHERE {until}\nGROUP BY game_id"
)
RATES = """SELECT base, day, argMax(rate, imported_at) AS day_rate, true AS known
FROM rates FINAL
WHERE quote = {quote} AND imported_at <= {as_of}
GROUP BY base, day"""


# What may count -------------------------------------------------------------------------------


def _rounds(campaign: Campaign, until: str) -> str:
    def net(of: str, column: str) -> str:
        return f"sumIf({column}, type = '{of}') - sumIf({column}, type = 'rollback_{of}')"

    real = campaign.counts.money == "real"
    column = "amount - bonus_amount" if real else "amount"
    return f"""
SELECT
    player_id,
    round_id AS id,
    ifNull(minOrNullIf(occurred_at, type = 'bet'), min(occurred_at)) AS at,
    argMin(game_id, (occurred_at, source_event, event_id, type)) AS game_id,
    any(currency) AS currency,
    min(counts) AS enabled,
    countIf(type = 'bet') AS bets,
    bets - countIf(type = 'rollback_bet') AS bets_left,
    {net("bet", "bonus_amount")} AS bonus,
    {net("bet", column)} AS own_amount,
    {net("win", column)} AS own_payout
FROM game_transactions_rows FINAL
WHERE {until}
GROUP BY player_id, round_id
SETTINGS optimize_aggregation_in_order = 1"""


def deposits(campaign: Campaign, until: str) -> str:
    """A query with one row for each successful deposit, of the events that fulfil ``until``."""
    return f"""
SELECT
    player_id,
    payment_id AS id,
    min(occurred_at) AS at,
    argMin(currency, {_NEWEST}) AS currency,
    min(counts) AS enabled,
    argMin(amount, {_NEWEST}) AS own_amount,
    {money(0)} AS own_payout
FROM payments_rows FINAL
WHERE {until} AND direction = 'deposit' AND successful
GROUP BY player_id, payment_id"""


def _logins(campaign: Campaign, until: str) -> str:
    return _single("logins_rows", "", until)


def _custom_events(campaign: Campaign, until: str) -> str:
    assert campaign.counts.event is not None
    return _single("custom_events_rows", "", f"{until} AND name = {quoted(campaign.counts.event)}")


def _single(table: str, more: str, until: str) -> str:
    return f"""
SELECT
    player_id,
    concat(source_event, '|', event_id) AS id,
    occurred_at AS at,
    '' AS currency,
    counts AS enabled,
    {money(0)} AS own_amount,
    {money(0)} AS own_payout
FROM {table} FINAL
WHERE {until}"""


def _sports_bets(campaign: Campaign, until: str) -> str:
    column = "amount - bonus_amount" if campaign.counts.money == "real" else "amount"
    return f"""
SELECT
    player_id,
    activity_id AS id,
    min(occurred_at) AS at,
    argMin(currency, {_NEWEST}) AS currency,
    min(counts) AS enabled,
    argMin(ifNull(total_odds, ifNull(odds, {money(0)})), {_NEWEST}) AS odds,
    argMin({column}, {_NEWEST}) AS own_amount,
    {money(0)} AS own_payout
FROM sports_bets_rows FINAL
WHERE {until} AND lower(type) = 'bet' AND lower(status) IN ('approved', 'accepted')
GROUP BY player_id, activity_id"""


_SOURCES: dict[str, Callable[[Campaign, str], str]] = {
    ROUNDS: _rounds,
    DEPOSITS: deposits,
    LOGINS: _logins,
    CUSTOM: _custom_events,
    SPORTS: _sports_bets,
}


def _priced(campaign: Campaign) -> str:
    """The steps that convert amounts to the campaign's currency and keep the rate that was used."""
    currency = campaign.counts.currency
    if currency is None:
        return (
            "SELECT *, own_amount AS amount, own_payout AS payout,\n"
            f"    {money(1)} AS rate, true AS has_rate\nFROM entry"
        )

    def converted(column: str) -> str:
        return product(column, "rate")

    own = f"currency = {quoted(currency)}"
    return f"""
SELECT
    *,
    if({own}, {money(1)}, day_rate) AS rate,
    {own} OR known AS has_rate,
    {converted("own_amount")} AS amount,
    {converted("own_payout")} AS payout
FROM dated
ASOF LEFT JOIN price USING (base, day)"""


# Rules ----------------------------------------------------------------------------------------


def _ruled(campaign: Campaign) -> str:
    rules = [*player_rules(campaign), *_entry_rules(campaign)]
    cases = ",\n        ".join(f"{rule.excludes}, {quoted(rule.name)}" for rule in rules)
    joins = ["LEFT JOIN player USING (person_id)"]
    if campaign.source == ROUNDS:
        joins.append("LEFT JOIN game USING (game_id)")
    text = "\n".join(joins)
    return f"""
SELECT
    *,
    multiIf(
        {cases},
        ''
    ) AS rule
FROM priced
{text}"""


def held_back(holdout: Holdout) -> str:
    """A condition for the persons who are held back."""
    digits = f"substring(lower(hex(SHA256(concat({quoted(holdout.salt)}, person_id)))), 1, 8)"
    return f"{digits} < {quoted(holdout.threshold)}"


def player_rules(campaign: Campaign) -> list[Rule]:
    """The rules that exclude a player, over the columns of the step ``player``."""
    wanted, zone = campaign.eligible, ZoneInfo(campaign.period.time_zone)
    rules = [Rule("ifNull(newest_is_blocked, false)", "player: blocked")]
    if campaign.holdout:
        rules.append(Rule(held_back(campaign.holdout), "player: held back"))
    if not wanted.promo_banned:
        rules.append(Rule("ifNull(newest_is_promo_banned, false)", "player: banned from promotions"))
    country = "ifNull(newest_country, '')"
    if wanted.countries:
        rules.append(Rule(f"NOT {one_of(country, wanted.countries)}", "player: country"))
    if wanted.not_countries:
        rules.append(Rule(one_of(country, wanted.not_countries), "player: excluded country"))
    if wanted.any_tag:
        rules.append(Rule(f"NOT {any_of('newest_tags', wanted.any_tag)}", "player: tags"))
    if wanted.no_tag:
        rules.append(Rule(any_of("newest_tags", wanted.no_tag), "player: excluded tag"))
    if wanted.affiliates:
        affiliate = "ifNull(newest_affiliate, '')"
        rules.append(Rule(f"NOT {one_of(affiliate, wanted.affiliates)}", "player: affiliate"))
    registered = "ifNull(newest_registered_at {} {}, true)"
    if wanted.registered_from:
        since = moment(_in(wanted.registered_from, zone))
        rules.append(Rule(registered.format("<", since), "player: registered too early"))
    if wanted.registered_before:
        until = moment(_in(wanted.registered_before, zone))
        rules.append(Rule(registered.format(">=", until), "player: registered too late"))
    if wanted.consent_email:
        rules.append(Rule("NOT ifNull(newest_consent_email, false)", "player: no consent"))
    return rules


def _entry_rules(campaign: Campaign) -> list[Rule]:
    counts = campaign.counts
    start, end = map(moment, campaign.period.utc())
    rules = [
        Rule("NOT enabled", "campaigns were disabled"),
        Rule(f"at < {start} OR at >= {end}", "outside the period"),
    ]
    if campaign.source == ROUNDS:
        rules += [Rule("bets = 0", "no bet"), Rule("bets_left <= 0", "rolled back")]
    if counts.games:
        rules.append(Rule(f"NOT {one_of('game_id', counts.games)}", "game"))
    if counts.providers:
        provider = "ifNull(newest_provider, '')"
        rules.append(Rule(f"NOT {one_of(provider, counts.providers)}", "provider"))
    if counts.categories:
        rules.append(Rule(f"NOT {any_of('newest_categories', counts.categories)}", "category"))
    if counts.features:
        rules.append(Rule(f"NOT {any_of('newest_features', counts.features)}", "feature"))
    if counts.money == "real" and campaign.source == ROUNDS:
        rules.append(Rule("bonus > 0 AND own_amount <= 0", "bonus money"))
    if counts.money == "real" and campaign.source == SPORTS:
        rules.append(Rule("own_amount <= 0", "bonus money"))
    if counts.currency:
        rules.append(Rule("NOT has_rate", "no rate"))
    if counts.minimum_bet is not None:
        rules.append(Rule(f"amount < {money(counts.minimum_bet)}", "below the minimum bet"))
    if counts.minimum_deposit is not None:
        rules.append(Rule(f"amount < {money(counts.minimum_deposit)}", "below the minimum deposit"))
    if counts.minimum_odds is not None:
        rules.append(Rule(f"odds < {money(counts.minimum_odds)}", "below the minimum odds"))
    if counts.minimum_multiplier is not None or campaign.measure == "best_multiplier":
        rules.append(Rule("amount <= 0", "nothing staked"))
    if counts.minimum_multiplier is not None:
        due = f"toDecimal256(amount, 18) * {money(counts.minimum_multiplier)}"
        rules.append(Rule(f"payout < {due}", "below the minimum multiplier"))
    return rules


def _in(local: datetime, zone: tzinfo) -> datetime:
    return local.replace(tzinfo=zone)


def _ranged(campaign: Campaign) -> str:
    """Rules that depend on a person's other entries."""
    rule = "rule"
    if campaign.source == LOGINS:
        zone = quoted(campaign.period.time_zone)
        day = f"person_id, rule, toDate(at, {zone})"
        number = f"row_number() OVER (PARTITION BY {day} ORDER BY at, id)"
        rule = f"if(rule = '' AND {number} > 1, 'a later login of the same day', rule)"
    elif campaign.counts.first:
        number = "row_number() OVER (PARTITION BY person_id, rule ORDER BY at, id)"
        most = campaign.counts.first
        rule = f"if(rule = '' AND {number} > {most}, 'after the first {most}', rule)"
    return f"SELECT * EXCEPT (rule), {rule} AS rule\nFROM ruled"
