"""Campaigns: YAML definitions, compiled to SQL that ClickHouse runs over what the line has stored."""
