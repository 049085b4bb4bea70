-- kpi_play keeps the results of periods in which no round changes any more, and computes the others when it is read.

CREATE TABLE IF NOT EXISTS changed_days
(
    tenant LowCardinality(String) COMMENT 'Tenant.',
    day Date32 COMMENT 'Day under which rows of rounds stand, UTC.',
    changed_at DateTime64(6, 'UTC') COMMENT 'When rows of this day were last inserted, UTC.'
)
ENGINE = ReplacingMergeTree(changed_at)
ORDER BY (tenant, day)
COMMENT 'When rounds of a day last changed.';

CREATE MATERIALIZED VIEW IF NOT EXISTS days_that_change TO changed_days AS
SELECT tenant, day, now64(6, 'UTC') AS changed_at
FROM rounds_by_day_rows
GROUP BY tenant, day;

INSERT INTO changed_days
SELECT tenant, day, now64(6, 'UTC') AS changed_at
FROM rounds_by_day_rows
GROUP BY tenant, day;

CREATE TABLE IF NOT EXISTS changed_tenants
(
    tenant LowCardinality(String) COMMENT 'Tenant.',
    changed_at DateTime64(6, 'UTC') COMMENT 'When a contact of a player, a correction of merged players, or a round that may have left any day was last inserted, UTC.'
)
ENGINE = ReplacingMergeTree(changed_at)
ORDER BY tenant
COMMENT 'When all periods of a tenant may last have changed.';

CREATE MATERIALIZED VIEW IF NOT EXISTS persons_that_change TO changed_tenants AS
SELECT tenant, now64(6, 'UTC') AS changed_at
FROM custom_events_rows
WHERE isNotNull(mobile) OR isNotNull(email)
GROUP BY tenant;

CREATE MATERIALIZED VIEW IF NOT EXISTS corrections_that_change TO changed_tenants AS
SELECT tenant, now64(6, 'UTC') AS changed_at
FROM merge_corrections
GROUP BY tenant;

CREATE MATERIALIZED VIEW IF NOT EXISTS spans_that_change TO changed_tenants AS
SELECT tenant, now64(6, 'UTC') AS changed_at
FROM rounds_by_day_rows
WHERE dateDiff('day', first_event_at, last_event_at) > 62
GROUP BY tenant;

CREATE TABLE IF NOT EXISTS kept_play
(
    grain LowCardinality(String) COMMENT 'day, week or month.',
    by LowCardinality(String) COMMENT 'Dimension of kpi_play.',
    reporting LowCardinality(String) COMMENT 'Reporting currency of kpi_play, or empty.',
    tenant LowCardinality(String) COMMENT 'Tenant.',
    period Date32 COMMENT 'First day of the period, UTC.',
    kept_at DateTime64(6, 'UTC') COMMENT 'Results hold what was inserted before, UTC.',
    results Array(Tuple(value String, currency String, rounds UInt64, unconverted_rounds UInt64, active_players UInt64, turnover Decimal(38, 18), paid_out Decimal(38, 18), ngr Decimal(38, 18))) COMMENT 'The rows of kpi_play for this period.'
)
ENGINE = ReplacingMergeTree(kept_at)
ORDER BY (grain, by, reporting, tenant, period)
COMMENT 'Results of kpi_play by period. Those of a period that has changed since are not used.';

-- One row a period: when what its results follow from was last inserted (rounds of its days, the tenant's persons, rounds that may have left any day, rates
-- that may apply to its days), and whether the results that are kept, if any, are later.
CREATE OR REPLACE VIEW kept_play_at AS
WITH
(
    SELECT groupArray((day, imported_at)) FROM rates WHERE quote = {reporting:String}
) AS imported
SELECT
    tenant,
    period,
    days,
    greatest(
        days_changed_at,
        tenant_changed_at,
        arrayMax(arrayMap(
            rate -> if(rate.1 <= arrayMax(days), rate.2, toDateTime64(0, 6, 'UTC')),
            arrayPushBack(imported, (toDate(0), toDateTime64(0, 6, 'UTC')))
        ))
    ) AS changed_at,
    changed_at < kept_at AS holds
