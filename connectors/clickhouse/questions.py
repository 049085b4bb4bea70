"""What commands and other processes may ask of ClickHouse, and the few tables that they may write."""

import re
from pathlib import Path

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from streams.errors import NotReadOnly
from streams.settings import Settings

FORMATS = {
    "table": "PrettyCompactMonoBlock",
    "csv": "CSVWithNames",
    "tsv": "TabSeparatedWithNames",
    "json": "JSON",
    "arrow": "ArrowStream",
}


_QUOTED_OR_COMMENT = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`|--[^\n]*|/\*.*?\*/""", re.DOTALL
)
_QUESTION = re.compile(r"\s*\(*\s*(?:select|with|show|describe|desc|explain|exists)\b", re.IGNORECASE)
_ONCE = " AS MATERIALIZED"
"""Marks a step of a query that is computed once. The setting that it needs is unknown to ClickHouse
before 26.3."""
_NICE = 10
"""Without the capability CAP_SYS_NICE ClickHouse does not change the priority of threads."""
_WRITES = re.compile(r";|\$|\binto\s+outfile\b|\bformat\b", re.IGNORECASE)


def ask(
    client: Client,
    query: str,
    form: str,
    within_s: float | None = None,
    threads: int | None = None,
) -> bytes:
    """The result of a query, in one of :data:`FORMATS`; ClickHouse ends it after ``within_s``. One that
    can wait is given the most ``threads`` that ClickHouse uses, and these give way to all others.

    Raises ``ClickHouseError``, or :class:`NotReadOnly` for a statement that could write.
    The settings stand in the statement because chDB would otherwise keep them for the whole process.
    Only one thread at a time may query through a client.
    """
    if form not in FORMATS:
        raise NotReadOnly(f"format must be one of {', '.join(FORMATS)}")
    query = query.strip().rstrip(";")
    bare = _QUOTED_OR_COMMENT.sub(" ", query)
    if not _QUESTION.match(bare) or _WRITES.search(bare):
        raise NotReadOnly(
            "ask one question (SELECT, WITH, SHOW, DESCRIBE, EXPLAIN or EXISTS); the output format is "
            "chosen outside the query"
        )
    limit = "" if within_s is None else f"max_execution_time = {within_s:g}, "
    limit += "" if threads is None else f"max_threads = {threads}, os_thread_priority = {_NICE}, "
    limit += "enable_materialized_cte = 1, " if _ONCE in bare else ""
    try:
        answer = client.raw_query(f"{query}\nFORMAT {FORMATS[form]} SETTINGS {limit}readonly = 1")
    except DatabaseError:
        # chDB 4.4 returns the partial output of a failed query before that of the client's next query
        client.raw_query("SELECT 1 FORMAT Null")
        raise
    return bytes(answer)


WRITABLE = (
    "rates",
    "campaign_runs",
    "campaign_results",
    "replays",
    "corrections",
    "erasures",
    "merge_corrections",
)
"""Tables that commands write, not the sink."""


def add_rows(client: Client, table: str, lines: bytes) -> bytes:
    """Inserts rows, one JSON object a line, into one of :data:`WRITABLE`; the result is empty."""
    if table not in WRITABLE:
        raise NotReadOnly(f"{table} is not one of {', '.join(WRITABLE)}")
    client.raw_insert(table, insert_block=lines, fmt="JSONEachRow", settings={"async_insert": 0})
    return b""


def token_path(settings: Settings) -> Path:
    """The file of the token for the loopback port."""
    return settings.data_dir / "sql-token"
