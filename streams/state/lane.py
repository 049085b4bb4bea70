"""A lane: a transactional id of this process, and the transactions of the partitions that it writes.

Applying records, and what a crash after each step leaves:

1. ``begin_transaction``. For each partition with records: decide (read state, compute effects), then
   send outputs and changelog. The broker aborts what was not committed.
2. ``commit_transaction``. Outputs, states and positions of all these partitions are durable; RocksDB is
   behind and catches up from the changelog when a partition is opened again.
3. Write the tables, one partition after another.
4. The caller acknowledges to Faust. That offset is a hint: records that are delivered again are
   skipped.
"""

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

from confluent_kafka import KafkaError, Message, Producer

from streams.errors import DeliveryFailed
from streams.records.staged_chunk import StagedRecord
from streams.telemetry.traces import Traces, parents_of
from streams.telemetry.worker_metrics import StageMetrics, Work


class Share(NamedTuple):
    """What a partition has sent in a transaction; ``store`` writes its state after the commit."""

    work: Work
    store: Callable[[], None]


class Writes(Protocol):
    """A partition that writes in the transactions of a lane."""

    partition: int

    def runs(self, records: Sequence[StagedRecord]) -> Sequence[Sequence[StagedRecord]]:
        """The records that are not applied yet, divided so that each run fits one transaction."""
        ...

    def send(self, run: Sequence[StagedRecord]) -> Share:
        """Decides a run and sends its effects, within a transaction of the lane."""
        ...


class Lane:
    """A producer with a transactional id, whose transactions contain the work of several partitions.

    ``computing`` is held during computation and released while the lane waits for Kafka. Blocking.
    After any exception the process must end.
    """

    def __init__(
        self,
        name: str,
        producer: Producer,
        computing: threading.Lock,
        metrics: StageMetrics,
        traces: Traces | None = None,
    ) -> None:
        """``producer`` has the transactional id ``name``."""
        self.name = name
        self.producer = producer
        self._computing = computing
        self._metrics = metrics
        self._traces = traces
        self._transaction = threading.Lock()

    def apply(self, work: Sequence[tuple[Writes, Sequence[StagedRecord]]]) -> None:
        """Applies records of partitions in one transaction; skips those that are already applied.

        A run of records that needs a transaction of its own makes more of them: each has the next run
        of every partition. Raises ``InputGap`` if a record is missing.
        """
        runs = [[(writes, run) for run in writes.runs(records)] for writes, records in work]
        for together in itertools.zip_longest(*runs):
            self._commit([share for share in together if share is not None])

    def write(self, topic: str, values: Mapping[int, Mapping[str, bytes | None]]) -> dict[int, int]:
        """Writes records, by partition and key, in a transaction of their own; returns the offset of
        the last one in each partition.
        """
        last: dict[int, int] = {}

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                raise DeliveryFailed(f"{message.topic()}: {error.str()}")
            last[message.partition() or 0] = message.offset() or 0

        with self._transaction:
            self.producer.begin_transaction()
            for partition, records in values.items():
                for key, value in records.items():
                    self.producer.produce(topic, value, key, partition, on_delivery=delivered)
            self.producer.commit_transaction()
        return last

    def _commit(self, together: Sequence[tuple[Writes, Sequence[StagedRecord]]]) -> None:
        began = time.monotonic()
        shares = []
        with self._transaction, self._span(together):
            self.producer.begin_transaction()
            for writes, run in together:
                with self._computing:
                    shares.append(writes.send(run))
            committing = time.monotonic()
            self.producer.commit_transaction()
            committed = time.monotonic()
        work = Work()
        for share in shares:
            with self._computing:
                share.store()
            work.outcomes += share.work.outcomes
            work.sent += share.work.sent
            work.refused += share.work.refused
        records = sum(len(run) for _, run in together)
        self._metrics.applied(records, work, committed - began, committed - committing)

    def _span(
        self, together: Sequence[tuple[Writes, Sequence[StagedRecord]]]
    ) -> AbstractContextManager[object]:
        if self._traces is None:
            return nullcontext()
        records = [record for _, run in together for record in run]
        parents = [parent for record in records for parent in parents_of(record.headers)]
        attributes: dict[str, str | int] = {"messaging.batch.message_count": len(records)}
        if len(together) == 1:
            [(writes, run)] = together
            attributes["messaging.destination.partition.id"] = str(writes.partition)
            attributes["messaging.kafka.offset"] = run[0].offset
        return self._traces.batch("transaction", parents, attributes)
