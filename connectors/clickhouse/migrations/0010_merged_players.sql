-- Players of one tenant that share a mobile number or an e-mail address are one person. Events keep the
-- player that they were posted with; persons are found when they are read. Only events that were received
-- while the tenant merged channels have contacts, so the data itself says which players are merged.
-- The KPI views count persons, and leave out test tenants, whose names end with .test.

CREATE TABLE IF NOT EXISTS merge_corrections
(
    tenant LowCardinality(String) COMMENT 'Tenant.',
    player_id String COMMENT 'A player who is not the same as other_player_id, or whose contact this is not; empty where the contact identifies nobody.',
    other_player_id String COMMENT 'The greater of two players who are not the same; otherwise empty.',
    contact_sha256 String COMMENT 'SHA-256 in hexadecimal of the contact as player_contacts has it; empty for two players. The contact itself is not stored.',
    holds Bool COMMENT 'Of several corrections with the same columns before this one the newest is valid; false takes them back.',
    corrected_at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'When it was made, UTC. Results for an earlier time do not use it.',
    corrected_by String COMMENT 'Who, as given or as the user''s login.',
    reason String COMMENT 'Why, as given.'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, player_id, other_player_id, contact_sha256, corrected_at)
COMMENT 'Corrections of merged players, by roundhouse player unmerge.';

-- One row for each contact of a player that was received until as_of: player_contacts_at(tenant = 'acme',
-- as_of = '2026-03-14 12:00:00'); tenant '' stands for all. A mobile number is its 7 to 15 digits without
-- a leading 00; an e-mail address is in lower case without spaces and has an @ after its first character.
-- Everything else is no contact.
CREATE OR REPLACE VIEW player_contacts_at AS
SELECT
    tenant,
    player_id,
    first_received_at,
    arrayJoin(arrayDistinct(arrayConcat(
        arrayMap(
            digits -> concat('mobile:', digits),
            arrayFilter(
                digits -> length(digits) BETWEEN 7 AND 15,
                arrayMap(said -> replaceRegexpOne(replaceRegexpAll(said, '[^0-9]', ''), '^00', ''), mobiles)
            )
        ),
        arrayMap(
            address -> concat('email:', address),
            arrayFilter(
                address -> position(address, '@') > 1,
                arrayMap(said -> replaceRegexpAll(lowerUTF8(said), '\\s', ''), emails)
            )
        )
    ))) AS contact
FROM
(
    SELECT
        tenant,
        player_id,
        min(received_at) AS first_received_at,
        groupUniqArray(mobile) AS mobiles,
        groupUniqArray(email) AS emails
    FROM custom_events_rows FINAL
    WHERE ({tenant:String} = '' OR tenant = {tenant:String})
        AND received_at <= toDateTime64({as_of:String}, 6, 'UTC')
        AND (isNotNull(mobile) OR isNotNull(email))
    GROUP BY tenant, player_id
);

