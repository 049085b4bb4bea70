"""The translate stage: a raw record becomes groups for the staged partitions, outcomes and rejects.

A pure function of the record: a replay after a crash makes the same groups, parts and ids.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import itemgetter
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
from streams.records.staged_chunk import PackedGroup, PackedItem, StagedItem, pack, pack_item
from streams.wire.contracts import versions
from streams.wire.json_text import raw_items

try:
    from streams.stages._translate import Plain
except ImportError:
    Plain = None  # type: ignore[assignment,misc]

PART_ITEMS = 1000
PART_BYTES = 512 * 1024
"""Limits of a part of a raw record. They belong to the replay contract: see ``part`` in
``avro/staged-chunk.avsc``.
"""

COMPILED = Plain is not None and len(versions("game-transaction")) == 1
"""Whether plain bets and wins are staged in C, which writes version 1 of their contract."""

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

    def _stage(self, partition: int, batch: Batch, items: list[PackedItem]) -> None:
        """The groups of one request for one staged partition."""
        groups = self.groups[partition]
        for part in _parts(items):
            at = self.record.partition, self.record.offset, len(groups)
            groups.append(pack(at, batch, part))

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
    batch: Batch, items: Sequence[Item | Invalid], partitions: int
) -> tuple[dict[int, list[PackedItem]], list[tuple[int, Invalid]]]:
    """The items of a request by staged partition, and its invalid items by position."""
    stager = _Stager(batch, partitions)
    plain = stager.for_plain() if COMPILED else None
    invalid: list[tuple[int, Invalid]] = []
    position = 0
    while position < len(items):
        if plain is not None:
            position = plain.stage(items, position, stager.staged)
            if position == len(items):
                break
        item = items[position]
        if isinstance(item, Invalid):
            invalid.append((position, item))
        else:
            stager.stage(item, position)
        position += 1
    return stager.staged, invalid


class _Stager:
    """Stages the items of one request, by staged partition."""

    def __init__(self, batch: Batch, partitions: int) -> None:
        self.staged: dict[int, list[PackedItem]] = defaultdict(list)
        self._batch = batch
        self._partitions = partitions
        self._tenant = key_of(batch.tenant)
        self._id_leads: dict[str, str] = {}

    def for_plain(self) -> "Plain":
        """The one in C, for plain bets and wins."""
        return Plain(self._id_lead("gameround"), longer_key(self._tenant, ""), self._partitions)

    def stage(self, item: Item, position: int) -> None:
        translated = item.translate(self._batch)
        contents = encode_content(translated)
        key = longer_key(self._tenant, translated.subject)
        own_partition = partition_of(key, self._partitions)
        entry = StagedItem(
            position,
            translated.kind,
            False,
            hash_after(self._id_lead(translated.source_event), translated.event_id),
            hash_of_content(translated, contents),
            key,
            contents,
            transactions_of(translated) if translated.kind is Kind.GAME_TRANSACTION else [],
        )
        self.staged[own_partition].append(pack_item(entry))
        if translated.kind is Kind.GAME:
            copy = pack_item(replace(entry, lookup_only=True))
            for other in range(self._partitions):
                if other != own_partition:
                    self.staged[other].append(copy)

    def _id_lead(self, event: str) -> str:
        """What the hashed list of an id begins with."""
        if event not in self._id_leads:
            lead = reduce(lengthened, (self._batch.tenant, self._batch.source, event), "")
            self._id_leads[event] = lead
        return self._id_leads[event]


def _parts(items: list[PackedItem]) -> Iterator[list[PackedItem]]:
    if len(items) <= PART_ITEMS and sum(map(itemgetter(1), items)) < PART_BYTES:
        yield items
        return
    part: list[PackedItem] = []
    room = PART_BYTES
    for item in items:
        if len(part) == PART_ITEMS or room <= 0:
            yield part
            part, room = [], PART_BYTES
        part.append(item)
        room -= item[1]
    yield part


def _announced(headers: Mapping[str, bytes]) -> int:
    text = headers.get("invalid", b"")
    return int(text) if text.isdigit() and len(text) < 10 else 0
