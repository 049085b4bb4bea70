"""The accounts: what is counted of a request, and what is said of an item that was refused.

Every item that was received is counted once: as accepted, duplicate, conflict or rejected. A replay of
the same raw record makes the same outcomes and rejects, under the same ids.
"""

from typing import Literal, NamedTuple, Self

from streams.core.event import Batch
from streams.wire.avro import Codec, Record

Stage = Literal["translate", "process"]
Refusal = Literal["rejected", "conflict"]


class CountedAt(NamedTuple):
    """Where something is counted: a raw record, a stage, and what of the record.

    In translate the part is the number of the request in its record and the partition 0; in process
    they are those of the group in ``staged``.
    """

    raw_partition: int
    raw_offset: int
    stage: Stage
    partition: int
    part: int

    @property
    def id(self) -> str:
        """The id of the outcome that is counted here."""
        return f"{self.raw_partition}-{self.raw_offset}-{self.stage}-{self.partition}-{self.part}"


class Reason(NamedTuple):
    """Why an item was refused, and what is kept of it.

    ``code`` is that of the first of ``errors``, which are records of the contract. ``payload_format``:
    ``item`` (its JSON), ``canonical`` (JSON lines of its events) or ``record`` (the bytes in Kafka).
    """

    outcome: Refusal
    code: str
    errors: list[Record]
    payload_format: Literal["item", "canonical", "record"]
    payload: bytes


class Reject(NamedTuple):
    """A refused item, as the contract ``reject`` has it; ``position`` -1 is none."""

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
        """The refusal, for a reason, of the item at a position of a batch."""
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
    """What became of items of a request, counted, as the contract ``outcome`` has it."""

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
        """The outcome of a batch with ``counts``; what is not given is zero."""
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
