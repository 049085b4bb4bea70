-- Several small requests may share a record of raw.batches.

ALTER TABLE rejects_rows
    COMMENT COLUMN reject_id 'Deterministic: the id of the outcome that counts it, and its position. A replay writes the same id.',
    COMMENT COLUMN payload_format 'item: the item''s JSON bytes as posted. record: the whole body. canonical: the translated event as JSON (its posted bytes stand in raw.batches at raw_partition and raw_offset).';

ALTER TABLE outcomes_rows
    COMMENT COLUMN outcome_id 'Deterministic: raw partition, raw offset, stage, staged partition, and part (in translate: which request of the raw record). A replay writes the same id.';
