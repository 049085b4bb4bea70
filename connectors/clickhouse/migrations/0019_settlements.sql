-- Settled campaigns: what makes a stored result verifiable, and the awards from Kafka.

ALTER TABLE campaign_runs
    ADD COLUMN IF NOT EXISTS left_out String COMMENT 'Entries that did not count by the rule that excluded them, as JSON. Empty for runs of 0.1.0.' AFTER prizes,
    ADD COLUMN IF NOT EXISTS standings_sha256 String COMMENT 'Hash of the rows of campaign_results as text. Empty for runs of 0.1.0.' AFTER left_out,
    ADD COLUMN IF NOT EXISTS result_sha256 String COMMENT 'Hash of this row as text, with the hash of the standings in it. Empty for runs of 0.1.0.' AFTER standings_sha256
    SETTINGS alter_sync = 2;

CREATE TABLE IF NOT EXISTS awards_rows
(
    award_id String COMMENT 'Deterministic: tenant, campaign, number, player and step. No two records have the same id.',
    kind LowCardinality(String) COMMENT 'award when the campaign was settled, correction when a review published a difference afterwards.',
    tenant LowCardinality(String) COMMENT 'Tenant.',
    campaign LowCardinality(String) COMMENT 'Name in the definition.',
    title LowCardinality(String) COMMENT 'Title in the definition, empty if it has none.',
    settlement_id String COMMENT 'The settlement or review that published this record; see the topic settlements.',
    number Int32 COMMENT '0 for the settlement; reviews count from 1.',
    player_id String COMMENT 'Player in the tenant''s own numbering, or the person that the player is merged into.',
    rank Int64 COMMENT 'Rank by score, from 1; 0 in a correction of a player without a score.',
    step Int32 COMMENT 'Step of a challenge or mission, from 1; 0 in other forms.',
    score Decimal(38, 18) COMMENT 'What the campaign measured, as of as_of.',
    amount Decimal(38, 18) COMMENT 'What the player gets in money. In a correction: the whole amount, in the place of amount_before.',
    currency LowCardinality(Nullable(String)) COMMENT 'Currency that the campaign converts amounts to; null if its definition names none.',
    item Nullable(String) COMMENT 'What the player gets beside or in the place of money, as the definition names it; null for money alone.',
    item_count Nullable(Int64) COMMENT 'How many of the item.',
    corrects Nullable(String) COMMENT 'In a correction: the award_id of the award that it corrects, which a player who had no prize before does not have.',
    amount_before Nullable(Decimal(38, 18)) COMMENT 'In a correction: the amount until now, 0 if the player had no prize.',
    item_before Nullable(String) COMMENT 'In a correction: the item until now.',
    item_count_before Nullable(Int64) COMMENT 'In a correction: how many of the item until now.',
    reason String COMMENT 'Why a correction was published; empty for an award.',
    definition_sha256 String COMMENT 'Hash of the definition, as in campaign_runs.',
    as_of DateTime64(6, 'UTC') COMMENT 'Everything received until then was looked at, nothing else, UTC.',
    settled_at DateTime64(6, 'UTC') COMMENT 'When the record was written, UTC.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, campaign, player_id, award_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'A prize of a settled campaign, or a later correction of one: one award for each campaign, player and step. Topic awards.';

CREATE TABLE IF NOT EXISTS settlements_rows
(
    settlement_id String COMMENT 'Deterministic: tenant, campaign and number.',
    tenant LowCardinality(String) COMMENT 'Tenant.',
    campaign LowCardinality(String) COMMENT 'Name in the definition.',
    title LowCardinality(String) COMMENT 'Title in the definition, empty if it has none.',
    number Int32 COMMENT '0 for the settlement; reviews count from 1.',
    run_id String COMMENT 'The stored evaluation: its row in campaign_runs and its standings in campaign_results.',
    definition_sha256 String COMMENT 'Hash of the definition, as in campaign_runs.',
    result_sha256 String COMMENT 'Hash of the stored result; docs/campaigns.md has the command that computes it again.',
    as_of DateTime64(6, 'UTC') COMMENT 'Everything received until then was looked at, nothing else, UTC.',
    ended_at DateTime64(6, 'UTC') COMMENT 'End of the campaign''s period, UTC. Later than as_of only if the campaign was settled before its end.',
    settled_at DateTime64(6, 'UTC') COMMENT 'When the record was written, UTC.',
    settled_by String COMMENT 'Who settled or reviewed.',
    reason String COMMENT 'Why; empty for an ordinary settlement.',
    unsettled Int64 COMMENT 'Items received until as_of that had no outcome yet; above 0 only if the campaign was settled all the same.',
    players Int64 COMMENT 'Players with a score.',
    prizes Decimal(38, 18) COMMENT 'Sum of all prizes of the result in money.',
    awards Int64 COMMENT 'How many records this settlement or review wrote to awards.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, campaign, number)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'The end of a campaign, or a later review that published corrections. It is written in one transaction with its awards. Topic settlements, compacted.';

CREATE OR REPLACE VIEW awards AS SELECT * FROM awards_rows FINAL;

CREATE OR REPLACE VIEW settlements AS SELECT * FROM settlements_rows FINAL;