FROM
(
    SELECT
        tenant,
        toDate32(dateTrunc(if({grain:String} = 'hour', 'day', {grain:String}), day)) AS period,
        groupUniqArray(day) AS days,
        max(changed_at) AS days_changed_at
    FROM changed_days
    WHERE NOT endsWith(tenant, '.test')
    GROUP BY tenant, period
    HAVING period >= toDate32({first:String}) AND period <= toDate32({last:String})
) AS changed
LEFT JOIN
(
    SELECT tenant, period, max(kept_play.kept_at) AS kept_at
    FROM kept_play
    WHERE grain = {grain:String} AND by = {by:String} AND reporting = {reporting:String}
        AND period >= toDate32({first:String}) AND period <= toDate32({last:String})
    GROUP BY tenant, period
) AS kept USING (tenant, period)
LEFT JOIN
(
    SELECT tenant, max(changed_tenants.changed_at) AS tenant_changed_at FROM changed_tenants GROUP BY tenant
) AS merging USING (tenant);

-- Play by a time grain and a dimension, in each currency or in one: kpi_play(grain = 'day',
-- by = 'provider', reporting = 'EUR'). grain: hour, day, week, month. by: tenant, game, provider,
-- category (the first of the game's), country, currency. reporting: a currency, or '' for each its own.
-- Time is the round's first event, UTC. A round whose currency has no rate on or before its day is
-- counted in unconverted_rounds and in nothing else. Players who are merged are one active player.
-- Of the days, weeks and months that begin between first and last (dates), so that others are not read.
CREATE OR REPLACE VIEW kpi_play_between AS
WITH
state AS
(
    SELECT tenant, period, days, holds
    FROM $database.kept_play_at(
        grain = {grain:String}, by = {by:String}, reporting = {reporting:String},
        first = {first:String}, last = {last:String}
    )
),
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
        person_id,
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
    FROM rounds_by_person
    WHERE (tenant, rounds_by_person.day) IN (SELECT tenant, arrayJoin(days) FROM state WHERE NOT holds)
),
priced AS
(
    SELECT
        *,
        if({reporting:String} IN ('', base), toDecimal128(1, 18), day_rate) AS rate
    FROM played
    ASOF LEFT JOIN price USING (base, day)
),
computed AS
(
    SELECT
        tenant,
        dateTrunc({grain:String}, at, 'UTC') AS period,
        value,
        if({reporting:String} = '', toString(base), {reporting:String}) AS currency,
        countIf(rate > 0) AS rounds,
        countIf(rate = 0) AS unconverted_rounds,
        uniqExactIf(person_id, rate > 0) AS active_players,
        sum(toDecimal128(toDecimal256(stake, 18) * rate, 18)) AS turnover,
        sum(toDecimal128(toDecimal256(payout, 18) * rate, 18)) AS paid_out,
        turnover - paid_out - sum(toDecimal128(toDecimal256(bonus_stake, 18) * rate, 18))
            + sum(toDecimal128(toDecimal256(bonus_payout, 18) * rate, 18)) AS ngr
    FROM priced
    GROUP BY tenant, period, value, currency
),
kept AS
(
    SELECT
        tenant,
        dateTrunc({grain:String}, toDateTime64(period, 6, 'UTC'), 'UTC') AS period,
        result.value AS value,
        result.currency AS currency,
        result.rounds AS rounds,
        result.unconverted_rounds AS unconverted_rounds,
        result.active_players AS active_players,
        result.turnover AS turnover,
        result.paid_out AS paid_out,
        result.ngr AS ngr
    FROM kept_play FINAL
    ARRAY JOIN results AS result
    WHERE grain = {grain:String} AND by = {by:String} AND reporting = {reporting:String}
        AND (tenant, kept_play.period) IN (SELECT tenant, period FROM state WHERE holds)
)
SELECT
    tenant,
    period,
    value,
    currency,
    rounds,
    unconverted_rounds,
    active_players,
    turnover,
    paid_out,
    turnover - paid_out AS ggr,
    ngr,
    if(turnover = 0, NULL, toFloat64(paid_out) / toFloat64(turnover)) AS rtp,
    if(turnover = 0, NULL, toFloat64(ggr) / toFloat64(turnover)) AS hold,
    if(active_players = 0, NULL, toFloat64(ggr) / active_players) AS arpu
FROM
(
    SELECT * FROM kept
    UNION ALL
    SELECT * FROM computed
);

CREATE OR REPLACE VIEW kpi_play AS
SELECT *
FROM $database.kpi_play_between(
    grain = {grain:String}, by = {by:String}, reporting = {reporting:String},
    first = '1900-01-01', last = '2299-12-31'
);
