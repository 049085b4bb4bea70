"""The facts that an audit compares, and the comparison. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from streams.core.event import Kind, is_correction
from streams.core.identity import erased_mark, key_of
from streams.wire.avro import Record
from streams.wire.money import from_bytes, to_decimal


class Identity(NamedTuple):
    """What makes an item unique. ``subject`` is its player, or the game of a game."""

    kind: Kind
    tenant: str
    source: str
    source_event: str
    event_id: str
    subject: str


class Place(NamedTuple):
    """Where an item was posted: a request and the index in it."""

    batch_id: str
    position: int


class Amount(NamedTuple):
    """The number of events of an item, and the sum of their amounts (0 for a kind without one)."""

    events: int
    total: Decimal

    def __add__(self, other: object) -> "Amount":
        assert isinstance(other, Amount)
        return Amount(self.events + other.events, self.total + other.total)


Events = dict[Identity, dict[Place, Amount]]
"""The events of a period, by identity and place."""


class Counts(NamedTuple):
    """The counts of a request's items, as outcomes have them."""

    received: int
    accepted: int
    duplicate: int
    conflict: int
    rejected: int

    def __add__(self, other: object) -> "Counts":
        assert isinstance(other, Counts)
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def unsettled(self) -> int:
        """The items without an outcome."""
        return self.received - self.accepted - self.duplicate - self.conflict - self.rejected


class Posted(NamedTuple):
    """A request in ``raw.batches``; ``rejected`` is the number of items that translate refuses.

    A backfill that was interrupted may have written one twice; then the counts are of both.
    """

    tenant: str
    raw_partition: int
    raw_offset: int
    received: int
    rejected: int

    def again(self, received: int, rejected: int) -> "Posted":
        """The request with the counts of one more record of it."""
        return self._replace(received=self.received + received, rejected=self.rejected + rejected)


@dataclass
class Facts:
    """What a period holds in each place.

    ``refused`` are the items that process refused, and ``earlier`` the identities of items of the
    period that were accepted before it. ``corrected`` has the place of the last correction of an
    identity, also one that was received after the period.
    """

    posted: dict[str, Posted] = field(default_factory=dict)
    items: Events = field(default_factory=dict)
    outcomes: dict[str, Counts] = field(default_factory=dict)
    stored_outcomes: dict[str, Counts] = field(default_factory=dict)
    topics: Events = field(default_factory=dict)
    stored: Events = field(default_factory=dict)
    refused: set[Place] = field(default_factory=set)
    earlier: set[Identity] = field(default_factory=set)
    corrected: dict[Identity, Place] = field(default_factory=dict)

    def counting(self, identity: Identity) -> dict[Place, Amount]:
        """The events of an identity on the topics, without those that a correction has replaced."""
        found = self.topics.get(identity, {})
        last = self.corrected.get(identity)
        return found if last is None else {place: at for place, at in found.items() if place == last}


class Finding(NamedTuple):
    """A difference: a code of docs/operations.md, the tenant, what it concerns, and in words."""

    code: str
    tenant: str
    subject: str
    message: str


def identity_of(kind: Kind, record: Record) -> Identity:
    """The identity of the item of a canonical record."""
    names = "tenant", "source", "source_event", "event_id", kind.subject_field
    return Identity(kind, *(record[name] for name in names))


def add_event(events: Events, kind: Kind, record: Record) -> None:
    """Adds a canonical record. Players that were derived from custom events are not items."""
    if kind is Kind.PLAYER and record["source_event"] == "event":
        return
    identity = identity_of(kind, record)
    place = Place(record["batch_id"], record["position"])
    total = to_decimal(from_bytes(record["amount"])) if "amount" in record else Decimal(0)
    places = events.setdefault(identity, {})
    places[place] = places.get(place, Amount(0, Decimal(0))) + Amount(1, total)


class Erased(NamedTuple):
    """The erased players: Kafka has their ids until its records expire, ClickHouse has pseudonyms.

    ``marks`` are in hexadecimal digits, ``pseudonyms`` are random; both with their tenant.
    """

    marks: frozenset[tuple[str, str]]
    pseudonyms: frozenset[tuple[str, str]]

    def name(self, identity: Identity) -> Identity:
        """The identity without the player's id or pseudonym, so that the two can be compared."""
        tenant, subject = identity.tenant, identity.subject
        is_erased = identity.kind is not Kind.GAME and (
            (tenant, subject) in self.pseudonyms
            or (bool(self.marks) and (tenant, erased_mark(key_of(tenant, subject)).hex()) in self.marks)
        )
        return identity._replace(subject="an erased player") if is_erased else identity

    def names(self, events: Events) -> Events:
        """Events under the names that :meth:`name` gives their identities."""
        found: Events = {}
        for identity, places in events.items():
            found.setdefault(self.name(identity), {}).update(places)
        return found


