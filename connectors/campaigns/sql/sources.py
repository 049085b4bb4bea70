"""What may count besides rounds: deposits, logins, custom events, sports bets, one row each."""

from connectors.campaigns.model.definition import Campaign
from connectors.campaigns.sql.expressions import money
from connectors.campaigns.sql.steps import NEWEST
from connectors.clickhouse.literals import quoted


def deposits(campaign: Campaign, until: str) -> str:
    """A query with one row for each successful deposit, of the events that fulfil ``until``."""
    return f"""
SELECT
    player_id,
    payment_id AS id,
    min(occurred_at) AS at,
    argMin(currency, {NEWEST}) AS currency,
    min(counts) AS enabled,
    argMin(amount, {NEWEST}) AS own_amount,
    {money(0)} AS own_payout
FROM payments_rows FINAL
WHERE {until} AND direction = 'deposit' AND successful
GROUP BY player_id, payment_id"""


def logins(campaign: Campaign, until: str) -> str:
    return _single("logins_rows", until)


def custom_events(campaign: Campaign, until: str) -> str:
    assert campaign.counts.event is not None
    return _single("custom_events_rows", f"{until} AND name = {quoted(campaign.counts.event)}")


def _single(table: str, until: str) -> str:
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


def sports_bets(campaign: Campaign, until: str) -> str:
    column = "amount - bonus_amount" if campaign.counts.money == "real" else "amount"
    excluded = campaign.counts.exclude_opposite_bets
    legs = f",\n    argMin(selections, {NEWEST}) AS selections" if excluded else ""
    return f"""
SELECT
    player_id,
    activity_id AS id,
    min(occurred_at) AS at,
    argMin(currency, {NEWEST}) AS currency,
    min(counts) AS enabled,
    argMin(ifNull(total_odds, ifNull(odds, {money(0)})), {NEWEST}) AS odds,
    argMin({column}, {NEWEST}) AS own_amount,
    {money(0)} AS own_payout{legs}
FROM sports_bets_rows FINAL
WHERE {until} AND lower(type) = 'bet' AND lower(status) IN ('approved', 'accepted')
GROUP BY player_id, activity_id"""
