-- Who accepted which conflict as a correction.

CREATE TABLE IF NOT EXISTS corrections
(
    corrected_at DateTime64(6, 'UTC') COMMENT 'When, UTC.',
    corrected_by String COMMENT 'Who, as given or as the user''s login.',
    reason String COMMENT 'Why, as given.',
    tenant LowCardinality(String) COMMENT 'Tenant.',
    reject_id String COMMENT 'The conflict that was accepted.',
    batch_id String COMMENT 'The batch of the correction. It is in batches once the line has read it; if it counts a conflict, the line has refused it.',
    source LowCardinality(String) COMMENT 'Format in which both items were posted.',
    source_event LowCardinality(String) COMMENT 'Kind name in the source format.',
    event_id String COMMENT 'Id of both items.',
    replaced String COMMENT 'JSON of the canonical events that were accepted before, in a list.',
    replacement String COMMENT 'JSON of the canonical events that replace them, in a list.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, reject_id, corrected_at)
COMMENT 'Conflicts that were accepted as corrections, by roundhouse rejects accept.';
