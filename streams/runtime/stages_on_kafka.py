"""The two stages as callables: when a call returns, Kafka has acknowledged all its outputs.

:mod:`streams.runtime.faust_app` calls them; this module does not depend on Faust.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

from confluent_kafka import KafkaError, Message

from streams.core.accounting import encode_outcome, encode_reject
from streams.errors import DeliveryFailed
from streams.kafka.clients import FLUSHED, idempotent_producer, produce, reporting
from streams.records import layout
from streams.records.raw_batch import TRACEPARENT, RawRecord, traceparents
from streams.records.staged_chunk import (
    PackedGroup,
    StagedRecord,
    content_header,
    encode_chunk,
    partitions_header,
)
from streams.records.topics import OUTCOMES, RECORD_BYTES, REJECTS, STAGED
from streams.runtime.gaps import Gaps, Seek
from streams.runtime.reject_limit import RejectLimit
from streams.settings import Settings
from streams.stages.translate import translate
from streams.state.owned_partition import OwnedPartition, close_partitions
from streams.state.owners import Lanes
from streams.telemetry.traces import LINKS_MAX, Traces, parents_of
from streams.telemetry.worker_metrics import Work, WorkerMetrics

log = logging.getLogger(__name__)

FLUSH_WITHIN_S = 60.0
OPENING_AT_ONCE = 6
"""Number of partitions that are opened at the same time, in threads that transactions do not use."""


class Translate:
    """Translates raw records to ``staged``, ``rejects`` and ``outcomes``, at least once.

    1. Translate, send all outputs, wait until Kafka has acknowledged them. A crash before that repeats
       the same records; parts and ids are functions of the raw record, so the repetition is recognised.
    2. The caller acknowledges.

    If a record of a staged partition fails, no later one is written: the producer is gapless, and
    its messages do not time out before the flush gives up and the process ends. A position in
    ``staged`` therefore never skips a raw record.
    """

    def __init__(
        self,
        settings: Settings,
        frames: Mapping[str, bytes],
        computing: threading.Lock,
        metrics: WorkerMetrics,
        traces: Traces | None = None,
    ) -> None:
        """``computing`` is held during computation and released while the stage waits for Kafka."""
        self.settings = settings
        self._computing = computing
        self.frames = frames
        self._staged_headers = [
            content_header(frames),
            partitions_header(settings.partitions),
            *layout.STAGED_LAYOUT.headers,
        ]
        self._metrics = metrics
        self._traces = traces
        self._producer = idempotent_producer(
            settings,
            **reporting(metrics.clients.of("translate")),
            **FLUSHED | {"message.timeout.ms": 0, "log_level": 3},
        )
        self._failed: KafkaError | None = None
        self._reject_limit = RejectLimit(settings.reject_share_max)

    def __call__(self, records: Sequence[RawRecord]) -> None:
        """Blocking. Raises ``DeliveryFailed`` if Kafka did not take everything.

        Raises ``TooManyRejects`` before a record that brings the share of rejects above its limit.
        """
        began = time.monotonic()
        with self._span(records):
            with self._computing:
                work = self._translate(records)
            if self._producer.flush(FLUSH_WITHIN_S) or self._failed:
                raise DeliveryFailed(f"translate: {self._failed or 'no acknowledgement in time'}")
        self._metrics.stages.translated(len(records), work, time.monotonic() - began)

    def _span(self, records: Sequence[RawRecord]) -> AbstractContextManager[object]:
        if self._traces is None:
            return nullcontext()
        parents = [parent for record in records for parent in parents_of(record.headers)]
        return self._traces.batch("translate", parents, {"messaging.batch.message_count": len(records)})

    def poll(self) -> None:
        """Takes the client's statistics while the stage is idle; :meth:`__call__` takes them
        otherwise.
        """
        self._producer.poll(0)

    def _translate(self, records: Iterable[RawRecord]) -> Work:
        chunks: dict[int, _ChunkBuilder] = {}
        work = Work()
        for record in records:
            translation = translate(record, self.settings.partitions)
            parents = {} if self._traces is None else traceparents(record.headers)
            received = sum(outcome.received for outcome in translation.outcomes)
            self._reject_limit.add(received, translation.unexpected)
            work.unexpected += translation.unexpected
            work.outcomes += translation.outcomes
            work.refused.update(reject.code for reject in translation.rejects)
            for partition, groups in translation.groups.items():
                chunk = chunks.setdefault(partition, _ChunkBuilder())
                for group in groups:
                    if chunk.add(group, parents.get(group.batch_id)) > RECORD_BYTES:
                        self._stage(partition, chunk)
                        work.sent[STAGED] += 1
            partition = record.partition % self.settings.partitions
            for reject in translation.rejects:
                key = reject.tenant.encode()
                self._send(REJECTS, "reject", partition, key, encode_reject(reject))
            for outcome in translation.outcomes:
                key = outcome.tenant.encode()
                self._send(OUTCOMES, "outcome", partition, key, encode_outcome(outcome))
        for partition, chunk in chunks.items():
            if chunk.groups:
                self._stage(partition, chunk)
                work.sent[STAGED] += 1
        work.sent[REJECTS], work.sent[OUTCOMES] = work.refused.total(), len(work.outcomes)
        return work

    def _stage(self, partition: int, chunk: "_ChunkBuilder") -> None:
        datum, parents = chunk.drain()
        headers = [*self._staged_headers, *((TRACEPARENT, parent) for parent in parents)]
        self._send(STAGED, "staged-chunk", partition, None, datum, headers=headers)

    def _send(
        self,
        topic: str,
        contract: str,
        partition: int,
        key: bytes | None,
        datum: bytes,
        *,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        name, value = self.settings.topic_prefix + topic, self.frames[contract] + datum
        produce(
            self._producer, name, value, key, partition,
            on_delivery=self._delivered, headers=list(headers),
        )  # fmt: skip

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed = error


class _ChunkBuilder:
    """Groups that are collected for one staged record."""

    def __init__(self) -> None:
        self.groups: list[PackedGroup] = []
        self._parents: dict[bytes, None] = {}
        self._bytes = 0

    def add(self, group: PackedGroup, parent: bytes | None) -> int:
        """Adds a group, with the ``traceparent`` of its request; returns the size so far, in bytes."""
        self.groups.append(group)
        if parent is not None:
            self._parents[parent] = None
        self._bytes += len(group.items)
        return self._bytes

    def drain(self) -> tuple[bytes, list[bytes]]:
        """Encodes the groups that were added since the last call, and removes them.

        The second value has the ``traceparent`` of each traced request among them.
        """
        datum, parents = encode_chunk(self.groups), list(self._parents)[:LINKS_MAX]
        self.groups, self._parents, self._bytes = [], {}, 0
        return datum, parents


OpenPartition = Callable[[int], OwnedPartition]


class Process:
    """Passes staged records to the partitions that this worker owns.

    ``seek(partition, offset)`` delivers records again from an offset. If all partitions share a lane,
    their records are applied in one transaction.
    """

    def __init__(self, lanes: Lanes, open_partition: OpenPartition, seek: Seek) -> None:
        self._lanes = lanes
        self._open_partition = open_partition
        self._gaps = Gaps(STAGED, seek)
        self._opening = ThreadPoolExecutor(OPENING_AT_ONCE, "opening")
        self._opened: dict[int, asyncio.Task[OwnedPartition]] = {}
        self._locks: dict[int | None, asyncio.Lock] = {}

    def assign(self, partitions: Iterable[int]) -> None:
        """Begins to open partitions that are not open yet; their records wait."""
        fresh = [partition for partition in partitions if partition not in self._opened]
        if not fresh:
            return
        claiming = asyncio.create_task(asyncio.to_thread(self._lanes.claim, fresh))
        for partition in fresh:
            self._opened[partition] = asyncio.create_task(self._open(partition, claiming))

    async def _open(self, partition: int, claiming: asyncio.Task[None]) -> OwnedPartition:
        await claiming
        run = asyncio.get_running_loop().run_in_executor
        return await run(self._opening, self._open_partition, partition)

    async def revoke(self, partitions: Iterable[int]) -> None:
        """Closes partitions, each after its current transaction."""
        closing = []
        for partition in partitions:
            async with self._lock(partition):
                task = self._opened.pop(partition, None)
                if task is not None:
                    closing.append(await task)
                self._gaps.close(partition)
        if closing:
            await asyncio.to_thread(close_partitions, self._lanes, closing)

    async def close(self) -> None:
        """Closes all partitions."""
        await self.revoke(list(self._opened))
        self._opening.shutdown()

    def opened(self) -> dict[int, bool]:
        """The partitions that are assigned, and whether each is open. For any thread."""
        return {partition: _is_open(task) for partition, task in list(self._opened.items())}

    async def sample(self) -> None:
        """Measures the tables of each open partition, between its transactions."""
        for partition, task in list(self._opened.items()):
            if task.done():
                async with self._lock(partition):
                    if self._opened.get(partition) is task:
                        await asyncio.to_thread(task.result().sample)

    def positions(self) -> dict[int, int]:
        """By open partition: the last staged offset applied. For any thread."""
        return {
            partition: task.result().position.staged_offset
            for partition, task in list(self._opened.items())
            if _is_open(task)
        }

    async def seek(self) -> None:
        """Seeks back where records are missing."""
        await self._gaps.seek()

    def raise_failures(self) -> None:
        """Raises the error of a partition that could not be opened, even if no record waits for it."""
        for task in self._opened.values():
            if task.done():
                task.result()

    async def __call__(self, work: Mapping[int, Sequence[StagedRecord]]) -> set[int]:
        """Applies records by partition; returns the partitions whose records are to be acknowledged.

        The transaction of those that are open does not wait for those that are opening.
        """
        opening = {partition for partition, task in self._opened.items() if not task.done()}
        groups, together = [], {}
        for partition, records in work.items():
            if self._lanes.together and partition not in opening:
                together[partition] = records
            else:
                groups.append({partition: records})
        if together:
            groups.append(together)
        return set().union(*await asyncio.gather(*map(self._apply, groups)))

    async def _apply(self, work: Mapping[int, Sequence[StagedRecord]]) -> set[int]:
        for partition in work:
            if partition in self._opened:
                await asyncio.shield(self._opened[partition])
        async with self._lock(next(iter(work))):
            done = set()
            fresh: list[tuple[OwnedPartition, Sequence[StagedRecord]]] = []
            for partition, records in work.items():
                task = self._opened.get(partition)
                if task is None or not task.done():
                    continue  # it was revoked; its next owner receives the records again
                owned = task.result()
                left = [record for record in records if record.offset >= owned.expected]
                if left and left[0].offset > owned.expected:
                    self._gaps.found(partition, owned.expected, left[0].offset)
                    continue
                done.add(partition)
                if left:
                    self._gaps.close(partition)
                    fresh.append((owned, left))
            if fresh:
                await asyncio.to_thread(fresh[0][0].lane.apply, fresh)
            return done

    def _lock(self, partition: int) -> asyncio.Lock:
        return self._locks.setdefault(None if self._lanes.together else partition, asyncio.Lock())


def _is_open(task: asyncio.Task[OwnedPartition]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
