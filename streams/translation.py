"""The translate stage: one raw record in, groups for the staged partitions and rejects out.

A pure function of the record, so a replay after a crash makes the same groups, parts and ids.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from streams.batch import Invalid, ItemError
from streams.canonical import Batch, Kind, encode_content
from streams.codec import Record
from streams.errors import EnvelopeError
from streams.idempotency import (
    content_hash,
    digest,
    key_of,
    lengthed,
    longer_key,
    partition_of,
)
from streams.jsontext import raw_items
from streams.rounds import transactions_of
from streams.sources import READERS
from streams.staged import StagedItem, pack

PART_ITEMS = 1000
PART_BYTES = 512 * 1024
"""Where a raw record is cut into parts. Part of the replay contract: see ``StagedGroup.part``."""

_UNLIMITED = 1 << 62


class RawRecord(NamedTuple):
    """A record of ``raw.batches``."""

    partition: int
    offset: int
    headers: Mapping[str, bytes]
    body: bytes


class Translation(NamedTuple):
    """What becomes of a raw record. Records are those of the Avro contracts.

    ``groups`` by staged partition, in part order. ``unexpected``: rejects that the edge did not see.
    """

    groups: dict[int, list[Record]]
    rejects: list[Record]
    outcome: Record
    unexpected: int


def headers_of(batch: Batch, invalid: int) -> dict[str, bytes]:
    """The headers of the raw record of ``batch``, of whose items the edge found so many invalid."""
    headers = {
        "tenant": batch.tenant.encode(),
        "source": batch.source.encode(),
        "batch-id": batch.batch_id.encode(),
        "received-at": str(batch.received_at).encode(),
        "counts": b"1" if batch.counts else b"0",
        "merges-channels": b"1" if batch.merges_channels else b"0",
        "invalid": str(invalid).encode(),
    }
    if batch.idempotency_key is not None:
        headers["idempotency-key"] = batch.idempotency_key.encode()
    return headers


def batch_of(headers: Mapping[str, bytes]) -> Batch:
    """The batch that ``headers`` describe. Raises ``ValueError`` naming the header that is wrong."""

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
        source=text("source", frozenset(READERS)),
        batch_id=text("batch-id"),
        received_at=int(received),
        counts=text("counts", flag) == "1",
        merges_channels=text("merges-channels", flag) == "1",
        idempotency_key=None if key is None else key.decode(errors="replace"),
    )


def translate(record: RawRecord, partitions: int) -> Translation:
    """Validates and translates every item of a raw record for ``partitions`` staged partitions."""
    try:
        batch = batch_of(record.headers)
        items = READERS[batch.source](record.body, batch, _UNLIMITED)
    except ValueError as error:
        return _refuse_record(record, None, "wrong_header", f"The header {error} is missing or wrong.")
    except EnvelopeError as error:
        return _refuse_record(record, batch, error.code, error.message)

    tenant = key_of(batch.tenant)
    hash_leads: dict[str, str] = {}
    staged: dict[int, list[StagedItem]] = defaultdict(list)
    invalid: list[tuple[int, Invalid]] = []
    for position, item in enumerate(items):
        if isinstance(item, Invalid):
            invalid.append((position, item))
            continue
        translated = item.translate(batch)
        event = translated.source_event
        if event not in hash_leads:
            hash_leads[event] = lengthed(batch.tenant, batch.source, event)
        contents = encode_content(translated)
        hashed = contents if translated.timed else encode_content(replace(translated, occurred_at=0))
        key = longer_key(tenant, translated.subject)
        home = partition_of(key, partitions)
        entry = StagedItem(
            position,
            translated.kind,
            False,
            digest(hash_leads[event] + lengthed(translated.event_id)),
            content_hash(hashed),
            key,
            contents,
            transactions_of(translated) if translated.kind is Kind.GAME_TRANSACTION else [],
        )
        staged[home].append(entry)
        if translated.kind is Kind.GAME:
            for other in range(partitions):
                if other != home:
                    staged[other].append(replace(entry, lookup_only=True))

    return Translation(
        {partition: _groups(record, batch, entries) for partition, entries in staged.items()},
        _rejects(record, batch, invalid),
        outcome(record.partition, record.offset, batch, "translate", 0, 0)
        | {"received": len(items), "rejected": len(invalid)},
        max(0, len(invalid) - _announced(record.headers)),
    )


def _groups(record: RawRecord, batch: Batch, items: Iterable[StagedItem]) -> list[Record]:
    """The groups of one raw record for one staged partition."""
    return [
        {
            "raw_partition": record.partition,
            "raw_offset": record.offset,
            "part": number,
            "tenant": batch.tenant,
            "source": batch.source,
            "batch_id": batch.batch_id,
            "received_at": batch.received_at,
            "counts": batch.counts,
            "items": pack(part),
        }
        for number, part in enumerate(_parts(items))
    ]


def _parts(items: Iterable[StagedItem]) -> Iterator[list[StagedItem]]:
    part: list[StagedItem] = []
    room = PART_BYTES
    for item in items:
        if len(part) == PART_ITEMS or room <= 0:
            yield part
            part, room = [], PART_BYTES
        part.append(item)
        room -= sum(map(len, item.contents))
    yield part


def _announced(headers: Mapping[str, bytes]) -> int:
    text = headers.get("invalid", b"")
    return int(text) if text.isdigit() and len(text) < 10 else 0


def _rejects(record: RawRecord, batch: Batch, invalid: list[tuple[int, Invalid]]) -> list[Record]:
    if not invalid:
        return []
    texts = [] if all(item.text is not None for _, item in invalid) else raw_items(record.body)
    return [
        reject(record.partition, record.offset, batch, "translate", position)
        | {
            "outcome": "rejected",
            "code": item.errors[0].code,
            "errors": [error._asdict() for error in item.errors],
            "payload_format": "item",
            "payload": texts[position] if item.text is None else item.text,
        }
        for position, item in invalid
    ]


_NOBODY = Batch("", "", "", 0, False, False, None)


def _refuse_record(record: RawRecord, batch: Batch | None, code: str, message: str) -> Translation:
    """A record that no edge wrote: refused as a whole, counted as one item."""
    batch = batch or _NOBODY
    refused = reject(record.partition, record.offset, batch, "translate", -1) | {
        "outcome": "rejected",
        "code": code,
        "errors": [ItemError(code, "", message)._asdict()],
        "payload_format": "record",
        "payload": record.body,
    }
    counted = outcome(record.partition, record.offset, batch, "translate", 0, 0)
    return Translation({}, [refused], counted | {"received": 1, "rejected": 1}, 1)


def reject(raw_partition: int, raw_offset: int, batch: Batch, stage: str, position: int) -> Record:
    """The fields of a reject that say where it came from."""
    return {
        "reject_id": f"{raw_partition}-{raw_offset}-{position}-{stage}",
        "tenant": batch.tenant,
        "source": batch.source,
        "batch_id": batch.batch_id,
        "received_at": batch.received_at,
        "position": position,
        "raw_partition": raw_partition,
        "raw_offset": raw_offset,
        "stage": stage,
    }


def outcome(
    raw_partition: int, raw_offset: int, batch: Batch, stage: str, partition: int, part: int
) -> Record:
    """An outcome that has counted nothing yet."""
    return {
        "outcome_id": f"{raw_partition}-{raw_offset}-{stage}-{partition}-{part}",
        "tenant": batch.tenant,
        "source": batch.source,
        "batch_id": batch.batch_id,
        "received_at": batch.received_at,
        "raw_partition": raw_partition,
        "raw_offset": raw_offset,
        "stage": stage,
        "received": 0,
        "accepted": 0,
        "duplicate": 0,
        "conflict": 0,
        "rejected": 0,
    }
