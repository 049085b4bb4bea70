"""The accounting records: outcomes, which count the items of a request, and rejects, which describe a
refused item.

Every received item is counted once: as accepted, duplicate, conflict or rejected. A replay of the
same raw record makes the same outcomes and rejects, under the same ids.
"""

from collections import Counter, defaultdict
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


_COUNTS = ("received", "accepted", "duplicate", "conflict", "rejected")


class Accounts:
    """The sums of outcomes, by tenant.

    What translate writes again after a crash counts once: of a raw record's partition, translate writes
    in the order of offset and part, so what lies at or below the highest that was seen has been seen.
    """

    def __init__(self) -> None:
        self.by_tenant: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._seen: dict[int, tuple[int, int]] = {}

    def add(self, outcome: Record) -> None:
        """One more record of the contract ``outcome``, in the order of its partition."""
        if outcome["stage"] == "translate":
            number = int(outcome["outcome_id"].rpartition("-")[2])
            at = outcome["raw_offset"], number
            if at <= self._seen.get(outcome["raw_partition"], (-1, -1)):
                return
            self._seen[outcome["raw_partition"]] = at
        self.by_tenant[outcome["tenant"]].update({name: outcome[name] for name in _COUNTS})

    def unsettled(self) -> dict[str, int]:
        """By tenant, received less accepted, duplicate, conflict and rejected, where it is not 0."""
        found = {
            tenant: sums["received"] - sum(sums[name] for name in _COUNTS[1:])
            for tenant, sums in self.by_tenant.items()
        }
        return {tenant: items for tenant, items in found.items() if items}


encode_reject = Codec("reject", attributes=Reject._fields).encode
encode_outcome = Codec("outcome", attributes=Outcome._fields).encode
