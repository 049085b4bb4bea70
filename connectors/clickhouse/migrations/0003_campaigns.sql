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
