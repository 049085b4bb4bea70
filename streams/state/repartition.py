"""More partitions for a line whose workers are stopped.

A key's partition is its checksum modulo the number of partitions. If the new number is a multiple of
the old one, all keys of a new partition belonged to one old partition, its parent. So a new
partition begins with a copy of its parent's window, and with those profiles that are now its own. Ids
are hashes without their player: they cannot be divided, and all of them are copied. The parent never
reads the state of players that it no longer has, and drops it with the window.

New partitions are added to the existing topics: offsets, positions, local state and consumer groups of
the old partitions stay valid.

Steps, and the state after a crash at the end of each:

1. Take the old partitions over from their last owners, which aborts open transactions of workers that
   were killed or hang. Check that the input is drained and that the accounts balance. Nothing is
   written.
2. Add the new partitions to the topics of the state. From now to the end no process starts, because the
   topics have different numbers of partitions. The same command continues after an interruption.
3. For each new partition, copy the profiles, then the window in transactions, then the position. A
   copied record has the offset of its original; an interrupted copy continues after the last record.
4. Read each copy again and compare it with its parent. Then check that nothing was written to the old
   partitions since step 1.
5. Add the new partitions to the other topics, to ``staged`` last. Workers start with the new number.
"""

import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from confluent_kafka import (
    ConsumerGroupState,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions
from prometheus_client import CollectorRegistry

from streams.core.accounting import Accounts
from streams.core.identity import parents
from streams.core.profile import is_of_partition
from streams.errors import BrokerUnavailable, ConfigurationError, NotDrained, StateDamaged
from streams.kafka.clients import client_config, committed_consumer, uncommitted_consumer
from streams.kafka.offsets import watermarks, when_elected
from streams.kafka.reading import to_the_ends
from streams.kafka.schemas import Schemas
from streams.records import layout
from streams.records.topics import CONTRACTS, OUTCOMES, OWNERS, PROFILES, RAW, STAGED, TOPICS, WINDOW
from streams.settings import Settings
from streams.state.changelog import POSITION_KEY, Position, StateCodec, change
from streams.state.owners import Lanes
from streams.telemetry.worker_metrics import WorkerMetrics
from streams.wire.avro import Reader

COPIED_FROM = "copied-from"
"""The header of a copied record: the offset of its original."""

TRANSACTION_RECORDS = 200
_WITHIN_S = 60.0
_NOTHING = Position(-1, {})


class Copied(NamedTuple):
    """The contents of a new partition after its copy is complete."""

    partition: int
    parent: int
    records: int
    entries: int
    profiles: int
    bytes: int

    def __str__(self) -> str:
        return (
            f"partition {self.partition}, a copy of {self.parent}: {self.entries:,} ids, rounds and "
            f"positions in {self.records:,} records ({self.bytes:,} bytes), {self.profiles:,} profiles"
        )


class Repartitioning:
    """One repartition of a line; ``report`` is called with a line of text for each step."""

    def __init__(
        self, settings: Settings, schemas: Schemas, to: int, report: Callable[[str], None]
    ) -> None:
        """Raises ``ConfigurationError`` if there is no such line, or another repartition was begun."""
        self._settings = settings
        self._frame = schemas.frames[CONTRACTS[WINDOW]]
        self._codec = StateCodec(schemas)
        contract = CONTRACTS[OUTCOMES]
        self._outcomes = Reader(contract, schemas.frames[contract], schemas.schema_of)
        self._to = to
        self._report = report
        self._admin = AdminClient(client_config(settings))
        by_partition = settings.model_copy(update={"transactions": "partition"})
        metrics = WorkerMetrics(CollectorRegistry())
        self._lanes = Lanes(by_partition, "repartition", threading.Lock(), metrics, within_s=_WITHIN_S)
        self._counts = self._count_partitions()
        self._from = self._counts[STAGED]
        begun = self._counts[WINDOW]
        if begun not in (self._from, to):
            raise ConfigurationError(
                f"a repartition to {begun} was begun and is not complete: run `roundhouse repartition "
                f"--to {begun}`"
            )

    def run(self, dry: bool) -> list[Copied]:
        """Makes the copies and returns them; with ``dry`` only computes them and writes nothing.

        Raises ``ConfigurationError`` if the new number is no multiple of the current one,
        ``NotDrained`` if a worker runs or has work left, ``StateDamaged`` if a copy differs.
        """
        if all(count == self._to for count in self._counts.values()):
            self._report(f"all topics have {self._to} partitions: nothing to do")
            return []
        parent_of = parents(self._from, self._to)
        if not dry:
            for partition in range(self._from):
                self._take(partition)
        ends = self._ends()
        positions = self._drained()
        self._check_accounts()
        if dry:
            return [self._measured(child, parent) for child, parent in parent_of.items()]
        self._grow([WINDOW, PROFILES, OWNERS])
        copies = []
        for child, parent in parent_of.items():
            began = time.monotonic()
            self._copy(child, parent, positions[parent])
            copied = self._verified(child, parent)
            copies.append(copied)
            self._report(f"{copied}, verified, in {time.monotonic() - began:.1f} s")
        if self._ends() != ends:
            raise NotDrained(
                "a worker has written meanwhile: wait until it has no lag, stop it, and run this again"
            )
        self._report("nothing was written to the old partitions meanwhile: the accounts are the same")
        self._grow([topic.name for topic in TOPICS if topic.name != STAGED])
        self._grow([STAGED])
        return copies

    # Checking ---------------------------------------------------------------------------------

    def _count_partitions(self) -> dict[str, int]:
        found = self._admin.list_topics(timeout=_WITHIN_S).topics
        missing = [name for topic in TOPICS if (name := self._name(topic.name)) not in found]
        if missing:
            raise ConfigurationError(
                f"topics are missing ({', '.join(missing)}): no line of this release has the prefix "
                f"{self._settings.topic_prefix!r} on this Kafka"
            )
        return {topic.name: len(found[self._name(topic.name)].partitions) for topic in TOPICS}

    def _drained(self) -> dict[int, Position]:
        """The position of each old partition."""
        group = self._settings.topic_prefix + "line"
        described = when_elected(
            lambda: self._admin.describe_consumer_groups([group])[group].result(_WITHIN_S)
        )
        if described.state not in (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD):
            raise NotDrained(f"workers run in the consumer group {group}: stop them first")
        positions = {partition: self._position(partition) for partition in range(self._from)}
        consumer = committed_consumer(self._settings, group)
        try:
            for partition, position in positions.items():
                low, high = watermarks(consumer, self._at(STAGED, partition))
                left = high - max(low, position.staged_offset + 1)
                if left:
                    raise NotDrained(
                        f"{left} records of {STAGED}[{partition}] are not applied yet. Stop the edges, "
                        f"start workers with ROUNDHOUSE_PARTITIONS={self._from}, wait until "
                        "they have no lag, stop them, and run this again."
                    )
                # all records are applied, even if the changelog no longer has the position
                positions[partition] = position._replace(staged_offset=high - 1)
            places = [self._at(RAW, number) for number in range(self._counts[RAW])]
            for place in when_elected(lambda: consumer.committed(places, timeout=_WITHIN_S)):
                applied = max(
                    position.raw.get(place.partition, (-1, -1))[0] for position in positions.values()
                )
                if applied >= max(0, place.offset):
                    raise NotDrained(
                        f"{RAW}[{place.partition}] is translated up to offset {applied} and committed "
                        f"up to {place.offset}: a worker was killed. Start workers with "
                        f"ROUNDHOUSE_PARTITIONS={self._from} and stop them when they have no lag."
                    )
        finally:
            consumer.close()
        return positions

    def _check_accounts(self) -> None:
        """Reports the accounts. Raises ``NotDrained`` if they are complete and do not balance."""
        accounts = Accounts()
        for partition in range(self._from):
            for message in self._records(OUTCOMES, partition):
                accounts.add(self._outcomes.read(message.value() or b""))
        for tenant, sums in sorted(accounts.by_tenant.items()):
            counted = ", ".join(f"{count:,} {name}" for name, count in sums.items())
            self._report(f"{tenant or 'no tenant'}: {counted}")
        if any(begin > 0 for begin, _ in self._bounds([OUTCOMES]).values()):
            self._report(f"the oldest records of {OUTCOMES} are deleted: the accounts need not balance")
        elif unsettled := accounts.unsettled():
            items = ", ".join(f"{tenant}: {count}" for tenant, count in unsettled.items())
            raise NotDrained(
                f"items that are received and neither accepted, duplicate, conflict nor rejected: "
                f"{items}. Start workers with ROUNDHOUSE_PARTITIONS={self._from}, and read their logs."
            )

    def _bounds(self, topics: list[str]) -> dict[tuple[str, int], tuple[int, int]]:
        """The first and the end offset of each old partition of ``topics``."""
        consumer = committed_consumer(self._settings, self._name("repartition"))
        try:
            return {
                (topic, partition): watermarks(consumer, self._at(topic, partition))
                for topic in topics
                for partition in range(self._from)
            }
        finally:
            consumer.close()

    def _ends(self) -> list[int]:
        """The end offsets of the old partitions of all topics that every working worker writes to."""
        return [end for _, end in self._bounds([WINDOW, PROFILES, STAGED, OUTCOMES]).values()]

    def _position(self, partition: int) -> Position:
        found = _NOTHING
        for message in self._records(WINDOW, partition):
            puts = self._codec.window_puts(message.key(), message.value() or b"")
            if POSITION_KEY in puts:
                found = self._codec.position(puts[POSITION_KEY])
        return found

    # Copying ----------------------------------------------------------------------------------

    def _grow(self, names: list[str]) -> None:
        names = [name for name in names if self._counts[name] < self._to]
        if not names:
            return
        wanted = [NewPartitions(self._name(name), self._to) for name in names]
        for future in self._admin.create_partitions(wanted).values():
            future.result(_WITHIN_S)
        deadline = time.monotonic() + _WITHIN_S
        while min(self._count_partitions()[name] for name in names) < self._to:
            if time.monotonic() > deadline:
                raise BrokerUnavailable(f"the new partitions of {', '.join(names)} do not appear")
            time.sleep(0.1)
        self._counts |= dict.fromkeys(names, self._to)
        self._report(f"{self._to} partitions: {', '.join(names)}")

    def _copy(self, child: int, parent: int, position: Position) -> None:
        producer = self._take(child)
        with _Transactions(producer) as sending:
            for key, message in self._own_profiles(parent, child).items():
                sending.send(self._at(PROFILES, child), message, message.value() or b"", key)
        after = self._copied_up_to(child)
        with _Transactions(producer) as sending:
            for message in self._records(WINDOW, parent, after):
                sending.send(self._at(WINDOW, child), message, message.value() or b"")
            # its staged partition is empty at first; its parent's raw positions are valid for it too
            begin = self._frame + change({}, position.of_child())
            sending.send(self._at(WINDOW, child), None, begin)
        # a commit returns before its markers are in the partitions, and readers see it only after that;
        # the next producer with the transactional id waits for the markers
        self._take(child)

    def _take(self, partition: int) -> Producer:
        """A producer of the partition; earlier producers are fenced, and their transactions aborted."""
        consumer = uncommitted_consumer(self._settings, self._name("repartition"))
        try:
            return self._lanes.take(partition, consumer).producer
        finally:
            consumer.close()

    def _copied_up_to(self, child: int) -> int:
        """The offset of the parent's window at which the copy continues."""
        after = 0
        for message in self._records(WINDOW, child):
            after = max(after, _origin(message) + 1)
        return after

    def _own_profiles(self, parent: int, child: int) -> dict[bytes, Message]:
        """The newest record of each profile that the new partition will look up."""
        found: dict[bytes, Message] = {}
        for message in self._records(PROFILES, parent):
            key = message.key() or b""
            if message.value() is None:  # a tombstone of an erased player
                found.pop(key, None)
            elif is_of_partition(key.decode(), child, self._to):
                found[key] = message
        return found

    # Verifying --------------------------------------------------------------------------------

    def _verified(self, child: int, parent: int) -> Copied:
        """Reads the copy and its parent. Raises ``StateDamaged`` where they differ."""
        originals = self._records(WINDOW, parent)
        due = next(originals, None)
        records = entries = size = 0
        last = _NOTHING
        for message in self._records(WINDOW, child):
            value = message.value() or b""
            puts = self._codec.window_puts(None, value)
            if POSITION_KEY in puts:
                last = self._codec.position(puts[POSITION_KEY])
            origin = _origin(message)
            if origin < 0 or (due is not None and origin < (due.offset() or 0)):
                continue  # the position, or a record whose original was deleted meanwhile
            if due is None or origin != due.offset() or value != (due.value() or b""):
                raise StateDamaged(
                    f"{WINDOW}[{child}]: the copy of offset {origin} is not its original"
                )
            records, entries, size = records + 1, entries + len(puts), size + len(value)
            due = next(originals, None)
        if due is not None or last.staged_offset != -1:
            raise StateDamaged(f"{WINDOW}[{child}] is not a whole copy of partition {parent}")
        own = self._own_profiles(parent, child)
        there = {message.key(): message.value() for message in self._records(PROFILES, child)}
        if there != {key: message.value() for key, message in own.items()}:
            raise StateDamaged(f"{PROFILES}[{child}] does not hold the profiles of partition {child}")
        return Copied(child, parent, records, entries, len(own), size)

    def _measured(self, child: int, parent: int) -> Copied:
        """The future contents of the copy."""
        records = entries = size = 0
        for message in self._records(WINDOW, parent):
            value = message.value() or b""
            entries += len(self._codec.window_puts(None, value))
            records, size = records + 1, size + len(value)
        own = self._own_profiles(parent, child)
        return Copied(child, parent, records, entries, len(own), size)

    # Kafka ------------------------------------------------------------------------------------

    def _records(self, topic: str, partition: int, start: int = 0) -> Iterator[Message]:
        """The committed records of a partition from ``start`` to its current end."""
        consumer = committed_consumer(self._settings, self._name("repartition"))
        try:
            for message in to_the_ends(consumer, [TopicPartition(self._name(topic), partition, start)]):
                where = f"{topic}[{partition}] at offset {message.offset()}"
                layout.STATE_LAYOUT.check(where, _headers(message).items())
                yield message
        finally:
            consumer.close()

    def _at(self, topic: str, partition: int) -> TopicPartition:
        return TopicPartition(self._name(topic), partition)

    def _name(self, topic: str) -> str:
        return self._settings.topic_prefix + topic


class _Transactions:
    """Sends copies in transactions of :data:`TRANSACTION_RECORDS`; the last one ends with the block."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._sent = 0

    def __enter__(self) -> "_Transactions":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._sent % TRANSACTION_RECORDS:
            (self._producer.abort_transaction if kind else self._producer.commit_transaction)()

    def send(
        self, to: TopicPartition, original: Message | None, value: bytes, key: bytes | None = None
    ) -> None:
        """Sends a copy of ``original`` with its time and headers; without one, a new record."""
        if self._sent % TRANSACTION_RECORDS == 0:
            self._producer.begin_transaction()
        headers: list[tuple[str, bytes]] = []
        at_ms = int(time.time() * 1000)
        if original is not None:
            headers = [*_headers(original).items(), (COPIED_FROM, b"%d" % (original.offset() or 0))]
            at_ms = original.timestamp()[1]
        self._producer.produce(
            to.topic,
            value,
            key,
            to.partition,
            timestamp=at_ms,
            headers=headers,  # type: ignore[arg-type]  # a list of wider pairs, they say
        )
        self._producer.poll(0)
        self._sent += 1
        if self._sent % TRANSACTION_RECORDS == 0:
            self._producer.commit_transaction()


def _origin(message: Message) -> int:
    """The offset that a record was copied from; -1 if it is no copy."""
    return int(_headers(message).get(COPIED_FROM, b"-1"))


def _headers(message: Message) -> dict[str, bytes]:
    return dict(message.headers() or [])  # type: ignore[arg-type]