-- One row for each player who is one person with others, with the contacts that join it to them, of what was
-- received and corrected until as_of. Two players who are not the same do not hold the contacts that both of them have.
-- person_id is the player of the person of whom a mobile number or an e-mail address was received first: it
-- stays when others join later.
-- sharing is a value: ClickHouse runs a table of a recursive query twice where that query is a view's.
-- walk has, for each player and contact, the earliest player that it has reached; each step goes over one
-- contact, and the walk ends when a step changes nothing.
CREATE OR REPLACE VIEW merged_players_at AS
WITH RECURSIVE
(
    SELECT (
        groupArrayIf((tenant, player_id, other_player_id), contact_sha256 = ''),
        groupArrayIf((tenant, player_id, contact_sha256), contact_sha256 != '')
    )
    FROM
    (
        SELECT tenant, player_id, other_player_id, contact_sha256
        FROM merge_corrections
        WHERE ({tenant:String} = '' OR tenant = {tenant:String})
            AND corrected_at <= toDateTime64({as_of:String}, 6, 'UTC')
        GROUP BY tenant, player_id, other_player_id, contact_sha256
        HAVING argMax(holds, corrected_at)
    )
) AS corrections,
(
    SELECT groupArray((tenant, contact, holders))
    FROM
    (
        SELECT
            tenant,
            contact,
            lower(hex(SHA256(contact))) AS sha256,
            arrayMap(holder -> holder.2, having_it) AS ids,
            arrayFilter(
                two -> two.1 = tenant AND has(ids, two.2) AND has(ids, two.3), corrections.1
            ) AS apart,
            arrayConcat(arrayMap(two -> two.2, apart), arrayMap(two -> two.3, apart)) AS separated,
            arrayMap(
                one -> one.2, arrayFilter(one -> one.1 = tenant AND one.3 = sha256, corrections.2)
            ) AS disowned,
            arrayFilter(
                holder -> NOT has(separated, holder.2) AND NOT has(disowned, holder.2)
                    AND NOT has(disowned, ''),
                having_it
            ) AS holders
        FROM
        (
            SELECT tenant, contact, groupArray((first_received_at, player_id)) AS having_it
            FROM $database.player_contacts_at(tenant = {tenant:String}, as_of = {as_of:String})
            GROUP BY tenant, contact
            HAVING length(having_it) > 1
        )
    )
    WHERE length(holders) > 1
) AS sharing,
walk AS
(
    SELECT shared.1 AS tenant, shared.2 AS contact, arrayJoin(shared.3) AS holder, holder AS earliest
    FROM (SELECT arrayJoin(sharing) AS shared)
    UNION ALL
    SELECT tenant, contact, holder, reached AS earliest
    FROM
    (
        SELECT *, max(reached != earliest) OVER () AS moves
        FROM
        (
            SELECT *, min(by_contact) OVER (PARTITION BY tenant, holder) AS reached
            FROM
            (
                SELECT *, min(earliest) OVER (PARTITION BY tenant, contact) AS by_contact
                FROM walk
            )
        )
    )
    WHERE moves
)
SELECT
    tenant,
    holder.2 AS player_id,
    min(earliest).2 AS person_id,
    arraySort(groupUniqArray(contact)) AS contacts
FROM walk
GROUP BY tenant, holder;

CREATE OR REPLACE VIEW player_contacts AS
SELECT * FROM $database.player_contacts_at(tenant = '', as_of = '2299-12-31 00:00:00');

CREATE OR REPLACE VIEW merged_players AS
SELECT * FROM $database.merged_players_at(tenant = '', as_of = '2299-12-31 00:00:00');

-- The rounds of all players, merged or not, with the person of each.
CREATE OR REPLACE VIEW rounds_by_person AS
WITH
(
    SELECT (groupArray(concat(tenant, '|', player_id)), groupArray(person_id)) FROM merged_players
) AS merged
SELECT *, transform(concat(tenant, '|', player_id), merged.1, merged.2, player_id) AS person_id
FROM rounds;

