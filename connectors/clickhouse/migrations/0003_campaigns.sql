-- Exchange rates and the stored results of campaigns.

CREATE TABLE IF NOT EXISTS rates
(
    base LowCardinality(String) COMMENT 'Currency that is converted.',
    quote LowCardinality(String) COMMENT 'Currency it is converted to.',
    day Date COMMENT 'Day from which the rate holds, until a later one.',
    rate Decimal(38, 18) COMMENT 'How many quote one base is worth.',
    source String COMMENT 'Who says so, as given at import.',
    imported_at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'When it was imported, UTC. Of several for one day the last import holds; earlier ones stay, for results that used them.'
)
ENGINE = ReplacingMergeTree
ORDER BY (base, quote, day, imported_at)
COMMENT 'Exchange rates, by roundhouse rates import.';

CREATE TABLE IF NOT EXISTS campaign_runs
(
    run_id UUID COMMENT 'Id of the evaluation.',
    campaign LowCardinality(String) COMMENT 'Name in the definition.',
    tenant LowCardinality(String) COMMENT 'Tenant.',
    definition_sha256 FixedString(64) COMMENT 'Hash of the definition: equal for equal definitions.',
    definition String COMMENT 'The definition as YAML, as it was evaluated.',
    as_of DateTime64(6, 'UTC') COMMENT 'The data''s position: everything received until then was looked at, nothing else.',
    evaluated_at DateTime64(6, 'UTC') COMMENT 'When it was evaluated, UTC.',
    unsettled Int64 COMMENT 'Items received until as_of that had no outcome yet; 0 when the result is final for this as_of.',
    players UInt64 COMMENT 'Players with a score.',
    prizes Decimal(38, 18) COMMENT 'Sum of the prizes.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, campaign, evaluated_at, run_id)
COMMENT 'One row an evaluation of a campaign, by roundhouse campaign evaluate.';

CREATE TABLE IF NOT EXISTS campaign_results
(
    run_id UUID COMMENT 'Id of the evaluation.',
    rank UInt64 COMMENT 'Rank by score, from 1.',
    player_id String COMMENT 'Player.',
    score Decimal(38, 18) COMMENT 'What the campaign measures.',
    reached_at DateTime64(6, 'UTC') COMMENT 'When the score was reached, in the platform''s time, UTC.',
    entries UInt64 COMMENT 'How many rounds, deposits, … counted.',
    step UInt64 COMMENT 'Steps reached, in a challenge.',
    prize Decimal(38, 18) COMMENT 'What is paid.',
    unpaid Decimal(38, 18) COMMENT 'What the budget did not allow.'
)
ENGINE = ReplacingMergeTree
ORDER BY (run_id, rank, player_id)
COMMENT 'One row a player of an evaluation.';

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
    WHERE successful AND direction IN ('deposit', 'withdrawal')
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
