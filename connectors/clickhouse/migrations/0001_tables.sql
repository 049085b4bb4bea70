-- One table for each contract in avro/, column by column; the views of 0002 read them exactly.

CREATE TABLE IF NOT EXISTS game_transactions_rows
(
    tenant LowCardinality(String) COMMENT 'Tenant the edge found behind the API key.',
    source LowCardinality(String) COMMENT 'Format in which the operator posted the event.',
    batch_id String COMMENT 'Id the edge gave to the request (x-batch-id on its answer).',
    received_at DateTime64(6, 'UTC') COMMENT 'When the edge took the request in, UTC.',
    counts Bool COMMENT 'False when the tenant''s campaigns were disabled at receipt: the event is stored but takes part in no campaign.',
    position Int32 COMMENT 'Index of the item in the request''s list, from 0.',
    source_event LowCardinality(String) COMMENT 'Kind name in the source format, e.g. gameround or realtime-casino.',
    event_id String COMMENT 'Id that makes the event unique within tenant, source and source_event.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When the event happened according to the platform, UTC. Gameball sends no time: there it is received_at.',
    player_id String COMMENT 'Player in the tenant''s own numbering.',
    round_id String COMMENT 'Round that joins bets and wins; for realtime-gameround it is the unique_id.',
    game_id LowCardinality(String) COMMENT 'Game in the tenant''s own numbering.',
    type LowCardinality(String) COMMENT 'What happened. A realtime-gameround becomes a bet and, if it won, a win.',
    amount Decimal(38, 18) COMMENT 'Total amount, real and bonus money together, zero or more.',
    bonus_amount Decimal(38, 18) COMMENT 'Part of amount that is bonus money, between zero and amount.',
    currency LowCardinality(String) COMMENT 'Currency of the amounts: ISO-4217, or a crypto code where the source allows one.',
    base_amount Nullable(Decimal(38, 18)) COMMENT 'The amount in the platform''s base currency, where the platform sent one.',
    reporting_currency LowCardinality(Nullable(String)) COMMENT 'Currency the platform reports in (meta_reporting_currency), where sent.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, player_id, round_id, source, source_event, event_id, type)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'A bet, win, loss or rollback within a round. Topic canonical.game-transactions.';

CREATE TABLE IF NOT EXISTS payments_rows
(
    tenant LowCardinality(String) COMMENT 'Tenant the edge found behind the API key.',
    source LowCardinality(String) COMMENT 'Format in which the operator posted the event.',
    batch_id String COMMENT 'Id the edge gave to the request (x-batch-id on its answer).',
    received_at DateTime64(6, 'UTC') COMMENT 'When the edge took the request in, UTC.',
    counts Bool COMMENT 'False when the tenant''s campaigns were disabled at receipt: the event is stored but takes part in no campaign.',
    position Int32 COMMENT 'Index of the item in the request''s list, from 0.',
    source_event LowCardinality(String) COMMENT 'Kind name in the source format, e.g. gameround or realtime-casino.',
    event_id String COMMENT 'Id that makes the event unique within tenant, source and source_event.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When the event happened according to the platform, UTC. Gameball sends no time: there it is received_at.',
    player_id String COMMENT 'Player in the tenant''s own numbering.',
    payment_id String COMMENT 'Payment the event belongs to; a payment passes through several states under one id.',
    direction LowCardinality(String) COMMENT 'Which way the money goes, read from type: deposit or credit, withdraw, withdrawal or debit; anything else is other.',
    type LowCardinality(String) COMMENT 'Type as the platform named it.',
    status LowCardinality(String) COMMENT 'Status as the platform named it; Approved for the native kinds, which are sent only after success.',
    successful Bool COMMENT 'True when the money has moved: native always, FastTrack when status is approved, completed, success or successful in any case.',
    amount Decimal(38, 18) COMMENT 'Amount in currency.',
    currency LowCardinality(String) COMMENT 'Currency of the amounts: ISO-4217, or a crypto code where the source allows one.',
    base_amount Nullable(Decimal(38, 18)) COMMENT 'FastTrack base_amount, the amount in the platform''s base currency, where sent.',
    amount_eur Nullable(Decimal(38, 18)) COMMENT 'Native amount_eur, where sent.',
    method LowCardinality(String) COMMENT 'Payment method or vendor name.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, player_id, source, source_event, event_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'A deposit or withdrawal in one of its states. Topic canonical.payments.';

CREATE TABLE IF NOT EXISTS player_events_rows
(
    tenant LowCardinality(String) COMMENT 'Tenant the edge found behind the API key.',
    source LowCardinality(String) COMMENT 'Format in which the operator posted the event.',
    batch_id String COMMENT 'Id the edge gave to the request (x-batch-id on its answer).',
    received_at DateTime64(6, 'UTC') COMMENT 'When the edge took the request in, UTC.',
    counts Bool COMMENT 'False when the tenant''s campaigns were disabled at receipt: the event is stored but takes part in no campaign.',
    position Int32 COMMENT 'Index of the item in the request''s list, from 0.',
    source_event LowCardinality(String) COMMENT 'Kind name in the source format, e.g. gameround or realtime-casino.',
    event_id String COMMENT 'Id that makes the event unique within tenant, source and source_event.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When the event happened according to the platform, UTC. Gameball sends no time: there it is received_at.',
    player_id String COMMENT 'Player in the tenant''s own numbering.',
    username Nullable(String) COMMENT 'Player''s user name; null when this event does not say.',
    registered_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When the player registered, UTC; null when this event does not say.',
    country LowCardinality(Nullable(String)) COMMENT 'Player''s country as sent; null when this event does not say.',
    currency LowCardinality(Nullable(String)) COMMENT 'Player''s main currency; null when this event does not say.',
    gender LowCardinality(Nullable(String)) COMMENT 'Gender as sent, M or F in the native format; null when this event does not say.',
    affiliate LowCardinality(Nullable(String)) COMMENT 'Affiliate that brought the player; null when this event does not say.',
    operator LowCardinality(Nullable(String)) COMMENT 'Operator identifier of the game provider or aggregator; null when this event does not say.',
    has_tags Bool COMMENT 'True when this event sets the tags (an empty list clears them).',
    tags Array(String) COMMENT 'Segment tags; meaningful only where has_tags is true.',
    consent_email Nullable(Bool) COMMENT 'Consent to e-mail; null when this event does not say.',
    is_blocked Nullable(Bool) COMMENT 'Whether the player is blocked; null when this event does not say.',
    is_promo_banned Nullable(Bool) COMMENT 'FastTrack segmentation_isPromoBanned; null when this event does not say.',
    mobile Nullable(String) COMMENT 'Mobile number, kept only where the tenant merges channels; null when this event does not say.',
    email Nullable(String) COMMENT 'E-mail address, kept only where the tenant merges channels; null when this event does not say.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, player_id, source, source_event, event_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What one event says about a player; fields it does not mention are null. Topic canonical.players.';

CREATE TABLE IF NOT EXISTS game_events_rows
(
    tenant LowCardinality(String) COMMENT 'Tenant the edge found behind the API key.',
    source LowCardinality(String) COMMENT 'Format in which the operator posted the event.',
    batch_id String COMMENT 'Id the edge gave to the request (x-batch-id on its answer).',
    received_at DateTime64(6, 'UTC') COMMENT 'When the edge took the request in, UTC.',
    counts Bool COMMENT 'False when the tenant''s campaigns were disabled at receipt: the event is stored but takes part in no campaign.',
    position Int32 COMMENT 'Index of the item in the request''s list, from 0.',
    source_event LowCardinality(String) COMMENT 'Kind name in the source format, e.g. gameround or realtime-casino.',
    event_id String COMMENT 'Id that makes the event unique within tenant, source and source_event.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When the event happened according to the platform, UTC. Gameball sends no time: there it is received_at.',
    game_id LowCardinality(String) COMMENT 'Game in the tenant''s own numbering.',
    name Nullable(String) COMMENT 'Name; null when this event does not say.',
    provider LowCardinality(Nullable(String)) COMMENT 'Provider; null when this event does not say.',
    has_categories Bool COMMENT 'True when this event sets the categories.',
    categories Array(String) COMMENT 'Categories; meaningful only where has_categories is true.',
    has_features Bool COMMENT 'True when this event sets the features.',
    features Array(String) COMMENT 'Features; meaningful only where has_features is true.',
    has_themes Bool COMMENT 'True when this event sets the themes.',
    themes Array(String) COMMENT 'Themes; meaningful only where has_themes is true.',
    device LowCardinality(Nullable(String)) COMMENT 'Device the game is for; null when this event does not say (read it as ''undefined'').',
    has_freespins LowCardinality(Nullable(String)) COMMENT 'Whether the game has free spins; null when this event does not say.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, game_id, source, source_event, event_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What one event says about a game; fields it does not mention are null. Topic canonical.games.';

CREATE TABLE IF NOT EXISTS logins_rows
(
    tenant LowCardinality(String) COMMENT 'Tenant the edge found behind the API key.',
    source LowCardinality(String) COMMENT 'Format in which the operator posted the event.',
    batch_id String COMMENT 'Id the edge gave to the request (x-batch-id on its answer).',
    received_at DateTime64(6, 'UTC') COMMENT 'When the edge took the request in, UTC.',
    counts Bool COMMENT 'False when the tenant''s campaigns were disabled at receipt: the event is stored but takes part in no campaign.',
    position Int32 COMMENT 'Index of the item in the request''s list, from 0.',
    source_event LowCardinality(String) COMMENT 'Kind name in the source format, e.g. gameround or realtime-casino.',
    event_id String COMMENT 'Id that makes the event unique within tenant, source and source_event.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When the event happened according to the platform, UTC. Gameball sends no time: there it is received_at.',
    player_id String COMMENT 'Player in the tenant''s own numbering.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, player_id, source, source_event, event_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'A player logged in. Topic canonical.logins.';

CREATE TABLE IF NOT EXISTS sports_bets_rows
(
    tenant LowCardinality(String) COMMENT 'Tenant the edge found behind the API key.',
    source LowCardinality(String) COMMENT 'Format in which the operator posted the event.',
    batch_id String COMMENT 'Id the edge gave to the request (x-batch-id on its answer).',
    received_at DateTime64(6, 'UTC') COMMENT 'When the edge took the request in, UTC.',
    counts Bool COMMENT 'False when the tenant''s campaigns were disabled at receipt: the event is stored but takes part in no campaign.',
    position Int32 COMMENT 'Index of the item in the request''s list, from 0.',
    source_event LowCardinality(String) COMMENT 'Kind name in the source format, e.g. gameround or realtime-casino.',
    event_id String COMMENT 'Id that makes the event unique within tenant, source and source_event.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When the event happened according to the platform, UTC. Gameball sends no time: there it is received_at.',
    player_id String COMMENT 'Player in the tenant''s own numbering.',
    activity_id String COMMENT 'Bet the event belongs to; it passes through several states under one id.',
    activity_id_reference String COMMENT 'Activity this one refers to.',
    type LowCardinality(String) COMMENT 'Type as the platform named it, e.g. Bet or Win.',
    status LowCardinality(String) COMMENT 'Status as the platform named it.',
    bet_type LowCardinality(String) COMMENT 'Kind of slip.',
    amount Decimal(38, 18) COMMENT 'Amount in currency, zero or more.',
    bonus_amount Decimal(38, 18) COMMENT 'Part of amount that is bonus money.',
    currency LowCardinality(String) COMMENT 'Currency of the amounts: ISO-4217, or a crypto code where the source allows one.',
    odds Nullable(Decimal(38, 18)) COMMENT 'Decimal odds of the slip, where sent.',
    total_odds Nullable(Decimal(38, 18)) COMMENT 'Total decimal odds of the slip, where sent.',
    is_cashout Bool COMMENT 'Whether the bet was cashed out.',
    selections Array(Tuple(is_free_bet Bool, is_risk_free_bet Bool, is_live Bool, tournament_name String, sports_name String, odds Decimal(38, 18), event_name Nullable(String), market Nullable(String), match_start Nullable(DateTime64(6, 'UTC')), outcomes String, meta String)) COMMENT 'The legs of the bet.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, player_id, source, source_event, event_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'A sports bet in one of its states. Topic canonical.sports-bets.';

CREATE TABLE IF NOT EXISTS custom_events_rows
(
    tenant LowCardinality(String) COMMENT 'Tenant the edge found behind the API key.',
    source LowCardinality(String) COMMENT 'Format in which the operator posted the event.',
    batch_id String COMMENT 'Id the edge gave to the request (x-batch-id on its answer).',
    received_at DateTime64(6, 'UTC') COMMENT 'When the edge took the request in, UTC.',
    counts Bool COMMENT 'False when the tenant''s campaigns were disabled at receipt: the event is stored but takes part in no campaign.',
    position Int32 COMMENT 'Index of the item in the request''s list, from 0.',
    source_event LowCardinality(String) COMMENT 'Kind name in the source format, e.g. gameround or realtime-casino.',
    event_id String COMMENT 'Id that makes the event unique within tenant, source and source_event.',
    occurred_at DateTime64(6, 'UTC') COMMENT 'When the event happened according to the platform, UTC. Gameball sends no time: there it is received_at.',
    player_id String COMMENT 'Player in the tenant''s own numbering.',
    mobile Nullable(String) COMMENT 'Mobile number sent with the request; kept only where the tenant merges channels.',
    email Nullable(String) COMMENT 'E-mail address sent with the request; kept only where the tenant merges channels.',
    name String COMMENT 'Name of the event.',
    numbers Map(String, Decimal(38, 18)) COMMENT 'Metadata whose value is a number.',
    strings Map(String, String) COMMENT 'Metadata whose value is a string.',
    lists Map(String, Array(String)) COMMENT 'Metadata whose value is a list; numbers in it stand as their JSON text.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, player_id, source, source_event, event_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'A named event with free metadata. Topic canonical.custom-events.';

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
ENGINE = ReplacingMergeTree(revision)
ORDER BY (tenant, player_id, round_id, segment)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'A round: the fold of its events so far, enriched with what was known of player and game when this revision was written. Topic rounds, compacted.';

CREATE TABLE IF NOT EXISTS rejects_rows
(
    reject_id String COMMENT 'Deterministic: raw partition, raw offset, position and stage. A replay writes the same id.',
    tenant LowCardinality(String) COMMENT 'Tenant, empty when the raw record named none.',
    source LowCardinality(String) COMMENT 'Format, empty when the raw record named none.',
    batch_id String COMMENT 'Batch, empty when the raw record named none.',
    received_at DateTime64(6, 'UTC') COMMENT 'When the edge took the request in, UTC.',
    position Int32 COMMENT 'Index of the item in the request''s list; -1 when the record as a whole was refused.',
    raw_partition Int32 COMMENT 'Partition of raw.batches that holds the request.',
    raw_offset Int64 COMMENT 'Its offset there.',
    stage LowCardinality(String) COMMENT 'Which stage refused it.',
    outcome LowCardinality(String) COMMENT 'conflict when it contradicts what was accepted before, rejected when it is invalid in itself.',
    code LowCardinality(String) COMMENT 'Code of the first error.',
    errors Array(Tuple(code String, pointer String, message String)) COMMENT 'Every error found.',
    payload_format LowCardinality(String) COMMENT 'item: the item''s JSON bytes as posted. record: the whole raw record. canonical: the translated event as JSON (its posted bytes stand in raw.batches at raw_partition and raw_offset).',
    payload String COMMENT 'What was refused, in payload_format.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, reject_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'An item that was refused, with all its errors. Topic rejects.';

CREATE TABLE IF NOT EXISTS outcomes_rows
(
    outcome_id String COMMENT 'Deterministic: raw partition, raw offset, stage, staged partition and part. A replay writes the same id.',
    tenant LowCardinality(String) COMMENT 'Tenant, empty when the raw record named none.',
    source LowCardinality(String) COMMENT 'Format, empty when the raw record named none.',
    batch_id String COMMENT 'Batch, empty when the raw record named none.',
    received_at DateTime64(6, 'UTC') COMMENT 'When the edge took the request in, UTC.',
    raw_partition Int32 COMMENT 'Partition of raw.batches that holds the request.',
    raw_offset Int64 COMMENT 'Its offset there.',
    stage LowCardinality(String) COMMENT 'Which stage counted.',
    received Int32 COMMENT 'Items in the request; only translate counts these.',
    accepted Int32 COMMENT 'Items that count; only process counts these.',
    duplicate Int32 COMMENT 'Items seen before with the same content.',
    conflict Int32 COMMENT 'Items that contradict what was accepted before: same id with other content, or a round in two currencies or reported by two kinds.',
    rejected Int32 COMMENT 'Invalid items.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, batch_id, outcome_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What became of a batch''s items in one stage; the sum over a batch''s records is its accounting. Topic outcomes.';