-- One row a person: the newest value of each field over its players, by event time.
CREATE OR REPLACE VIEW persons AS
WITH
(
    SELECT (groupArray(concat(tenant, '|', player_id)), groupArray(person_id)) FROM merged_players
) AS merged
SELECT
    tenant,
    transform(concat(tenant, '|', player_id), merged.1, merged.2, player_id) AS person_id,
    arraySort(groupUniqArray(player_id)) AS player_ids,
    argMaxIf(username, (occurred_at, source_event, event_id), isNotNull(username)) AS username,
    argMaxIf(registered_at, (occurred_at, source_event, event_id), isNotNull(registered_at)) AS registered_at,
    argMaxIf(country, (occurred_at, source_event, event_id), isNotNull(country)) AS country,
    argMaxIf(currency, (occurred_at, source_event, event_id), isNotNull(currency)) AS currency,
    argMaxIf(gender, (occurred_at, source_event, event_id), isNotNull(gender)) AS gender,
    argMaxIf(affiliate, (occurred_at, source_event, event_id), isNotNull(affiliate)) AS affiliate,
    argMaxIf(operator, (occurred_at, source_event, event_id), isNotNull(operator)) AS operator,
    argMaxIf(tags, (occurred_at, source_event, event_id), has_tags) AS tags,
    argMaxIf(consent_email, (occurred_at, source_event, event_id), isNotNull(consent_email)) AS consent_email,
    argMaxIf(is_blocked, (occurred_at, source_event, event_id), isNotNull(is_blocked)) AS is_blocked,
    argMaxIf(is_promo_banned, (occurred_at, source_event, event_id), isNotNull(is_promo_banned)) AS is_promo_banned,
    argMaxIf(mobile, (occurred_at, source_event, event_id), isNotNull(mobile)) AS mobile,
    argMaxIf(email, (occurred_at, source_event, event_id), isNotNull(email)) AS email,
    max(occurred_at) AS updated_at
FROM player_events_rows FINAL
GROUP BY tenant, person_id;

ALTER TABLE player_contacts
    MODIFY COMMENT 'A contact of a player, as it was compared.',
    COMMENT COLUMN tenant 'Tenant.',
    COMMENT COLUMN player_id 'Player in the tenant''s own numbering.',
    COMMENT COLUMN first_received_at 'When a mobile number or an e-mail address of the player was received for the first time, UTC.',
    COMMENT COLUMN contact 'mobile: and digits, or email: and the address in lower case.';

ALTER TABLE merged_players
    MODIFY COMMENT 'A player who is one person with others.',
    COMMENT COLUMN tenant 'Tenant.',
    COMMENT COLUMN player_id 'Player in the tenant''s own numbering.',
    COMMENT COLUMN person_id 'The player of this person of whom a mobile number or an e-mail address was received first.',
    COMMENT COLUMN contacts 'The contacts that the player shares with others of this person.';

ALTER TABLE rounds_by_person
    MODIFY COMMENT 'A round, its newest revision, with the person who played it.',
    COMMENT COLUMN stake 'Bets less rolled-back bets, real and bonus.',
    COMMENT COLUMN payout 'Wins less rolled-back wins, real and bonus.',
    COMMENT COLUMN ggr 'Gross gaming revenue: stake less payout.',
    COMMENT COLUMN bonus_stake 'Bonus part of stake.',
    COMMENT COLUMN bonus_payout 'Bonus part of payout.',
    COMMENT COLUMN person_id 'player_id, or the person that it is merged into.';

ALTER TABLE persons
    MODIFY COMMENT 'A person with the newest value of every field over its players, by event time.',
    COMMENT COLUMN person_id 'The player, or of merged players the one of whom a mobile number or an e-mail address was received first.',
    COMMENT COLUMN player_ids 'The players of this person that an event tells of.',
    COMMENT COLUMN updated_at 'Time of the latest event that told of one of the players, UTC.';

-- Play by a time grain and a dimension, in each currency or in one: kpi_play(grain = 'day',
-- by = 'provider', reporting = 'EUR'). grain: hour, day, week, month. by: tenant, game, provider,
-- category (the first of the game's), country, currency. reporting: a currency, or '' for each its own.
-- Time is the round's first event, UTC. A round whose currency has no rate on or before its day is
-- counted in unconverted_rounds and in nothing else. Players who are merged are one active player.
CREATE OR REPLACE VIEW kpi_play AS
WITH
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
    WHERE NOT endsWith(tenant, '.test')
),
priced AS
(
    SELECT
        *,
        if({reporting:String} IN ('', base), toDecimal128(1, 18), day_rate) AS rate
    FROM played
    ASOF LEFT JOIN price USING (base, day)
)
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
    turnover - paid_out AS ggr,
    ggr - sum(toDecimal128(toDecimal256(bonus_stake, 18) * rate, 18))
        + sum(toDecimal128(toDecimal256(bonus_payout, 18) * rate, 18)) AS ngr,
    if(turnover = 0, NULL, toFloat64(paid_out) / toFloat64(turnover)) AS rtp,
    if(turnover = 0, NULL, toFloat64(ggr) / toFloat64(turnover)) AS hold,
    if(active_players = 0, NULL, toFloat64(ggr) / active_players) AS arpu
