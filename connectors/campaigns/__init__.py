"""Campaigns: YAML definitions, compiled to SQL that ClickHouse runs on the stored events."""
