-- Rounds in the order of time, each month a partition of its own, so that a question about a period reads that
-- period; with the time of a round's first bet, by which campaigns date the round.
--
-- A row stands under the day of the round's first event, and once more under each later day up to that of its last
-- event. It is the round's where day is that of its first event. A later revision may move the first event to an
-- earlier day: its copy under the day that it has left replaces the row that stood there. Of a round whose events lie more
-- than 62 days apart, which only wrong clocks make, the newest revision is looked for when it is read. At most 62 days before the
-- last event have a copy, beside those of the first event and of the first bet.

ALTER TABLE rounds_rows ADD COLUMN IF NOT EXISTS first_bet_at Nullable(DateTime64(6, 'UTC')) COMMENT 'Earliest occurred_at among its bets. Null without a bet, in records of version 1, and in rounds with bets that a worker of 0.1.0 has written.' AFTER last_received_at;

CREATE TABLE IF NOT EXISTS rounds_by_day_rows
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
    game_features Array(String) COMMENT 'Game''s features, as known at this revision.',
    day Date32 DEFAULT toDate32(first_event_at) COMMENT 'The day under which this row stands, UTC: from that of the first event to that of the last.',
    in_doubt Bool DEFAULT (bet_count > 0 AND isNull(first_bet_at)) OR last_received_at > last_event_at + toIntervalDay(30) COMMENT 'The time of the first bet is not known, or the row may be a later segment of a round: campaigns read the events of the round instead. roundhouse rounds rebuild compares the row with them and sets this to false.',
    INDEX by_receipt last_received_at TYPE minmax GRANULARITY 1,
    INDEX by_player player_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_first_event first_event_at TYPE minmax GRANULARITY 1,
    INDEX by_doubt in_doubt TYPE minmax GRANULARITY 1,
    INDEX by_span dateDiff('day', first_event_at, last_event_at) TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMM(day)
ORDER BY (tenant, day, player_id, round_id, segment)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'A round: the fold of its events so far, enriched with what was known of player and game when this revision was written.';

ALTER TABLE rounds_by_day_rows MODIFY SETTING merge_selector_base = 10, min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

-- Where all events of a round have one time, it is that of the first bet, also in records of version 1.
CREATE MATERIALIZED VIEW IF NOT EXISTS rounds_under_their_days TO rounds_by_day_rows AS
SELECT
    * REPLACE (if(bet_count > 0 AND first_event_at = last_event_at, first_event_at, first_bet_at) AS first_bet_at),
    arrayJoin(arrayDistinct(arrayConcat(
        [toDate32(first_event_at), toDate32(ifNull(first_bet_at, first_event_at))],
        arrayMap(
            number -> toDate32(last_event_at) - number,
            range(toUInt16(greatest(0, least(62, dateDiff('day', first_event_at, last_event_at)))))
        )
    ))) AS day
FROM rounds_rows;

-- What was stored before; what a sink inserts meanwhile is in both.
INSERT INTO rounds_by_day_rows (* EXCEPT (in_doubt))
SELECT
    * REPLACE (if(bet_count > 0 AND first_event_at = last_event_at, first_event_at, first_bet_at) AS first_bet_at),
    arrayJoin(arrayDistinct(arrayConcat(
        [toDate32(first_event_at), toDate32(ifNull(first_bet_at, first_event_at))],
        arrayMap(
            number -> toDate32(last_event_at) - number,
            range(toUInt16(greatest(0, least(62, dateDiff('day', first_event_at, last_event_at)))))
        )
    ))) AS day
FROM rounds_rows
SETTINGS max_partitions_per_insert_block = 0;

-- The newest events are in the newest parts, so the time finds them. Existing parts have the index after their
-- next merge.
ALTER TABLE game_transactions_rows ADD INDEX IF NOT EXISTS by_time occurred_at TYPE minmax GRANULARITY 1;

-- stake and payout are net of rollbacks; ggr is what the house keeps of the round.
CREATE OR REPLACE VIEW rounds AS
SELECT
    * EXCEPT (in_doubt),
    bet_amount - rollback_bet_amount AS stake,
    win_amount - rollback_win_amount AS payout,
    stake - payout AS ggr,
    bet_bonus_amount - rollback_bet_bonus_amount AS bonus_stake,
    win_bonus_amount - rollback_win_bonus_amount AS bonus_payout
FROM rounds_by_day_rows FINAL
WHERE day = toDate32(first_event_at)
    AND (
        (tenant, player_id, round_id, segment) NOT IN (
            SELECT tenant, player_id, round_id, segment
            FROM rounds_by_day_rows
            WHERE dateDiff('day', first_event_at, last_event_at) > 62
        )
        OR (tenant, player_id, round_id, segment, revision) IN (
            SELECT tenant, player_id, round_id, segment, max(revision)
            FROM rounds_by_day_rows
            WHERE dateDiff('day', first_event_at, last_event_at) > 62
            GROUP BY tenant, player_id, round_id, segment
        )
    );

-- The rounds of all players, merged or not, with the person of each.
CREATE OR REPLACE VIEW rounds_by_person AS
WITH
(
    SELECT (groupArray(concat(tenant, '|', player_id)), groupArray(person_id)) FROM merged_players
) AS merged
SELECT *, transform(concat(tenant, '|', player_id), merged.1, merged.2, player_id) AS person_id
FROM rounds;

ALTER TABLE rounds
    MODIFY COMMENT 'A round, its newest revision.',
    COMMENT COLUMN day 'Day of the first event, UTC. A condition on it reads the rounds of its days alone.',
    COMMENT COLUMN stake 'Bets less rolled-back bets, real and bonus.',
    COMMENT COLUMN payout 'Wins less rolled-back wins, real and bonus.',
    COMMENT COLUMN ggr 'Gross gaming revenue: stake less payout.',
    COMMENT COLUMN bonus_stake 'Bonus part of stake.',
    COMMENT COLUMN bonus_payout 'Bonus part of payout.';

ALTER TABLE rounds_by_person
    MODIFY COMMENT 'A round, its newest revision, with the person who played it.',
    COMMENT COLUMN day 'Day of the first event, UTC. A condition on it reads the rounds of its days alone.',
    COMMENT COLUMN stake 'Bets less rolled-back bets, real and bonus.',
    COMMENT COLUMN payout 'Wins less rolled-back wins, real and bonus.',
    COMMENT COLUMN ggr 'Gross gaming revenue: stake less payout.',
    COMMENT COLUMN bonus_stake 'Bonus part of stake.',
    COMMENT COLUMN bonus_payout 'Bonus part of payout.',
    COMMENT COLUMN person_id 'player_id, or the person that it is merged into.';
