"""The dry run of a request: what the translate stage makes of each of its items. Nothing is written."""

from typing import NamedTuple

import msgspec

from streams.core.event import Batch, contents_of, datums, decode, encode_batch, to_json
from streams.records.raw_batch import RawRecord, headers_of
from streams.records.staged_chunk import unpack
from streams.stages.translate import translate
from streams.wire.avro import Record, frame
from streams.wire.contracts import SCHEMA_IDS, schema

_CONTENTS = contents_of(
    {contract: frame(number) for contract, number in SCHEMA_IDS.items()},
    lambda contract, _: schema(contract),
)


class IdempotencyKey(NamedTuple):
    """What identifies an item: within the window it counts once. ``kind`` is the format's own."""

    tenant: str
    source: str
    kind: str
    id: str


class Previewed(msgspec.Struct, frozen=True, omit_defaults=True):
    """One item. A valid one has its key, its contract and its canonical events as JSON, with money as
    decimal text; an invalid one has all its errors.
    """

    index: int
    idempotency_key: dict[str, str] | None = None
    contract: str | None = None
    events: list[msgspec.Raw] = []
    errors: list[Record] = []


def preview(batch: Batch, body: bytes) -> list[Previewed]:
    """The items of a request in their order; its outer form must be right.

    What depends on earlier items is known only to the process stage: duplicates, conflicts, and the
    player that a Gameball event of an unknown player creates.
    """
    record = RawRecord(0, 0, headers_of(batch, 0), body)
    translation = translate(record, partitions=1)
    lead = encode_batch(batch)
    found = {
        reject.position: Previewed(reject.position, errors=reject.errors)
        for reject in translation.rejects
    }
    for packed in translation.groups.get(0, ()):
        for item in unpack(packed, _CONTENTS).items:
            events = [decode(item.kind, datum) for datum in datums(lead, item.position, item.contents)]
            key = IdempotencyKey(
                batch.tenant, batch.source, events[0]["source_event"], events[0]["event_id"]
            )
            contract = item.kind.contract
            found[item.position] = Previewed(
                item.position,
                key._asdict(),
                contract,
                [msgspec.Raw(to_json(contract, event)) for event in events],
            )
    return [found[index] for index in sorted(found)]
