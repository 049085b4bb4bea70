-- The KPI views leave out test tenants, whose names end with .test.

-- Play by a time grain and a dimension, in each currency or in one: kpi_play(grain = 'day',
-- by = 'provider', reporting = 'EUR'). grain: hour, day, week, month. by: tenant, game, provider,
-- category (the first of the game's), country, currency. reporting: a currency, or '' for each its own.
-- Time is the round's first event, UTC. A round whose currency has no rate on or before its day is
-- counted in unconverted_rounds and in nothing else.
CREATE OR REPLACE VIEW kpi_play AS
WITH
price AS
(
    SELECT base, day, argMax(rate, imported_at) AS day_rate
    FROM rates FINAL
    WHERE quote = {reporting:String}
    GROUP BY base, day
),
played AS
(
    SELECT
        tenant,
        player_id,
        first_event_at AS at,
        currency AS base,
        toDate(first_event_at) AS day,
        multiIf(
            {by:String} = 'game', toString(game_id),
            {by:String} = 'provider', toString(ifNull(game_provider, '')),
            {by:String} = 'category', game_categories[1],
            {by:String} = 'country', toString(ifNull(player_country, '')),
            {by:String} = 'currency', toString(currency),
            {by:String} = 'tenant', '',
            throwIf({by:String} != '', 'by must be tenant, game, provider, category, country or currency')::String
        ) AS value,
        stake,
        payout,
        bonus_stake,
        bonus_payout
    FROM rounds
    WHERE NOT endsWith(tenant, '.test')
),
priced AS
(
    SELECT
        *,
        if({reporting:String} IN ('', base), toDecimal128(1, 18), day_rate) AS rate
    FROM played
    ASOF LEFT JOIN price USING (base, day)
)
SELECT
    tenant,
    dateTrunc({grain:String}, at, 'UTC') AS period,
    value,
    if({reporting:String} = '', toString(base), {reporting:String}) AS currency,
    countIf(rate > 0) AS rounds,
    countIf(rate = 0) AS unconverted_rounds,
    uniqExactIf(player_id, rate > 0) AS active_players,
    sum(toDecimal128(toDecimal256(stake, 18) * rate, 18)) AS turnover,
    sum(toDecimal128(toDecimal256(payout, 18) * rate, 18)) AS paid_out,
    turnover - paid_out AS ggr,
    ggr - sum(toDecimal128(toDecimal256(bonus_stake, 18) * rate, 18))
        + sum(toDecimal128(toDecimal256(bonus_payout, 18) * rate, 18)) AS ngr,
    if(turnover = 0, NULL, toFloat64(paid_out) / toFloat64(turnover)) AS rtp,
    if(turnover = 0, NULL, toFloat64(ggr) / toFloat64(turnover)) AS hold,
    if(active_players = 0, NULL, toFloat64(ggr) / active_players) AS arpu
FROM priced
GROUP BY tenant, period, value, currency;

-- Money in and out, alike: kpi_cash(grain = 'day', by = 'country', reporting = '').
-- by: tenant, country, affiliate, method, currency. A first-time depositor is counted where the
-- player's first successful deposit of all lies.
CREATE OR REPLACE VIEW kpi_cash AS
WITH
price AS
(
    SELECT base, day, argMax(rate, imported_at) AS day_rate
    FROM rates FINAL
    WHERE quote = {reporting:String}
    GROUP BY base, day
),
moved AS
(
    SELECT
        tenant,
        player_id,
        payment_id,
        direction,
        min(occurred_at) AS at,
        argMin(currency, (occurred_at, source_event, event_id)) AS base,
        argMin(method, (occurred_at, source_event, event_id)) AS method,
        argMin(amount, (occurred_at, source_event, event_id)) AS amount,
        toDate(at) AS day
    FROM payments
    WHERE successful AND direction IN ('deposit', 'withdrawal') AND NOT endsWith(tenant, '.test')
    GROUP BY tenant, player_id, payment_id, direction
),
numbered AS
(
    SELECT
        *,
        direction = 'deposit'
            AND row_number() OVER (PARTITION BY tenant, player_id, direction ORDER BY at, payment_id) = 1 AS is_first
    FROM moved
),
known AS
(
    SELECT
        numbered.*,
        multiIf(
            {by:String} = 'country', toString(ifNull(country, '')),
            {by:String} = 'affiliate', toString(ifNull(affiliate, '')),
            {by:String} = 'method', toString(method),
            {by:String} = 'currency', toString(base),
            {by:String} = 'tenant', '',
            throwIf({by:String} != '', 'by must be tenant, country, affiliate, method or currency')::String
        ) AS value
    FROM numbered
    LEFT JOIN (SELECT tenant, player_id, country, affiliate FROM players) AS about USING (tenant, player_id)
),
priced AS
(
    SELECT
        *,
        if({reporting:String} IN ('', base), toDecimal128(1, 18), day_rate) AS rate,
        toDecimal128(toDecimal256(amount, 18) * rate, 18) AS converted
    FROM known
    ASOF LEFT JOIN price USING (base, day)
)
SELECT
    tenant,
    dateTrunc({grain:String}, at, 'UTC') AS period,
    value,
    if({reporting:String} = '', toString(base), {reporting:String}) AS currency,
    countIf(direction = 'deposit' AND rate > 0) AS deposits,
    sumIf(converted, direction = 'deposit') AS deposited,
    countIf(direction = 'withdrawal' AND rate > 0) AS withdrawals,
    sumIf(converted, direction = 'withdrawal') AS withdrawn,
    deposited - withdrawn AS net_deposits,
    uniqExactIf(player_id, direction = 'deposit') AS depositors,
    countIf(is_first) AS first_time_depositors,
    countIf(rate = 0) AS unconverted_payments
FROM priced
GROUP BY tenant, period, value, currency;
