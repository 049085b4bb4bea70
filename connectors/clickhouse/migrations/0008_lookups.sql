-- Questions about one batch, one event, or the newest batches read few granules. Existing parts have the
-- indexes after their next merge.

ALTER TABLE game_transactions_rows
    ADD INDEX IF NOT EXISTS by_batch batch_id TYPE bloom_filter(0.01) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS by_event event_id TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE payments_rows
    ADD INDEX IF NOT EXISTS by_batch batch_id TYPE bloom_filter(0.01) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS by_event event_id TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE player_events_rows
    ADD INDEX IF NOT EXISTS by_batch batch_id TYPE bloom_filter(0.01) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS by_event event_id TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE game_events_rows
    ADD INDEX IF NOT EXISTS by_batch batch_id TYPE bloom_filter(0.01) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS by_event event_id TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE logins_rows
    ADD INDEX IF NOT EXISTS by_batch batch_id TYPE bloom_filter(0.01) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS by_event event_id TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE sports_bets_rows
    ADD INDEX IF NOT EXISTS by_batch batch_id TYPE bloom_filter(0.01) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS by_event event_id TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE custom_events_rows
    ADD INDEX IF NOT EXISTS by_batch batch_id TYPE bloom_filter(0.01) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS by_event event_id TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE outcomes_rows
    ADD INDEX IF NOT EXISTS by_receipt received_at TYPE minmax GRANULARITY 1;

ALTER TABLE rejects_rows
    ADD INDEX IF NOT EXISTS by_receipt received_at TYPE minmax GRANULARITY 1;
