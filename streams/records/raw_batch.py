"""Records of ``raw.batches``: the edge writes them, the translate stage reads them.

A record holds one request, or several small ones that arrived at the same time. Then its value is
the bodies of the requests one after another, and its headers are the headers of the requests one
after another; each request's headers end with ``bytes``, the length of its body.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from streams.core.event import SOURCES, Batch
from streams.records import layout
from streams.records.topics import RAW

Headers = Sequence[tuple[str, bytes]]

TRACEPARENT = "traceparent"
"""The header of a request that is traced (W3C Trace Context); of staged records and outcomes too."""

_LENGTH = "bytes"


class RawRecord(NamedTuple):
    """A record of ``raw.batches``."""

    partition: int
    offset: int
    headers: Headers
    body: bytes


class Request(NamedTuple):
    """One request of a raw record."""

    headers: Mapping[str, bytes]
    body: bytes


def headers_of(batch: Batch, invalid: int) -> list[tuple[str, bytes]]:
    """The headers of the request of ``batch``; ``invalid`` of its items were refused by the edge."""
    headers = [
        *layout.RAW_LAYOUT.headers,
        ("tenant", batch.tenant.encode()),
        ("source", batch.source.encode()),
        ("batch-id", batch.batch_id.encode()),
        ("received-at", b"%d" % batch.received_at),
        ("counts", b"1" if batch.counts else b"0"),
        ("merges-channels", b"1" if batch.merges_channels else b"0"),
        ("invalid", b"%d" % invalid),
    ]
    if batch.idempotency_key is not None:
        headers.append(("idempotency-key", batch.idempotency_key.encode()))
    if batch.traceparent is not None:
        headers.append((TRACEPARENT, batch.traceparent.encode()))
    return headers


def traceparents(headers: Headers) -> dict[str, bytes]:
    """By batch id, the ``traceparent`` of each request of a record that is traced."""
    found: dict[str, bytes] = {}
    batch_id = ""
    for name, value in headers:
        if name == "batch-id":
            batch_id = value.decode(errors="replace")
        elif name == TRACEPARENT:
            found[batch_id] = value
    return found


def batch_of(headers: Mapping[str, bytes]) -> Batch:
    """The batch that ``headers`` describe. Raises ``ValueError`` naming a header that is wrong."""

    def text(name: str, allowed: frozenset[str] | None = None) -> str:
        value = headers.get(name, b"").decode(errors="replace")
        if not value or (allowed is not None and value not in allowed):
            raise ValueError(name)
        return value

    flag = frozenset("01")
    received = text("received-at")
    if not received.isdecimal() or len(received) > 17:
        raise ValueError("received-at")
    key = headers.get("idempotency-key")
    return Batch(
        tenant=text("tenant"),
        source=text("source", frozenset(SOURCES)),
        batch_id=text("batch-id"),
        received_at=int(received),
        counts=text("counts", flag) == "1",
        merges_channels=text("merges-channels", flag) == "1",
        idempotency_key=None if key is None else key.decode(errors="replace"),
    )


def join_requests(requests: Sequence[tuple[Headers, bytes]]) -> tuple[list[tuple[str, bytes]], bytes]:
    """Headers and value of the record of one or more requests, given as (headers, body)."""
    if len(requests) == 1:
        headers, body = requests[0]
        return list(headers), body
    together: list[tuple[str, bytes]] = []
    for headers, body in requests:
        together += headers
        together.append((_LENGTH, b"%d" % len(body)))
    return together, b"".join([body for _, body in requests])


def requests_of(record: RawRecord) -> list[Request]:
    """The requests of a record. Raises ``ValueError`` if the lengths do not match the value."""
    layout.RAW_LAYOUT.check(f"{RAW}[{record.partition}] at offset {record.offset}", record.headers)
    requests: list[Request] = []
    headers: dict[str, bytes] = {}
    begin = 0
    for name, value in record.headers:
        if name != _LENGTH:
            headers[name] = value
            continue
        if not value.isdigit() or len(value) > 9 or begin + int(value) > len(record.body):
            raise ValueError(_LENGTH)
        end = begin + int(value)
        requests.append(Request(headers, record.body[begin:end]))
        headers, begin = {}, end
    if not requests:
        return [Request(headers, record.body)]
    if headers or begin < len(record.body):
        raise ValueError(_LENGTH)
    return requests
