"""The lag of the stages' consumer groups, in records and in seconds."""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    OffsetSpec,
)

from streams.errors import BrokerUnavailable
from streams.kafka.clients import client_config, committed_consumer
from streams.kafka.offsets import PartitionId, list_offsets
from streams.records.topics import (
    AWARDS,
    CONTRACTS,
    PROFILES,
    RAW,
    STAGED,
    STANDINGS,
    WEBHOOKS,
    WINDOW,
)
from streams.settings import Settings
from streams.telemetry.lag_metrics import Lag

_ASK_WITHIN_S = 10.0
_READ_WITHIN_S = 5.0
_FETCH_BYTES = 65_536


class Group(NamedTuple):
    """A consumer group, without the prefix, and the topics that its stages read."""

    name: str
    topics: Mapping[str, Sequence[str]]


LINE = Group("line", {"translate": [RAW], "process": [STAGED]})
SINK = Group(
    "sink",
    {
        "sink": [
            topic for topic in CONTRACTS if topic not in (STAGED, STANDINGS, WEBHOOKS, WINDOW, PROFILES)
        ]
    },
)

DELIVERY = Group("webhooks", {"webhooks": [AWARDS]})


class Position(NamedTuple):
    """Where a group is in a partition: the offset that it has committed (the first of the partition if
    it has committed none), and the end of the partition's committed records."""

    committed: int
    end: int


class LagMeter:
    """Measures the lag of a group without joining it. Only one thread may use it at a time.

    ``partitions`` are those of all topics of the group. Every method raises ``BrokerUnavailable`` if
    Kafka does not answer.
    """

    def __init__(self, settings: Settings, group: Group) -> None:
        self._bootstrap = settings.kafka_bootstrap
        self._stages = {
            settings.topic_prefix + name: (stage, name)
            for stage, names in group.topics.items()
            for name in names
        }
        self.partitions: list[PartitionId] = [
            (topic, number) for topic in self._stages for number in range(settings.partitions)
        ]
        quiet = {"log_level": 0}
        self._admin = AdminClient({**client_config(settings), **quiet})
        self._consumer = committed_consumer(
            settings,
            settings.topic_prefix + group.name,
            **quiet,
            **{"fetch.message.max.bytes": _FETCH_BYTES, "queued.min.messages": 1},
        )

    def measure(self) -> list[Lag]:
        """The lag of every partition."""
        return self.lags(self.positions(self.partitions))

    def positions(self, tps: Collection[PartitionId]) -> dict[PartitionId, Position]:
        """Where the group is in some partitions; asks Kafka also if there are none."""
        with self._answering():
            # The request refreshes the leader epochs for those below.
            self._admin.list_topics(timeout=_ASK_WITHIN_S)
            if not tps:
                return {}
            places = [TopicPartition(*tp) for tp in tps]
            committed = self._consumer.committed(places, timeout=_ASK_WITHIN_S)
            ends = self._offsets(places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
            begins = self._offsets(
                [tp for tp in committed if tp.offset < 0],
                OffsetSpec.earliest(),  # type: ignore[no-untyped-call]
            )
        found = {}
        for place in committed:
            tp = place.topic, place.partition
            found[tp] = Position(begins.get(tp, place.offset), ends[tp])
        return found

    def lags(self, positions: Mapping[PartitionId, Position]) -> list[Lag]:
        """The lag at some positions; the first records that wait are read for their age."""
        behind = {tp: at for tp, at in positions.items() if at.committed < at.end}
        with self._answering():
            first = self._first([TopicPartition(*tp, at.committed) for tp, at in behind.items()])
        now = time.time()
        return [
            self._lag(tp, first.get(tp, (at.committed, None)) if tp in behind else None, at.end, now)
            for tp, at in positions.items()
        ]

    def _lag(
        self, tp: PartitionId, first: tuple[int, float | None] | None, end: int, now: float
    ) -> Lag:
        """``first`` is the offset and time of the first record that waits; None if there is none."""
        stage, name = self._stages[tp[0]]
        if first is None:
            return Lag(stage, name, tp[1], 0, 0.0)
        offset, written_s = first
        seconds = None if written_s is None else max(0.0, now - written_s)
        return Lag(stage, name, tp[1], end - offset, seconds)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            raise BrokerUnavailable(
                f"Kafka at {self._bootstrap} does not answer: {error.args[0].str()}"
            ) from None

    def _offsets(self, tps: Iterable[TopicPartition], spec: OffsetSpec) -> dict[PartitionId, int]:
        return list_offsets(self._admin, tps, spec, IsolationLevel.READ_COMMITTED, _ASK_WITHIN_S)

    def _first(self, behind: Sequence[TopicPartition]) -> dict[PartitionId, tuple[int, float] | None]:
        """Offset and time (s, epoch) of the first record at or after each offset.

        None where only transaction markers or aborted records are left.
        """
        found: dict[PartitionId, tuple[int, float] | None] = {}
        if not behind:
            return found
        deadline = time.monotonic() + _READ_WITHIN_S
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


def records_behind(settings: Settings) -> dict[str, int]:
    """The lag of each stage (translate, process, sink) in records."""
    behind = {stage: 0 for group in (LINE, SINK) for stage in group.topics}
    for group in (LINE, SINK):
        with closing(LagMeter(settings, group)) as meter:
            for lag in meter.measure():
                behind[lag.stage] += lag.records
    return behind
