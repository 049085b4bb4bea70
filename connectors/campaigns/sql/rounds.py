"""What may count of rounds, one row each: kept rows, and rounds that are assembled from their events.

The worker's newest revision of a round is its state for every ``as_of`` from its ``last_received_at``
on, so a kept row is read. A round is assembled from its events that were received until ``as_of`` where
the kept row is not, or may not be, that state:

- an event was received after ``as_of``;
- ``in_doubt``: the time of its first bet is not known, or it may be a later segment of a round that the
  worker had forgotten, because its events were received long after they happened;
- its events lie more than 62 days apart, so that a row of an earlier revision may not be replaced.

Both are found by skip indexes; where there are none, no event is read. Both forms have the same
columns, and give the same values to the last digit.
"""

from datetime import datetime, timedelta

from connectors.campaigns.model.definition import Campaign
from connectors.clickhouse.literals import moment, quoted

_BET_OR_FIRST = "ifNull(first_bet_at, first_event_at)"
_AROUND_DAYS = 31
_WIDE = "dateDiff('day', first_event_at, last_event_at) > 62"
"""The events lie so far apart that a row of an earlier revision may stand under another day."""
_RECENT = timedelta(minutes=5)
"""A live campaign is as of some seconds ago, so most rounds that changed since are new. Their events
are in the newest parts, which the skip index ``by_time`` finds. ``FINAL`` would read the older parts
too, so of several rows of an event the one that was received last is taken here, as by ``FINAL``."""

_OF_EVENT = "occurred_at", "game_id", "currency", "counts", "amount", "bonus_amount"
_NUMBERED = list(enumerate(_OF_EVENT, start=1))


def rounds(
    campaign: Campaign, as_of: datetime, within: tuple[datetime, datetime] | None, of: str
) -> str:
    """A query with one row for each round. ``within``: only of this time, the end excluded; some rounds
    outside of it may be among them. ``of``: a further condition, on the player."""
    tenant = f"tenant = {quoted(campaign.tenant)}{of}"
    days = around = ""
    if within is not None:
        start, end = within
        days = f" AND day >= toDate32({moment(start)}) AND day <= toDate32({moment(end)})"
        around = (
            f" AND day >= toDate32({moment(start)}) - {_AROUND_DAYS}"
            f" AND day <= toDate32({moment(end)}) + {_AROUND_DAYS}"
        )
    since = as_of - _RECENT
    keys = "SELECT player_id, round_id FROM rounds_by_day_rows\n        WHERE"
    doubtful = (
        f"{keys} {tenant}{around} AND in_doubt\n        UNION ALL\n        {keys} {tenant} AND {_WIDE}"
    )
    changed = f"{keys} {tenant}{days} AND last_received_at > {moment(as_of)} AND first_event_at"
    older = f"{doubtful}\n        UNION ALL\n        {changed} < {moment(since)}"
    recent = f"{changed} >= {moment(since)}"
    return f"""
{_kept(campaign)}
WHERE {tenant}{days} AND day = toDate32(at) AND last_received_at <= {moment(as_of)}
    AND {_one_of(doubtful, "NOT IN")}
UNION ALL
{_assembled(campaign)}
FROM game_transactions_rows FINAL
WHERE {tenant} AND received_at <= {moment(as_of)}
    AND {_one_of(older)}
GROUP BY player_id, round_id
UNION ALL
{_assembled(campaign)}
FROM
(
    SELECT player_id, round_id, type, {", ".join(f"newest.{n} AS {c}" for n, c in _NUMBERED)}
    FROM
    (
        SELECT
            player_id, round_id, source, source_event, event_id, type,
            argMax(({", ".join(_OF_EVENT)}), received_at) AS newest,
            max(received_at) AS newest_received_at
        FROM game_transactions_rows
        WHERE {tenant} AND occurred_at >= {moment(since)}
            AND {_one_of(recent)}
            AND {_one_of(older, "NOT IN")}
        GROUP BY player_id, round_id, source, source_event, event_id, type
    )
    WHERE newest_received_at <= {moment(as_of)}
)
GROUP BY player_id, round_id"""


def _one_of(keys: str, how: str = "IN") -> str:
    return f"(player_id, round_id) {how}\n    (\n        {keys}\n    )"


def _kept(campaign: Campaign) -> str:
    real = campaign.counts.money == "real"

    def net(of: str, name: str) -> str:
        return f"{of}_{name} - rollback_{of}_{name}"

    def column(of: str) -> str:
        own = net(of, "amount")
        return f"({own}) - ({net(of, 'bonus_amount')})" if real else own

    return f"""SELECT
    player_id,
    round_id AS id,
    {_BET_OR_FIRST} AS at,
    game_id,
    currency,
    counts AS enabled,
    toUInt64(bet_count) AS bets,
    toInt64(bet_count) - rollback_bet_count AS bets_left,
    {net("bet", "bonus_amount")} AS bonus,
    {column("bet")} AS own_amount,
    {column("win")} AS own_payout
FROM rounds_by_day_rows FINAL"""


def _assembled(campaign: Campaign) -> str:
    real = campaign.counts.money == "real"
    column = "amount - bonus_amount" if real else "amount"

    def net(of: str, column: str) -> str:
        return f"sumIf({column}, type = '{of}') - sumIf({column}, type = 'rollback_{of}')"

    return f"""SELECT
    player_id,
    round_id AS id,
    ifNull(minOrNullIf(occurred_at, type = 'bet'), min(occurred_at)) AS at,
    argMin(game_id, (occurred_at, game_id)) AS game_id,
    argMin(currency, (occurred_at, currency)) AS currency,
    min(counts) AS enabled,
    countIf(type = 'bet') AS bets,
    toInt64(bets) - countIf(type = 'rollback_bet') AS bets_left,
    {net("bet", "bonus_amount")} AS bonus,
    {net("bet", column)} AS own_amount,
    {net("win", column)} AS own_payout"""
