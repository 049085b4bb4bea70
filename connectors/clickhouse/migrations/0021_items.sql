-- Stored results with the campaign that they belong to; what players win beside money, how far they came in a
-- tournament, and their teams.

ALTER TABLE campaign_runs
    ADD COLUMN IF NOT EXISTS title String COMMENT 'Title in the definition, empty if it has none.' AFTER campaign
    SETTINGS alter_sync = 2;

ALTER TABLE campaign_results
    ADD COLUMN IF NOT EXISTS items String COMMENT 'What is won beside money, like 20 free spins; 1 hat.',
    ADD COLUMN IF NOT EXISTS items_cost Decimal(38, 18) COMMENT 'What the items cost.',
    ADD COLUMN IF NOT EXISTS stage UInt64 COMMENT 'Last stage of a tournament in which the player has a score.',
    ADD COLUMN IF NOT EXISTS team String COMMENT 'Team of the player, whose is the rank.',
    ADD COLUMN IF NOT EXISTS team_score Decimal(38, 18) COMMENT 'Score of the team.'
    SETTINGS alter_sync = 2;

CREATE OR REPLACE VIEW campaign_standings AS
SELECT
    run.tenant AS tenant,
    run.campaign AS campaign,
    run.title AS title,
    run.as_of AS as_of,
    run.evaluated_at AS evaluated_at,
    result.run_id AS run_id,
    result.rank AS rank,
    result.player_id AS player_id,
    result.score AS score,
    result.reached_at AS reached_at,
    result.entries AS entries,
    result.step AS step,
    result.prize AS prize,
    result.unpaid AS unpaid,
    result.items AS items,
    result.items_cost AS items_cost,
    result.stage AS stage,
    result.team AS team,
    result.team_score AS team_score
FROM (SELECT * FROM campaign_results FINAL) AS result
INNER JOIN (SELECT * FROM campaign_runs FINAL) AS run ON run.run_id = result.run_id;

ALTER TABLE campaign_standings
    MODIFY COMMENT 'One row a player of a stored evaluation, with its campaign.',
    COMMENT COLUMN tenant 'Tenant.',
    COMMENT COLUMN campaign 'Name in the definition.',
    COMMENT COLUMN title 'Title in the definition, empty if it has none.',
    COMMENT COLUMN as_of 'Everything received until then was looked at, nothing else.',
    COMMENT COLUMN evaluated_at 'When it was evaluated, UTC.',
    COMMENT COLUMN run_id 'Id of the evaluation.',
    COMMENT COLUMN rank 'Rank by score, from 1.',
    COMMENT COLUMN player_id 'Player.',
    COMMENT COLUMN score 'What the campaign measures.',
    COMMENT COLUMN reached_at 'When the score was reached, in the platform''s time, UTC.',
    COMMENT COLUMN entries 'How many rounds, deposits, … counted.',
    COMMENT COLUMN step 'Steps reached, in a challenge.',
    COMMENT COLUMN prize 'What is paid.',
    COMMENT COLUMN unpaid 'What the budget did not allow.',
    COMMENT COLUMN items 'What is won beside money, like 20 free spins; 1 hat.',
    COMMENT COLUMN items_cost 'What the items cost.',
    COMMENT COLUMN stage 'Last stage of a tournament in which the player has a score.',
    COMMENT COLUMN team 'Team of the player, whose is the rank.',
    COMMENT COLUMN team_score 'Score of the team.';
