-- What analysts read: no duplicates, newest revisions, exact at read.

CREATE OR REPLACE VIEW game_transactions AS SELECT * FROM game_transactions_rows FINAL;

CREATE OR REPLACE VIEW payments AS SELECT * FROM payments_rows FINAL;

CREATE OR REPLACE VIEW player_events AS SELECT * FROM player_events_rows FINAL;

CREATE OR REPLACE VIEW game_events AS SELECT * FROM game_events_rows FINAL;

CREATE OR REPLACE VIEW logins AS SELECT * FROM logins_rows FINAL;

CREATE OR REPLACE VIEW sports_bets AS SELECT * FROM sports_bets_rows FINAL;

CREATE OR REPLACE VIEW custom_events AS SELECT * FROM custom_events_rows FINAL;

CREATE OR REPLACE VIEW rejects AS SELECT * FROM rejects_rows FINAL;

CREATE OR REPLACE VIEW outcomes AS SELECT * FROM outcomes_rows FINAL;

-- stake and payout are net of rollbacks; ggr is what the house keeps of the round.
CREATE OR REPLACE VIEW rounds AS
SELECT
    *,
    bet_amount - rollback_bet_amount AS stake,
    win_amount - rollback_win_amount AS payout,
    stake - payout AS ggr,
    bet_bonus_amount - rollback_bet_bonus_amount AS bonus_stake,
    win_bonus_amount - rollback_win_bonus_amount AS bonus_payout
FROM rounds_rows FINAL;

-- One row a player: the newest value of each field by event time.
CREATE OR REPLACE VIEW players AS
SELECT
    tenant,
    player_id,
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
GROUP BY tenant, player_id;

-- One row a game: the newest value of each field by event time.
CREATE OR REPLACE VIEW games AS
SELECT
    tenant,
    game_id,
    argMaxIf(name, (occurred_at, source_event, event_id), isNotNull(name)) AS name,
    argMaxIf(provider, (occurred_at, source_event, event_id), isNotNull(provider)) AS provider,
    argMaxIf(categories, (occurred_at, source_event, event_id), has_categories) AS categories,
    argMaxIf(features, (occurred_at, source_event, event_id), has_features) AS features,
    argMaxIf(themes, (occurred_at, source_event, event_id), has_themes) AS themes,
    argMaxIf(device, (occurred_at, source_event, event_id), isNotNull(device)) AS device,
    argMaxIf(has_freespins, (occurred_at, source_event, event_id), isNotNull(has_freespins)) AS has_freespins,
    max(occurred_at) AS updated_at
FROM game_events_rows FINAL
GROUP BY tenant, game_id;

-- One row a batch: what became of its items.
CREATE OR REPLACE VIEW batches AS
SELECT
    tenant,
    source,
    batch_id,
    min(received_at) AS batch_received_at,
    sum(received) AS items_received,
    sum(accepted) AS items_accepted,
    sum(duplicate) AS items_duplicate,
    sum(conflict) AS items_conflict,
    sum(rejected) AS items_rejected,
    items_received = items_accepted + items_duplicate + items_conflict + items_rejected AS settled
FROM outcomes_rows FINAL
GROUP BY tenant, source, batch_id;

-- One row a tenant: every item received has exactly one outcome once all is settled.
CREATE OR REPLACE VIEW accounting AS
SELECT
    tenant,
    sum(outcomes_rows.received) AS received,
    sum(outcomes_rows.accepted) AS accepted,
    sum(outcomes_rows.duplicate) AS duplicate,
    sum(outcomes_rows.conflict) AS conflict,
    sum(outcomes_rows.rejected) AS rejected,
    received - accepted - duplicate - conflict - rejected AS unsettled
FROM outcomes_rows FINAL
GROUP BY tenant;

-- One row a tenant: its accounts beside what stands in the tables. Once the line has drained,
-- received = settled, accepted = stored (player rows derived from custom events aside) and
-- transactions = in_rounds.
CREATE OR REPLACE VIEW reconciliation AS
SELECT
    counted.tenant AS tenant,
    received,
    accepted,
    duplicate,
    conflict,
    rejected,
    accepted + duplicate + conflict + rejected AS settled,
    stored,
    transactions,
    in_rounds
FROM accounting AS counted
LEFT JOIN
(
    SELECT tenant, sum(stored_events) AS stored
    FROM
    (
        SELECT tenant, uniqExact(player_id, source, source_event, event_id) AS stored_events
        FROM game_transactions_rows
        GROUP BY tenant
        UNION ALL
        SELECT tenant, uniqExact(player_id, source, source_event, event_id) AS stored_events
        FROM payments_rows
        GROUP BY tenant
        UNION ALL
        SELECT tenant, uniqExact(player_id, source, source_event, event_id) AS stored_events
        FROM player_events_rows
        WHERE source_event != 'event'
        GROUP BY tenant
        UNION ALL
        SELECT tenant, uniqExact(game_id, source, source_event, event_id) AS stored_events
        FROM game_events_rows
        GROUP BY tenant
        UNION ALL
        SELECT tenant, uniqExact(player_id, source, source_event, event_id) AS stored_events
        FROM logins_rows
        GROUP BY tenant
        UNION ALL
        SELECT tenant, uniqExact(player_id, source, source_event, event_id) AS stored_events
        FROM sports_bets_rows
        GROUP BY tenant
        UNION ALL
        SELECT tenant, uniqExact(player_id, source, source_event, event_id) AS stored_events
        FROM custom_events_rows
        GROUP BY tenant
    )
    GROUP BY tenant
) AS kept ON kept.tenant = counted.tenant
LEFT JOIN
(
    SELECT tenant, count() AS transactions FROM game_transactions GROUP BY tenant
) AS played ON played.tenant = counted.tenant
LEFT JOIN
(
    SELECT
        tenant,
        sum(bet_count + win_count + loss_count + rollback_bet_count + rollback_win_count) AS in_rounds
    FROM rounds
    GROUP BY tenant
) AS folded ON folded.tenant = counted.tenant;
