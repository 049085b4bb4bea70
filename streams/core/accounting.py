"""The accounting records: outcomes, which count the items of a request, and rejects, which describe a
refused item.

Every received item is counted once: as accepted, duplicate, conflict or rejected. A replay of the
same raw record makes the same outcomes and rejects, under the same ids.
"""

from typing import Literal, NamedTuple, Self

from streams.core.event import Batch
from streams.wire.avro import Codec, Record

Stage = Literal["translate", "process"]
Refusal = Literal["rejected", "conflict"]


class CountedAt(NamedTuple):
    """What an outcome counts: a stage, a raw record, and a part of that record.

    In translate, ``part`` is the number of the request in its record and ``partition`` is 0. In
    process, they are those of the group in ``staged``.
    """

    raw_partition: int
    raw_offset: int
    stage: Stage
    partition: int
    part: int

    @property
    def id(self) -> str:
        """The id of the outcome."""
        return f"{self.raw_partition}-{self.raw_offset}-{self.stage}-{self.partition}-{self.part}"


class Reason(NamedTuple):
    """Why an item was refused, and the payload that is kept of it.

    ``code`` is that of the first of ``errors``, which are records of the contract.
    ``payload_format`` is ``item`` (the item's JSON), ``canonical`` (JSON lines of its events) or
    ``record`` (the bytes in Kafka).
    """

    outcome: Refusal
    code: str
    errors: list[Record]
    payload_format: Literal["item", "canonical", "record"]
    payload: bytes


class Reject(NamedTuple):
    """A refused item with the fields of the contract ``reject``. ``position`` is -1 if the reject has
    no item.
    """

    reject_id: str
    tenant: str
    source: str
    batch_id: str
    received_at: int
    position: int
    raw_partition: int
    raw_offset: int
    stage: Stage
    outcome: Refusal
    code: str
    errors: list[Record]
    payload_format: str
    payload: bytes

    @classmethod
    def of(cls, at: CountedAt, batch: Batch, position: int, reason: Reason) -> Self:
        """The reject of the item at ``position`` of a batch."""
        return cls(
            f"{at.id}-{position}",
            batch.tenant,
            batch.source,
            batch.batch_id,
            batch.received_at,
            position,
            at.raw_partition,
            at.raw_offset,
            at.stage,
            *reason,
        )


class Outcome(NamedTuple):
    """Counts of the items of a request, with the fields of the contract ``outcome``."""

    outcome_id: str
    tenant: str
    source: str
    batch_id: str
    received_at: int
    raw_partition: int
    raw_offset: int
    stage: Stage
    received: int = 0
    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0

    @classmethod
    def of(cls, at: CountedAt, batch: Batch, **counts: int) -> Self:
        """The outcome of a batch with ``counts``; a count that is not given is zero."""
        return cls(
            at.id,
            batch.tenant,
            batch.source,
            batch.batch_id,
            batch.received_at,
            at.raw_partition,
            at.raw_offset,
            at.stage,
            **counts,
        )


encode_reject = Codec("reject", attributes=Reject._fields).encode
encode_outcome = Codec("outcome", attributes=Outcome._fields).encode
