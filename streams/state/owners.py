"""The lanes of a worker, and the take-over of partitions in Kafka (:mod:`streams.state.takeover`)."""

import secrets
import threading
from collections.abc import Collection, Iterator, Mapping
from functools import partial

from confluent_kafka import Consumer, Producer, TopicPartition

from streams.kafka.clients import FLUSHED, reporting, transactional_producer
from streams.kafka.reading import to_the_ends
from streams.records.topics import OWNERS
from streams.settings import Settings
from streams.state.lane import Lane
from streams.state.takeover import Note, take_over
from streams.telemetry.traces import Traces
from streams.telemetry.worker_metrics import WorkerMetrics


def own_lane(settings: Settings, partition: int) -> str:
    """The transactional id that belongs to a partition: that of all owners in release 0.1.0."""
    return f"{settings.topic_prefix}process-{partition}"


class Lanes:
    """The lanes of a process: one for each partition or one for all (``settings.transactions``).

    The latter has a name that no other process has or had: it is initialised once and, if another
    process has fenced it, never again.
    """

    def __init__(
        self,
        settings: Settings,
        worker: str,
        computing: threading.Lock,
        metrics: WorkerMetrics,
        traces: Traces | None = None,
        *,
        within_s: float = -1,
    ) -> None:
        """``worker`` names the process to people who read its claims. ``within_s``: how long Kafka may
        take to initialise a transactional id; -1: however long.
        """
        self.settings = settings
        self.worker = worker
        self._lane = partial(Lane, computing=computing, metrics=metrics.stages, traces=traces)
        self._clients = metrics.clients
        self._within_s = within_s
        self._topic = settings.topic_prefix + OWNERS
        self._name = f"{settings.topic_prefix}worker-{worker}-{secrets.token_hex(4)}"
        self._making = threading.Lock()
        self._of_worker: Lane | None = None
        self._claims: dict[int, int] = {}
        """The offsets of claims whose partitions are taken next."""
        self._fencing = threading.Lock()
        self._fenced: set[str] = set()

    @property
    def together(self) -> bool:
        """Whether all partitions share a lane."""
        return self.settings.transactions == "worker"

    def claim(self, partitions: Collection[int]) -> None:
        """Claims partitions that are taken next, all in one transaction. Blocking. Does nothing where
        each partition has its own lane, which needs no claim.
        """
        if self.together and partitions:
            lane = self._lane_of_worker()
            claim: Mapping[str, bytes] = {lane.name: self.worker.encode()}
            self._claims |= lane.write(self._topic, dict.fromkeys(partitions, claim))

    def claimed(self, partition: int) -> int:
        """The offset of the claim of a partition, which is claimed now if it is not yet."""
        if partition not in self._claims:
            self.claim([partition])
        return self._claims.pop(partition)

    def take(self, partition: int, consumer: Consumer) -> Lane:
        """Takes a partition over from its earlier owner; returns the lane that may write it now.

        Blocking. ``consumer`` reads uncommitted records too and reports the ends of partitions.
        """
        lane = self._lane_of(partition)
        take_over(_Owners(self, lane, partition, consumer))
        return lane

    def release(self, partitions: Collection[int]) -> None:
        """Says that the last transaction with each of these partitions has been written: all in one
        transaction.
        """
        if (lane := self._of_worker) is not None:
            lane.write(self._topic, {partition: {lane.name: None} for partition in partitions})
        else:
            for partition in partitions:
                self._clients.forget(_client(partition))

    def place(self, partition: int) -> TopicPartition:
        """The log of a partition's owners, from its beginning."""
        return TopicPartition(self._topic, partition, 0)

    def fence(self, lane: str) -> None:
        """Fences a lane of another process. Many partitions may need the same, and it is done once."""
        with self._fencing:
            if lane not in self._fenced:
                self.initialise(transactional_producer(self.settings, lane))
                self._fenced.add(lane)

    def initialise(self, producer: Producer) -> None:
        """Fences earlier producers with the same transactional id."""
        producer.init_transactions(self._within_s)

    def _lane_of(self, partition: int) -> Lane:
        if self.together:
            return self._lane_of_worker()
        # initialised by the take-over
        return self._made(own_lane(self.settings, partition), _client(partition))

    def _lane_of_worker(self) -> Lane:
        with self._making:
            if self._of_worker is None:
                made = self._made(self._name, "process")
                self.initialise(made.producer)
                self._of_worker = made
            return self._of_worker

    def _made(self, name: str, client: str) -> Lane:
        more = FLUSHED | reporting(self._clients.of(client))
        return self._lane(name, transactional_producer(self.settings, name, **more))


def _client(partition: int) -> str:
    return f"process-{partition}"


class _Owners:
    """The owners of one partition; see :class:`streams.state.takeover.Owners`."""

    def __init__(self, lanes: Lanes, lane: Lane, partition: int, consumer: Consumer) -> None:
        self.lane, self.own = lane.name, own_lane(lanes.settings, partition)
        self._lanes = lanes
        self._writer = lane
        self._place = lanes.place(partition)
        self._consumer = consumer

    def claim(self) -> int:
        return self._lanes.claimed(self._place.partition)

    def fence(self, lane: str) -> None:
        if lane == self.lane:
            self._lanes.initialise(self._writer.producer)
        elif lane == self.own:  # not only once: other processes initialise it again
            self._lanes.initialise(transactional_producer(self._lanes.settings, lane))
        else:
            self._lanes.fence(lane)

    def notes(self, through: int | None) -> Iterator[Note]:
        place, end = self._place, 0 if through is None else through + 1
        ends = {(str(place.topic), place.partition): end}
        for message in to_the_ends(self._consumer, [place], ends=ends):
            lane = (message.key() or b"").decode()
            yield Note(lane, message.value() is not None, message.offset() or 0)

    def retire(self, lanes: Collection[str]) -> None:
        self._writer.write(str(self._place.topic), {self._place.partition: dict.fromkeys(lanes)})
