-- rounds_rows stores nothing any more: what a sink of this release or of 0.1.0 inserts there goes to
-- rounds_by_day_rows.

DROP TABLE IF EXISTS rounds_rows;

CREATE TABLE IF NOT EXISTS rounds_rows
(
    tenant LowCardinality(String) COMMENT 'Tenant.',
    player_id String COMMENT 'Player in the tenant''s own numbering.',
    round_id String COMMENT 'Round in the tenant''s own numbering.',
    segment Int64 COMMENT 'Offset in the staged partition at which this fold began. A second segment of a round exists only when an event came after the idempotency window had forgotten the first; their sums add up.',
    revision Int64 COMMENT 'Counts the revisions of this segment from 1; the highest is the newest.',
    source LowCardinality(String) COMMENT 'Format of the kind that reported the round.',
    source_event LowCardinality(String) COMMENT 'The one kind that may report this round; the same round reported by another kind is refused.',
    game_id LowCardinality(String) COMMENT 'Game of the round''s earliest event.',
    currency LowCardinality(String) COMMENT 'Currency of the amounts: ISO-4217, or a crypto code where the source allows one.',
    counts Bool COMMENT 'False when any of its events came while the tenant''s campaigns were disabled.',
    first_event_at DateTime64(6, 'UTC') COMMENT 'Earliest occurred_at among its events.',
    last_event_at DateTime64(6, 'UTC') COMMENT 'Latest occurred_at among its events.',
    last_received_at DateTime64(6, 'UTC') COMMENT 'Latest received_at among its events.',
    first_bet_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Earliest occurred_at among its bets. Null without a bet, in records of version 1, and in rounds with bets that a worker of 0.1.0 has written.',
    bet_count Int32 COMMENT 'Number of bets.',
    win_count Int32 COMMENT 'Number of wins.',
    loss_count Int32 COMMENT 'Number of loss messages.',
    rollback_bet_count Int32 COMMENT 'Number of bets rolled back.',
    rollback_win_count Int32 COMMENT 'Number of wins rolled back.',
    bet_amount Decimal(38, 18) COMMENT 'Sum of the bets, real and bonus.',
    bet_bonus_amount Decimal(38, 18) COMMENT 'Bonus part of bet_amount.',
    win_amount Decimal(38, 18) COMMENT 'Sum of the wins, real and bonus.',
    win_bonus_amount Decimal(38, 18) COMMENT 'Bonus part of win_amount.',
    rollback_bet_amount Decimal(38, 18) COMMENT 'Sum of the bets rolled back.',
    rollback_bet_bonus_amount Decimal(38, 18) COMMENT 'Bonus part of rollback_bet_amount.',
    rollback_win_amount Decimal(38, 18) COMMENT 'Sum of the wins rolled back.',
    rollback_win_bonus_amount Decimal(38, 18) COMMENT 'Bonus part of rollback_win_amount.',
    largest_win_amount Decimal(38, 18) COMMENT 'Largest single win, zero when there was none; a rollback does not lower it.',
    player_country LowCardinality(Nullable(String)) COMMENT 'Player''s country, as known at this revision.',
    player_currency LowCardinality(Nullable(String)) COMMENT 'Player''s main currency, as known at this revision.',
    player_affiliate LowCardinality(Nullable(String)) COMMENT 'Player''s affiliate, as known at this revision.',
    player_registered_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When the player registered, as known at this revision.',
    player_tags Array(String) COMMENT 'Player''s segment tags, as known at this revision.',
    game_name LowCardinality(Nullable(String)) COMMENT 'Game''s name, as known at this revision.',
    game_provider LowCardinality(Nullable(String)) COMMENT 'Game''s provider, as known at this revision.',
    game_categories Array(String) COMMENT 'Game''s categories, as known at this revision.',
    game_features Array(String) COMMENT 'Game''s features, as known at this revision.'
)
ENGINE = Null
COMMENT 'A round: the fold of its events so far, enriched with what was known of player and game when this revision was written. Topic rounds, compacted.';
