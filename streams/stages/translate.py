"""The translate stage: a raw record becomes groups for the staged partitions, outcomes and rejects.

A pure function of the record: a replay after a crash makes the same groups, parts and ids.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import NamedTuple

from msgspec.structs import replace

from streams.core.accounting import CountedAt, Outcome, Reason, Reject
from streams.core.event import Batch, Kind, encode_content, hash_of_content
from streams.core.identity import (
    hash_after,
    key_of,
    lengthened,
    longer_key,
    partition_of,
)
from streams.core.round import transactions_of
from streams.errors import EnvelopeError
from streams.formats import READERS
from streams.formats.validation import Invalid, Item, ItemError
from streams.records.raw_batch import RawRecord, Request, batch_of, requests_of
from streams.records.staged_chunk import Group, PackedGroup, StagedItem, pack
from streams.wire.json_text import raw_items

PART_ITEMS = 1000
PART_BYTES = 512 * 1024
"""Limits of a part of a raw record. They belong to the replay contract: see ``part`` in
``avro/staged-chunk.avsc``.
"""

_UNLIMITED = 1 << 62
_NOBODY = Batch("", "", "", 0, False, False, None)


class Translation(NamedTuple):
    """The result of translating a raw record.

    ``groups`` are by staged partition, in the order of their parts. ``outcomes`` has one for each
    request. ``unexpected`` is the number of rejects that the edge had accepted as valid.
    """

    groups: dict[int, list[PackedGroup]]
    rejects: list[Reject]
    outcomes: list[Outcome]
    unexpected: int


def translate(record: RawRecord, partitions: int) -> Translation:
    """Validates and translates every item of a raw record for ``partitions`` staged partitions."""
    translating = _Translating(record, partitions)
    try:
        requests = requests_of(record)
    except ValueError as error:
        translating.refuse(0, None, record.body, "wrong_header", _wrong_header(error))
        requests = []
    for number, request in enumerate(requests):
        translating.add(number, request)
    return Translation(
        translating.groups, translating.rejects, translating.outcomes, translating.unexpected
    )


def _wrong_header(error: ValueError) -> str:
    return f"The header {error} is missing or wrong."


class _Translating:
    """One call of :func:`translate`, request by request."""

    def __init__(self, record: RawRecord, partitions: int) -> None:
        self.record = record
        self.partitions = partitions
        self.groups: dict[int, list[PackedGroup]] = defaultdict(list)
        self.rejects: list[Reject] = []
        self.outcomes: list[Outcome] = []
        self.unexpected = 0

    def add(self, number: int, request: Request) -> None:
        batch = None
        try:
            batch = batch_of(request.headers)
            items = READERS[batch.source](request.body, batch, _UNLIMITED)
        except EnvelopeError as error:
            self.refuse(number, batch, request.body, error.code, error.message)
            return
        except ValueError as error:
            self.refuse(number, None, request.body, "wrong_header", _wrong_header(error))
            return

        staged, invalid = _staged(batch, items, self.partitions)
        for partition, entries in staged.items():
            self._stage(partition, batch, entries)
        self._count(number, batch, len(items), len(invalid))
        self.rejects += self._rejects(number, batch, request.body, invalid)
        self.unexpected += max(0, len(invalid) - _announced(request.headers))

    def _stage(self, partition: int, batch: Batch, items: Iterable[StagedItem]) -> None:
        """The groups of one request for one staged partition."""
        groups = self.groups[partition]
        for part in _parts(items):
            group = Group(self.record.partition, self.record.offset, len(groups), batch, part)
            groups.append(pack(group))

    def _rejects(
        self, number: int, batch: Batch, body: bytes, invalid: list[tuple[int, Invalid]]
    ) -> list[Reject]:
        if not invalid:
            return []
        texts = [] if all(item.text is not None for _, item in invalid) else raw_items(body)
        at = self._counted_at(number)
        found = []
        for position, item in invalid:
            text = texts[position] if item.text is None else item.text
            errors = [error._asdict() for error in item.errors]
            reason = Reason("rejected", item.errors[0].code, errors, "item", text)
            found.append(Reject.of(at, batch, position, reason))
        return found

    def refuse(self, number: int, batch: Batch | None, body: bytes, code: str, message: str) -> None:
        """Refuses a record or request that no edge wrote: as a whole, counted as one item."""
        errors = [ItemError(code, "", message)._asdict()]
        reason = Reason("rejected", code, errors, "record", body)
        self.rejects.append(Reject.of(self._counted_at(number), batch or _NOBODY, -1, reason))
        self._count(number, batch or _NOBODY, 1, 1)
        self.unexpected += 1

    def _count(self, number: int, batch: Batch, received: int, rejected: int) -> None:
        counted = Outcome.of(self._counted_at(number), batch, received=received, rejected=rejected)
        self.outcomes.append(counted)

    def _counted_at(self, number: int) -> CountedAt:
        return CountedAt(self.record.partition, self.record.offset, "translate", 0, number)


def _staged(
    batch: Batch, items: Iterable[Item | Invalid], partitions: int
) -> tuple[dict[int, list[StagedItem]], list[tuple[int, Invalid]]]:
    """The items of a request by staged partition, and its invalid items by position."""
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
            hash_leads[event] = reduce(lengthened, (batch.tenant, batch.source, event), "")
        contents = encode_content(translated)
        key = longer_key(tenant, translated.subject)
        own_partition = partition_of(key, partitions)
        entry = StagedItem(
            position,
            translated.kind,
            False,
            hash_after(hash_leads[event], translated.event_id),
            hash_of_content(translated, contents),
            key,
            contents,
            transactions_of(translated) if translated.kind is Kind.GAME_TRANSACTION else [],
        )
        staged[own_partition].append(entry)
        if translated.kind is Kind.GAME:
            for other in range(partitions):
                if other != own_partition:
                    staged[other].append(replace(entry, lookup_only=True))
    return staged, invalid


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