def compare(facts: Facts) -> Iterator[Finding]:
    """Every difference between what was posted, the topics and ClickHouse."""
    yield from _requests(facts)
    yield from _items(facts)
    yield from _stored(facts)


def _requests(facts: Facts) -> Iterator[Finding]:
    accepted = Counter(
        place.batch_id
        for place in {place for places in facts.topics.values() for place in places}
        if not is_correction(place.batch_id)  # both of its items are duplicates
    )
    for batch_id, posted in facts.posted.items():
        where = f"batch {batch_id}, raw partition {posted.raw_partition} offset {posted.raw_offset}"
        counts = facts.outcomes.get(batch_id)
        if counts is None:
            yield Finding(
                "no_outcome", posted.tenant, where, f"{posted.received} items have no outcome"
            )
            continue
        if (counts.received, counts.rejected) != (posted.received, posted.rejected):
            yield Finding(
                "outcome_differs", posted.tenant, where,
                f"the request has {posted.received} items with {posted.rejected} invalid, its outcomes "
                f"say {counts.received} and {counts.rejected}",
            )  # fmt: skip
        if counts.unsettled:
            yield Finding(
                "unsettled", posted.tenant, where, f"{counts.unsettled} items are not settled"
            )
        if counts.accepted != accepted[batch_id]:
            yield Finding(
                "accepted_differs", posted.tenant, where,
                f"{counts.accepted} items were accepted, {accepted[batch_id]} are on the topics",
            )  # fmt: skip
        stored = facts.stored_outcomes.get(batch_id)
        if stored != counts:
            yield Finding("outcome_not_stored", posted.tenant, where, f"{counts} became {stored}")
    for batch_id in facts.outcomes.keys() - facts.posted.keys():
        yield Finding("not_posted", "", f"batch {batch_id}", "has outcomes, and no request")


def _items(facts: Facts) -> Iterator[Finding]:
    """Each valid item counts once: in the period or before it."""
    for identity, places in facts.items.items():
        found = facts.topics.get(identity, {})
        if not found and identity not in facts.earlier and not places.keys() <= facts.refused:
            yield _finding("missing", identity, places, "was posted, and is on no topic")
    for identity in facts.topics:
        found = facts.counting(identity)
        if len(found) > 1:
            yield _finding("twice", identity, found, f"counts {len(found)} times")
        posted = facts.items.get(identity, {})
        for place, amount in found.items():
            if place not in posted:
                yield _finding("not_posted", identity, found, "is on a topic, and was not posted")
            elif amount != posted[place]:
                message = f"is {_text(amount)} on the topics, and was posted as {_text(posted[place])}"
                code = "twice" if amount.events > posted[place].events else "amount_differs"
                yield _finding(code, identity, found, message)


def _stored(facts: Facts) -> Iterator[Finding]:
    for identity in facts.topics.keys() | facts.stored.keys():
        found, stored = facts.counting(identity), facts.stored.get(identity, {})
        for place in found.keys() | stored.keys():
            if place not in stored:
                yield _finding("not_stored", identity, {place}, "is on a topic, and not in ClickHouse")
            elif place not in found:
                yield _finding("only_stored", identity, {place}, "is in ClickHouse, and on no topic")
            elif _differ(found[place], stored[place]):
                message = (
                    f"is {_text(found[place])} on the topics, {_text(stored[place])} in ClickHouse"
                )
                yield _finding("amount_differs", identity, {place}, message)


def _differ(found: Amount, stored: Amount) -> bool:
    """Whether amounts differ otherwise than by a repetition, which is another finding."""
    repeated = found.events > stored.events
    return not repeated and found.total != stored.total


def _text(amount: Amount) -> str:
    return f"{amount.events} events of {amount.total.normalize():f}"


def _finding(
    code: str, identity: Identity, places: Mapping[Place, Amount] | set[Place], message: str
) -> Finding:
    kind, tenant, source, source_event, event_id, subject = identity
    where = ", ".join(f"{place.batch_id}[{place.position}]" for place in sorted(places))
    named = f"{source} {source_event} {event_id} of {subject} ({kind.contract}) in {where}"
    return Finding(code, tenant, named, message)


def totals(facts: Facts) -> dict[str, dict[str, int]]:
    """The accounts of the period by tenant."""
    found: defaultdict[str, Counts] = defaultdict(lambda: Counts(0, 0, 0, 0, 0))
    for batch_id, posted in facts.posted.items():
        found[posted.tenant] += facts.outcomes.get(batch_id, Counts(0, 0, 0, 0, 0))
    return {tenant: counts._asdict() for tenant, counts in sorted(found.items())}
