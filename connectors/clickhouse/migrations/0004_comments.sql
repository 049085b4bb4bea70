-- What the columns of views mean; what a view takes over from its source is commented by migrate.py.

ALTER TABLE rounds
    MODIFY COMMENT 'A round, its newest revision.',
    COMMENT COLUMN stake 'Bets less rolled-back bets, real and bonus.',
    COMMENT COLUMN payout 'Wins less rolled-back wins, real and bonus.',
    COMMENT COLUMN ggr 'Gross gaming revenue: stake less payout.',
    COMMENT COLUMN bonus_stake 'Bonus part of stake.',
    COMMENT COLUMN bonus_payout 'Bonus part of payout.';

ALTER TABLE players
    MODIFY COMMENT 'A player with the newest value of every field, by event time.',
    COMMENT COLUMN updated_at 'Time of the latest event that told of the player, UTC.';

ALTER TABLE games
    MODIFY COMMENT 'A game with the newest value of every field, by event time.',
    COMMENT COLUMN updated_at 'Time of the latest event that told of the game, UTC.';

ALTER TABLE batches
    MODIFY COMMENT 'What became of the items of a request.',
    COMMENT COLUMN tenant 'Tenant.',
    COMMENT COLUMN source 'Format.',
    COMMENT COLUMN batch_id 'Request, as answered in the header X-Batch-Id.',
    COMMENT COLUMN batch_received_at 'When the edge took the request in, UTC.',
    COMMENT COLUMN items_received 'Items in the request.',
    COMMENT COLUMN items_accepted 'Items that count.',
    COMMENT COLUMN items_duplicate 'Items that had been accepted before, with the same content.',
    COMMENT COLUMN items_conflict 'Items that contradict what was accepted before.',
    COMMENT COLUMN items_rejected 'Items that are not valid.',
    COMMENT COLUMN settled 'Whether every item has its outcome.';

ALTER TABLE accounting
    MODIFY COMMENT 'What became of all items of a tenant.',
    COMMENT COLUMN tenant 'Tenant.',
    COMMENT COLUMN received 'Items received.',
    COMMENT COLUMN accepted 'Items that count.',
    COMMENT COLUMN duplicate 'Items that had been accepted before, with the same content.',
    COMMENT COLUMN conflict 'Items that contradict what was accepted before.',
    COMMENT COLUMN rejected 'Items that are not valid.',
    COMMENT COLUMN unsettled 'Items that have no outcome yet; 0 once the line has drained.';

ALTER TABLE reconciliation
    MODIFY COMMENT 'Whether what was accepted stands in its table and in its round, by tenant.',
    COMMENT COLUMN settled 'Items with an outcome; equals received once the line has drained.',
    COMMENT COLUMN stored 'Accepted items that stand in a table; equals accepted.',
    COMMENT COLUMN transactions 'Game transactions that stand in their table.',
    COMMENT COLUMN in_rounds 'Game transactions that rounds have counted; equals transactions.';
