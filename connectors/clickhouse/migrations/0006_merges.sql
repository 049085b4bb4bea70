-- The two tables that grow fastest are merged in wider steps: a row is written again half as often, and
-- there are more parts to read.

ALTER TABLE rounds_rows MODIFY SETTING merge_selector_base = 10;

ALTER TABLE game_transactions_rows MODIFY SETTING merge_selector_base = 10;
