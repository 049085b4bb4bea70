"""The views as a source for dbt: a properties file with the comments of ClickHouse.

KPI views are left out: they take parameters, and a source of dbt cannot.
"""

import yaml

from connectors.clickhouse.query import query_rows
from streams.settings import Settings

_RELATIONS = """
SELECT
    t.name AS name,
    if(t.comment != '', t.comment, r.comment) AS comment
FROM system.tables AS t
LEFT JOIN system.tables AS r ON r.database = t.database AND r.name = concat(t.name, '_rows')
WHERE t.database = currentDatabase()
    AND NOT match(t.name, '_(rows|local)$') AND t.name NOT IN ('schema_migrations')
    AND t.engine != 'MaterializedView'
    AND NOT match(t.create_table_query, '\\{\\w+:\\w+\\}')
ORDER BY name
"""
_COLUMNS = """
SELECT table, name, type, comment
FROM system.columns
WHERE database = currentDatabase()
ORDER BY table, position
"""
_HEAD = "# Made by `roundhouse dbt-sources` from the comments in ClickHouse. Do not edit.\n"


def as_yaml(settings: Settings) -> str:
    """The properties file, for the database of the settings. Raises ``QueryFailed``."""
    columns: dict[str, list[dict[str, str]]] = {}
    for row in query_rows(settings, _COLUMNS):
        described = {"name": row["name"], "description": row["comment"], "data_type": row["type"]}
        columns.setdefault(row["table"], []).append(described)
    relations = [
        {"name": row["name"], "description": row["comment"], "columns": columns[row["name"]]}
        for row in query_rows(settings, _RELATIONS)
    ]
    source = {
        "name": "roundhouse",
        "schema": settings.clickhouse_database,
        "description": "Casino events, rounds, and what became of the items, by Roundhouse.",
        "tables": relations,
    }
    document = {"version": 2, "sources": [source]}
    return _HEAD + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
