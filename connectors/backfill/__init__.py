"""``roundhouse backfill``: writes the events of files to the line, beside live traffic."""
