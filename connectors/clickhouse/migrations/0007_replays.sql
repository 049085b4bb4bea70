-- Who replayed which rejects.

CREATE TABLE IF NOT EXISTS replays
(
    replay_id UUID COMMENT 'Id of the command that replayed it.',
    replayed_at DateTime64(6, 'UTC') COMMENT 'When, UTC.',
    replayed_by String COMMENT 'Who, as given or as the user''s login.',
    reason String COMMENT 'Why, as given.',
    tenant LowCardinality(String) COMMENT 'Tenant.',
    reject_id String COMMENT 'The reject that was replayed.',
    batch_id String COMMENT 'The batch that the item was written in again. It is in batches once the line has read it.',
    mended Bool COMMENT 'Whether the item was changed before it was replayed.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, reject_id, replay_id)
COMMENT 'Rejects that were replayed, by roundhouse rejects replay.';
