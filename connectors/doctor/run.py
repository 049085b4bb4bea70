"""Runs all checks and formats their findings."""

import json
from collections.abc import Collection, Iterator, Sequence

from connectors.clickhouse.query import query
from connectors.doctor.clickhouse import check_clickhouse
from connectors.doctor.findings import Finding, Severity
from connectors.doctor.kafka import RIGHTS, check_kafka, check_registry
from connectors.doctor.machine import check_disk, check_file_descriptors, check_tenants
from streams.settings import Settings

ROLES = tuple(RIGHTS)


def examine(settings: Settings, roles: Collection[str] = ROLES) -> Iterator[Finding]:
    """The findings for a machine that runs services of these ``roles``; changes nothing."""
    yield from check_disk(settings)
    yield from check_file_descriptors(settings)
    if "edge" in roles:
        yield from check_tenants(settings)
    yield from check_kafka(settings, roles)
    yield from check_registry(settings)
    if "sink" in roles:
        yield from check_clickhouse(
            settings.clickhouse_database, lambda sql: query(settings, sql, "json")
        )


def as_text(findings: Sequence[Finding]) -> str:
    """The findings as text: a line for each, followed by a line with the correction, if any."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.severity.upper():7}  {finding.check}: {finding.found}")
        if finding.mend:
            lines.append(f"{'':7}  → {finding.mend}")
    return "\n".join(lines)


def as_json(findings: Sequence[Finding]) -> str:
    """The findings as a JSON list, with the fields of :class:`connectors.doctor.findings.Finding`."""
    return json.dumps([finding._asdict() for finding in findings], indent=2)


def has_error(findings: Sequence[Finding]) -> bool:
    """Whether one of the findings is an error."""
    return any(finding.severity is Severity.ERROR for finding in findings)
