"""Requests made of the items of a file, as the edge would take them; no Kafka and no clock."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, field

from connectors.backfill.entry import Entry, Problem
from connectors.backfill.files import problem_of
from streams.core.event import Batch
from streams.errors import EnvelopeError
from streams.formats import READERS, stored_body
from streams.formats.erased import without_erased
from streams.formats.gameball import IDEMPOTENCY_KEY
from streams.formats.validation import Invalid
from streams.kafka.request_writer import NewRequest

UNIT_ITEMS = 250
UNIT_BYTES = 262_144
"""Limits of a raw record. Records are small because live traffic may wait for those in flight."""

_UNLIMITED = 1 << 62
_JOBS = uuid.UUID("5b1f5a0c-8a9b-5c53-9d36-6a1d1a9b7e11")


class Job(NamedTuple):
    """A file and all that decides what its items become.

    ``kind`` is the event of every item, which then has only its data; ``mapping`` is the digest of the
    mapping of a CSV file, and empty for others. ``batch`` makes the batch of a request that has this
    id. ``erased`` are the marks of the tenant's erased players, whose items are refused as at the edge.
    """

    tenant: str
    source: str
    kind: str | None
    digest: str
    mapping: str
    batch: Callable[[str], Batch]
    erased: Set[str] = frozenset()

    @property
    def id(self) -> uuid.UUID:
        """The same for the same content, tenant, format, kind and mapping."""
        parts = self.tenant, self.source, self.kind or "", self.digest, self.mapping
        return uuid.uuid5(_JOBS, "|".join(parts))

    @property
    def lead(self) -> str:
        """The first 8 characters of the ids of all its batches."""
        return str(self.id)[:8]

    def batch_id(self, first: int, end: int) -> str:
        """The id of the batch of the entries from ``first`` to before ``end``: always the same."""
        return self.lead + str(uuid.uuid5(self.id, f"{first}-{end}"))[8:]


class Refusal(NamedTuple):
    """An item that the reader of its format refuses, or that is no item: then it is not written."""

    number: int
    problem: Problem
    written: bool


class Unit(NamedTuple):
    """Entries that become one raw record, from number ``first`` of the file to before ``end``.

    ``counts`` are the numbers of items in ``requests``. ``numbers`` are the first and the last of
    :attr:`connectors.backfill.entry.Entry.number`.
    """

    first: int
    end: int
    numbers: tuple[int, int]
    requests: list[NewRequest]
    counts: list[int]
    refusals: list[Refusal]

    @property
    def items(self) -> int:
        """The number of items that are written."""
        return sum(self.counts)


def units(job: Job, entries: Iterable[Entry], begin: int) -> Iterator[Unit]:
    """The units of a file's entries, of which ``entries`` lacks the first ``begin``.

    The division depends on the file alone if ``begin`` is the end of a unit.
    """
    together: list[Entry] = []
    room = UNIT_BYTES
    for entry in entries:
        if len(together) == UNIT_ITEMS or (together and len(entry.text) > room):
            yield _unit(job, together, begin)
            begin += len(together)
            together, room = [], UNIT_BYTES
        together.append(entry)
        room -= len(entry.text)
    if together:
        yield _unit(job, together, begin)


def _unit(job: Job, entries: Sequence[Entry], first: int) -> Unit:
    end = first + len(entries)
    unit = Unit(first, end, (entries[0].number, entries[-1].number), [], [], [])
    valid = []
    for at, entry in enumerate(entries, first):
        problem = entry.problem or problem_of(entry.text)
        if problem is None:
            valid.append((at, entry))
        else:
            unit.refusals.append(Refusal(entry.number, problem, written=False))
    if job.source == "gameball":
        for at, entry in valid:
            _add(unit, _gameball(job, at, entry))
    elif valid:
        _add(unit, _bulk(job, first, end, [entry for _, entry in valid]))
    return unit


class _Request(NamedTuple):
    request: NewRequest | None
    items: int
    refusals: list[Refusal]


def _add(unit: Unit, made: _Request) -> None:
    unit.refusals.extend(made.refusals)
    if made.request is not None:
        unit.requests.append(made.request)
        unit.counts.append(made.items)


def _bulk(job: Job, first: int, end: int, entries: Sequence[Entry]) -> _Request:
    batch = job.batch(job.batch_id(first, end))

    def read(some: Sequence[Entry]) -> _Request:
        texts = [entry.text for entry in some]
        if job.kind is not None:
            lead = b'{"event":%b,"data":' % msgspec.json.encode(job.kind)
            texts = [b"%b%b}" % (lead, text) for text in texts]
        return _read(job, batch, b"[%b]" % b",".join(texts), some)

    together = read(entries)
    if together.request is not None or len(entries) == 1:
        return together
    alone = [read([entry]) for entry in entries]  # one of them is nested too deeply for a list
    refusals = [refusal for made in alone if made.request is None for refusal in made.refusals]
    rest = [entry for entry, made in zip(entries, alone, strict=True) if made.request is not None]
    made = read(rest) if rest else _Request(None, 0, [])
    return made._replace(refusals=[*refusals, *made.refusals])


class _Keyed(msgspec.Struct):
    key: Annotated[str, Meta(pattern=rf"^{IDEMPOTENCY_KEY}\Z")] | None = field(
        default=None, name="idempotencyKey"
    )


_key_in = msgspec.json.Decoder(_Keyed).decode


def _gameball(job: Job, at: int, entry: Entry) -> _Request:
    batch = job.batch(job.batch_id(at, at + 1))
    try:
        batch = batch._replace(idempotency_key=_key_in(entry.text).key)
    except ValueError as error:
        problem = Problem("bad_idempotency_key", "", f"{error}")
        return _Request(None, 0, [Refusal(entry.number, problem, written=False)])
    return _read(job, batch, entry.text, [entry])


def _read(job: Job, batch: Batch, body: bytes, entries: Sequence[Entry]) -> _Request:
    """The request as the edge would take it: with its invalid items, unless none can be read."""
    try:
        items = READERS[batch.source](body, batch, _UNLIMITED)
        if job.erased:
            body, items = without_erased(batch, body, items, job.erased)
    except EnvelopeError as error:
        problem = Problem(error.code, error.pointer, error.message)
        return _Request(None, 0, [Refusal(entry.number, problem, written=False) for entry in entries])
    refusals = []
    for index, item in enumerate(items):
        if isinstance(item, Invalid):
            entry = entries[0 if batch.source == "gameball" else index]
            refusals += [
                Refusal(
                    entry.number,
                    Problem(error.code, _in_entry(error.pointer, batch, job.kind), error.message),
                    written=True,
                )
                for error in item.errors[:1]
            ]
    request = NewRequest(batch, stored_body(batch, body), len(refusals))
    return _Request(request, len(items), refusals)


def _in_entry(pointer: str, batch: Batch, kind: str | None) -> str:
    """A pointer into the body as a pointer into the item as the file has it."""
    if batch.source == "gameball":
        return pointer
    inner = "/".join(["", *pointer.split("/")[2:]])
    return inner.removeprefix("/data") if kind is not None else inner
