-- Players who were erased, without what identified them.

CREATE TABLE IF NOT EXISTS erasures
(
    erasure_id UUID COMMENT 'Id of the erasure.',
    erased_at DateTime64(6, 'UTC') COMMENT 'When it was finished, UTC.',
    erased_by String COMMENT 'Who, as given or as the user''s login.',
    reason String COMMENT 'Why, as given.',
    tenant LowCardinality(String) COMMENT 'Tenant.',
    pseudonym String COMMENT 'The random player_id under which the player''s rows stand now. Nothing leads from it to the player.',
    changed Map(String, UInt64) COMMENT 'How many rows were changed, by table.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, erasure_id)
COMMENT 'Erased players, by roundhouse player erase.';