FROM priced
GROUP BY tenant, period, value, currency;

-- Money in and out, alike: kpi_cash(grain = 'day', by = 'country', reporting = '').
-- by: tenant, country, affiliate, method, currency. A first-time depositor is counted where the
-- person's first successful deposit of all lies; the players of a person are one depositor.
CREATE OR REPLACE VIEW kpi_cash AS
WITH
(
    SELECT (groupArray(concat(tenant, '|', player_id)), groupArray(person_id)) FROM merged_players
) AS merged,
price AS
(
    SELECT base, day, argMax(rate, imported_at) AS day_rate
    FROM rates FINAL
    WHERE quote = {reporting:String}
    GROUP BY base, day
),
moved AS
(
    SELECT
        tenant,
        player_id,
        payment_id,
        direction,
        min(occurred_at) AS at,
        argMin(currency, (occurred_at, source_event, event_id)) AS base,
        argMin(method, (occurred_at, source_event, event_id)) AS method,
        argMin(amount, (occurred_at, source_event, event_id)) AS amount,
        toDate(at) AS day
    FROM payments
    WHERE successful AND direction IN ('deposit', 'withdrawal') AND NOT endsWith(tenant, '.test')
    GROUP BY tenant, player_id, payment_id, direction
),
owned AS
(
    SELECT
        *,
        transform(concat(tenant, '|', player_id), merged.1, merged.2, player_id) AS person_id
    FROM moved
),
numbered AS
(
    SELECT
        *,
        direction = 'deposit' AND row_number() OVER
            (PARTITION BY tenant, person_id, direction ORDER BY at, payment_id, player_id) = 1 AS is_first
    FROM owned
),
known AS
(
    SELECT
        numbered.*,
        multiIf(
            {by:String} = 'country', toString(ifNull(country, '')),
            {by:String} = 'affiliate', toString(ifNull(affiliate, '')),
            {by:String} = 'method', toString(method),
            {by:String} = 'currency', toString(base),
            {by:String} = 'tenant', '',
            throwIf({by:String} != '', 'by must be tenant, country, affiliate, method or currency')::String
        ) AS value
    FROM numbered
    LEFT JOIN (SELECT tenant, person_id, country, affiliate FROM persons) AS about USING (tenant, person_id)
),
priced AS
(
    SELECT
        *,
        if({reporting:String} IN ('', base), toDecimal128(1, 18), day_rate) AS rate,
        toDecimal128(toDecimal256(amount, 18) * rate, 18) AS converted
    FROM known
    ASOF LEFT JOIN price USING (base, day)
)
SELECT
    tenant,
    dateTrunc({grain:String}, at, 'UTC') AS period,
    value,
    if({reporting:String} = '', toString(base), {reporting:String}) AS currency,
    countIf(direction = 'deposit' AND rate > 0) AS deposits,
    sumIf(converted, direction = 'deposit') AS deposited,
    countIf(direction = 'withdrawal' AND rate > 0) AS withdrawals,
    sumIf(converted, direction = 'withdrawal') AS withdrawn,
    deposited - withdrawn AS net_deposits,
    uniqExactIf(person_id, direction = 'deposit') AS depositors,
    countIf(is_first) AS first_time_depositors,
    countIf(rate = 0) AS unconverted_payments
FROM priced
GROUP BY tenant, period, value, currency;
