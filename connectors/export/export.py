"""Exports a period from ClickHouse to Parquet: one file for each kind, tenant and month.

The memory that an export takes is bounded: a month is read in slices of about :data:`SLICE_ROWS` rows,
each a range of players (or games), by which the tables are sorted; one player's month is never cut. The
manifest lists the complete files; a later run with the same request skips them.
"""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from connectors.clickhouse.literals import moment, quoted
from connectors.clickhouse.query import query_bytes, query_rows
from connectors.export.datasets import Dataset
from connectors.export.months import Month, months
from connectors.export.parquet import write
from streams.core.event import is_test
from streams.errors import ConfigurationError
from streams.settings import Settings
from streams.wire.contracts import schema

SLICE_ROWS = 100_000
MANIFEST = "manifest.json"


class Request(NamedTuple):
    """What to export: events that happened from ``start`` to before ``end`` and were received until
    ``as_of``. ``tenants``: none stands for all but test tenants."""

    datasets: tuple[Dataset, ...]
    tenants: tuple[str, ...]
    start: datetime
    end: datetime
    as_of: datetime

    def document(self) -> dict[str, Any]:
        """The request as it stands in a manifest."""
        return {
            "kinds": [dataset.view for dataset in self.datasets],
            "tenants": list(self.tenants),
            "from": self.start.isoformat(),
            "to": self.end.isoformat(),
            "as_of": self.as_of.isoformat(),
        }


class File(NamedTuple):
    """A complete file of an export; ``skipped`` if an earlier run has written it."""

    path: str
    rows: int
    bytes: int
    sha256: str
    skipped: bool


def resumed(directory: Path, request: Request, as_of_is_given: bool) -> Request:
    """The request with the ``as_of`` of the export that stands in the directory.

    Raises ``ConfigurationError`` if that is another export.
    """
    path = directory / MANIFEST
    if not path.exists():
        return request
    stored: dict[str, Any] = json.loads(path.read_text())["request"]
    if not as_of_is_given:
        request = request._replace(as_of=datetime.fromisoformat(stored["as_of"]))
    if stored != request.document():
        raise ConfigurationError(
            f"{directory} holds another export ({json.dumps(stored)}); choose another directory"
        )
    return request


def export(settings: Settings, request: Request, directory: Path) -> Iterator[File]:
    """Writes the files that are missing, and yields all, those of earlier runs too.

    Raises ``QueryFailed`` if ClickHouse refuses a query; files that are complete then stay.
    """
    directory.mkdir(parents=True, exist_ok=True)
    manifest = directory / MANIFEST
    files: dict[str, Any] = json.loads(manifest.read_text())["files"] if manifest.exists() else {}
    _save(manifest, request, files)
    for tenant in request.tenants or _tenants(settings):
        for dataset in request.datasets:
            for month in months(request.start, request.end):
                name = f"{dataset.view}/{tenant}/{month.name}.parquet"
                if name in files and _is_whole(directory / name, files[name]["sha256"]):
                    yield File(name, **files[name], skipped=True)
                    continue
                part = _Part(settings, request, dataset, tenant, month)
                written = write(
                    directory / name, part.streams(), schema(dataset.contract), part.metadata()
                )
                if written:
                    files[name] = written._asdict()
                    _save(manifest, request, files)
                    yield File(name, **files[name], skipped=False)


class _Part(NamedTuple):
    """The rows of one file."""

    settings: Settings
    request: Request
    dataset: Dataset
    tenant: str
    month: Month

    @property
    def condition(self) -> str:
        """The condition of its rows in SQL."""
        time, received = self.dataset.time, self.dataset.received
        until = f" AND {received} <= {moment(self.request.as_of)}" if received else ""
        return (
            f"tenant = {quoted(self.tenant)} AND {time} >= {moment(self.month.start)} "
            f"AND {time} < {moment(self.month.end)}{until}"
        )

    def streams(self) -> Iterator[bytes]:
        """The rows as Arrow streams, one for each slice."""
        columns = ", ".join(self.dataset.columns)
        order = ", ".join((self.dataset.subject, self.dataset.time, *self.dataset.more))
        for bounds in self._slices():
            yield query_bytes(
                self.settings,
                f"SELECT {columns} FROM {self.dataset.view} WHERE {self.condition}{bounds} "
                f"ORDER BY {order}",
                "arrow",
            )

    def _slices(self) -> Iterator[str]:
        """A condition for each slice. The first and the last have no outer bound, so that together
        they hold every row, whatever is inserted meanwhile."""
        subject = self.dataset.subject
        counted = (
            f"SELECT max(subject) AS last FROM (SELECT subject, "
            f"intDiv(sum(rows) OVER (ORDER BY subject) - 1, {SLICE_ROWS}) AS slice FROM "
            f"(SELECT {subject} AS subject, count() AS rows FROM {self.dataset.table} "
            f"WHERE {self.condition} GROUP BY subject)) GROUP BY slice ORDER BY slice"
        )
        ends = [row["last"] for row in query_rows(self.settings, counted)]
        below = ""
        for index, last in enumerate(ends):
            above = "" if index == len(ends) - 1 else f" AND {subject} <= {quoted(last)}"
            yield f"{below and f' AND {subject} > {quoted(below)}'}{above}"
            below = last

    def metadata(self) -> dict[str, str]:
        """What the file says about itself, but for its rows."""
        as_of = {"as_of": self.request.as_of.isoformat()} if self.dataset.received else {}
        return {
            **self.dataset.metadata(),
            "tenant": self.tenant,
            "time": self.dataset.time,
            "from": self.month.start.isoformat(),
            "to": self.month.end.isoformat(),
            **as_of,
            "exported_at": datetime.now(UTC).isoformat(),
            "release": version("roundhouse"),
        }


def _tenants(settings: Settings) -> list[str]:
    """All tenants with events but test tenants."""
    sql = "SELECT tenant FROM outcomes_rows WHERE tenant != '' GROUP BY tenant ORDER BY tenant"
    return [row["tenant"] for row in query_rows(settings, sql) if not is_test(row["tenant"])]


def _is_whole(path: Path, sha256: str) -> bool:
    if not path.exists():
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _save(manifest: Path, request: Request, files: dict[str, Any]) -> None:
    unfinished = manifest.with_name(f".{manifest.name}.part")
    document = {"request": request.document(), "files": files}
    unfinished.write_text(json.dumps(document, indent=2) + "\n")
    unfinished.replace(manifest)
