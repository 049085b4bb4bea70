"""ClickHouse: migrations, the sink, and queries."""
