"""ClickHouse: migrations, the sink, and reading what it holds."""
