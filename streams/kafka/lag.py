"""The lag of the stages' consumer groups, in records and in seconds."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    OffsetSpec,
)

from streams.errors import BrokerUnavailable
from streams.kafka.clients import client_config, committed_consumer
from streams.kafka.offsets import PartitionId, list_offsets
from streams.records.topics import CONTRACTS, PROFILES, RAW, STAGED, WINDOW
from streams.settings import Settings
from streams.telemetry.lag_metrics import Lag, LagMetrics

log = logging.getLogger(__name__)

EVERY_S = 10.0
"""The interval of the measurements."""

_WITHIN_S = 5.0
_FETCH_BYTES = 65_536


class Group(NamedTuple):
    """A consumer group, without the prefix, and the topics that its stages read."""

    name: str
    topics: Mapping[str, Sequence[str]]


LINE = Group("line", {"translate": [RAW], "process": [STAGED]})
SINK = Group(
    "sink",
    {"sink": [topic for topic in CONTRACTS if topic not in (STAGED, WINDOW, PROFILES)]},
)


class LagMeter:
    """Measures the lag of a group without joining it. Only one thread may use it at a time."""

    def __init__(self, settings: Settings, group: Group) -> None:
        self._bootstrap = settings.kafka_bootstrap
        self._stages = {
            settings.topic_prefix + name: (stage, name)
            for stage, names in group.topics.items()
            for name in names
        }
        self._places = [
            TopicPartition(topic, number)
            for topic in self._stages
            for number in range(settings.partitions)
        ]
        self._admin = AdminClient(client_config(settings))
        self._consumer = committed_consumer(
            settings,
            settings.topic_prefix + group.name,
            **{"fetch.message.max.bytes": _FETCH_BYTES, "queued.min.messages": 1},
        )

    def measure(self) -> list[Lag]:
        """The lag of every partition. Raises ``BrokerUnavailable`` if Kafka does not answer."""
        try:
            self._admin.list_topics(
                timeout=_WITHIN_S
            )  # refreshes the leader epochs for the requests below
            committed = self._consumer.committed(self._places, timeout=_WITHIN_S)
            ends = self._offsets(self._places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
            begins = self._offsets(
                [tp for tp in committed if tp.offset < 0],
                OffsetSpec.earliest(),  # type: ignore[no-untyped-call]
            )
            behind = []
            for tp in committed:
                offset = begins.get((tp.topic, tp.partition), tp.offset)
                if offset < ends[tp.topic, tp.partition]:
                    behind.append(TopicPartition(tp.topic, tp.partition, offset))
            first = self._first(behind)
        except KafkaException as error:
            raise BrokerUnavailable(
                f"Kafka at {self._bootstrap} does not answer: {error.args[0].str()}"
            ) from None
        now = time.time()
        found = {(tp.topic, tp.partition): (tp.offset, None) for tp in behind} | first
        return [self._lag((p.topic, p.partition), found, ends, now) for p in self._places]

    def _lag(
        self,
        tp: PartitionId,
        found: Mapping[PartitionId, tuple[int, float | None] | None],
        ends: Mapping[PartitionId, int],
        now: float,
    ) -> Lag:
        topic, partition = tp
        stage, name = self._stages[topic]
        first = found.get(tp)
        if first is None:
            return Lag(stage, name, partition, 0, 0.0)
        offset, written_s = first
        seconds = None if written_s is None else max(0.0, now - written_s)
        return Lag(stage, name, partition, ends[tp] - offset, seconds)

    def _offsets(self, tps: Iterable[TopicPartition], spec: OffsetSpec) -> dict[PartitionId, int]:
        return list_offsets(self._admin, tps, spec, IsolationLevel.READ_COMMITTED, _WITHIN_S)

    def _first(self, behind: Sequence[TopicPartition]) -> dict[PartitionId, tuple[int, float] | None]:
        """Offset and time (s, epoch) of the first record at or after each offset.

        None where only transaction markers or aborted records are left.
        """
        found: dict[PartitionId, tuple[int, float] | None] = {}
        if not behind:
            return found
        deadline = time.monotonic() + _WITHIN_S
        self._consumer.assign(list(behind))
        try:
            while len(found) < len(behind) and time.monotonic() < deadline:
                message = self._consumer.poll(0.1)
                if message is None:
                    continue
                tp = message.topic() or "", message.partition() or 0
                if tp not in found:
                    found[tp] = _read(message)
                    self._consumer.pause([TopicPartition(*tp)])
        finally:
            self._consumer.resume(list(behind))  # a partition stays paused after the assignment ends
            self._consumer.unassign()
        return found

    def close(self) -> None:
        """Closes the connections."""
        self._consumer.close()


def _read(message: Message) -> tuple[int, float] | None:
    """Offset and time of a message; None at the end of a partition. Raises ``KafkaException``."""
    error = message.error()
    if error is None:
        return message.offset() or 0, message.timestamp()[1] / 1000
    if error.code() == KafkaError._PARTITION_EOF:
        return None
    raise KafkaException(error)


def report_lag(
    meter: LagMeter,
    metrics: LagMetrics,
    stopping: threading.Event,
    wanted: Callable[[], bool] = lambda: True,
) -> None:
    """Measures every few seconds until ``stopping`` is set, and closes the meter.

    No lag is served while ``wanted`` returns false, or while Kafka does not answer.
    """
    with closing(meter):
        while not stopping.wait(EVERY_S):
            try:
                metrics.show(meter.measure() if wanted() else [])
            except BrokerUnavailable as error:
                metrics.show([])
                log.warning("the lag was not measured: %s", error)


def records_behind(settings: Settings) -> dict[str, int]:
    """The lag of each stage (translate, process, sink) in records."""
    behind = {stage: 0 for group in (LINE, SINK) for stage in group.topics}
    for group in (LINE, SINK):
        with closing(LagMeter(settings, group)) as meter:
            for lag in meter.measure():
                behind[lag.stage] += lag.records
    return behind
