"""What became of batches and events, read from ClickHouse for one tenant."""
