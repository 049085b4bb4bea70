"""The translate stage: one raw record in, groups for the staged partitions and rejects out.

A pure function of the record, so a replay after a crash makes the same groups, parts and ids.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from streams.batch import Invalid, ItemError
from streams.canonical import (
    Batch,
    Kind,
    encode_batch,
    encode_content,
    encode_position,
)
from streams.codec import Record
from streams.errors import EnvelopeError
from streams.idempotency import content_hash, hash_of, key_of, partition_of
from streams.jsontext import raw_items
from streams.rounds import Transaction, transactions_of
from streams.sources import READERS

PART_ITEMS = 1000
PART_BYTES = 512 * 1024
"""Where a raw record is cut into parts. Part of the replay contract: see ``StagedGroup.part``."""

LOOKUP_ONLY = 128
_PACK = msgspec.msgpack.Encoder().encode
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

    head = encode_batch(batch)
    queues: dict[int, _Queue] = defaultdict(lambda: _Queue(record, batch))
    invalid: list[tuple[int, Invalid]] = []
    for position, item in enumerate(items):
        if isinstance(item, Invalid):
            invalid.append((position, item))
            continue
        translated = item.translate(batch)
        contents = encode_content(translated)
        hashed = contents if translated.timed else encode_content(translated._replace(occurred_at=0))
        lead = head + encode_position(position)
        key = key_of(batch.tenant, translated.subject)
        home = partition_of(key, partitions)
        entry = _Entry(
            position,
            translated.kind,
            hash_of(batch.tenant, batch.source, translated.source_event, translated.event_id),
            content_hash(hashed),
            key,
            [lead + content for content in contents],
            transactions_of(translated) if translated.kind is Kind.GAME_TRANSACTION else None,
        )
        queues[home].add(entry)
        if translated.kind is Kind.GAME:
            for other in range(partitions):
                if other != home:
                    queues[other].add(entry._replace(kind=entry.kind | LOOKUP_ONLY))

    return Translation(
        {partition: queue.close() for partition, queue in queues.items()},
        _rejects(record, batch, invalid),
        outcome(record.partition, record.offset, batch, "translate", 0, 0)
        | {"received": len(items), "rejected": len(invalid)},
        max(0, len(invalid) - _announced(record.headers)),
    )


def _announced(headers: Mapping[str, bytes]) -> int:
    text = headers.get("invalid", b"")
    return int(text) if text.isdigit() and len(text) < 10 else 0


class _Entry(NamedTuple):
    position: int
    kind: int
    id_hash: bytes
    content_hash: bytes
    key: str
    events: list[bytes]
    transactions: list[Transaction] | None


class _Queue:
    """The groups of one raw record for one staged partition, cut into parts as they fill."""

    def __init__(self, record: RawRecord, batch: Batch) -> None:
        self.record = record
        self.batch = batch
        self.groups: list[Record] = []
        self._room = 0
        self._items = PART_ITEMS

    def add(self, entry: _Entry) -> None:
        if self._items == PART_ITEMS or self._room <= 0:
            self._open()
        group = self.groups[-1]
        group["positions"].append(entry.position)
        group["kinds"].append(entry.kind)
        group["id_hashes"] += entry.id_hash
        group["content_hashes"] += entry.content_hash
        group["keys"].append(entry.key)
        group["events"].append(entry.events)
        group["transactions"].append(entry.transactions)
        self._items += 1
        self._room -= sum(map(len, entry.events))

    def _open(self) -> None:
        self._items, self._room = 0, PART_BYTES
        self.groups.append(
            {
                "raw_partition": self.record.partition,
                "raw_offset": self.record.offset,
                "part": len(self.groups),
                "tenant": self.batch.tenant,
                "source": self.batch.source,
                "batch_id": self.batch.batch_id,
                "received_at": self.batch.received_at,
                "counts": self.batch.counts,
                "positions": [],
                "kinds": bytearray(),
                "id_hashes": bytearray(),
                "content_hashes": bytearray(),
                "keys": [],
                "events": [],
                "transactions": [],
            }
        )

    def close(self) -> list[Record]:
        """The groups as their contract has them."""
        for group in self.groups:
            for name in ("kinds", "id_hashes", "content_hashes"):
                group[name] = bytes(group[name])
            group["transactions"] = _PACK(group["transactions"])
        return self.groups


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
