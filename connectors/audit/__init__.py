"""``roundhouse audit``: compares the requests of a period with topics and ClickHouse, item by item."""
