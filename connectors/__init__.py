"""The way in (the HTTP edge) and the way out (ClickHouse)."""
