"""Writes the topic ``standings``: each change once, also if the writer is killed or two run.

All standings are written with one transactional id. Whoever takes it fences every earlier process that
has it and ends its open transaction, so nobody else can write between the reading of the topic and
the next record. What is written is always the difference to what the topic has.

The steps of an evaluation, and the state after a crash at the end of each:

1. Compute the difference. Nothing is written.
2. Write the changes of players, in transactions of :data:`RECORDS_MAX` records, so that none keeps the
   other campaigns of its partition from their readers for long. The next evaluation differs from what
   the topic then has, and so writes the rest.
3. Write the end of the evaluation, in the last of these transactions. The evaluation is whole.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime

import polars
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from connectors.campaigns.evaluation import Result
from connectors.campaigns.model.definition import Campaign
from connectors.standings.changes import ON_TOPIC, changes
from connectors.standings.records import Evaluation, Place, frame_of, of_evaluation, of_players
from streams.core.identity import key_of, partition_of
from streams.errors import DeliveryFailed, Overtaken
from streams.kafka.clients import committed_consumer, produce, reporting, transactional_producer
from streams.kafka.reading import to_the_ends
from streams.kafka.schemas import Schemas
from streams.records.topics import CONTRACTS, STANDINGS
from streams.settings import Settings
from streams.telemetry.client_statistics import OnStatistics
from streams.wire.avro import Reader, Record, codec

log = logging.getLogger(__name__)

RECORDS_MAX = 50_000
"""Records in one transaction: a second or two."""

_WITHIN_S = 60.0
_TRANSACTION_MS = 300_000
"""After this time Kafka ends a transaction: a machine without free processors needs more than its
default of a minute. What a killed service has begun ends when the next one takes the topic.
"""

_CONTRACT = CONTRACTS[STANDINGS]


def campaign_key(campaign: Campaign) -> str:
    """The key of a campaign on the topic."""
    return key_of(campaign.tenant, campaign.name)


class Publisher:
    """The topic ``standings`` and its only writer. One thread uses it, but for :meth:`poll`."""

    def __init__(self, settings: Settings, schemas: Schemas, on_statistics: OnStatistics) -> None:
        self._settings = settings
        self._topic = settings.topic_prefix + STANDINGS
        self._frame = schemas.frames[_CONTRACT]
        self._encode = codec(_CONTRACT).encode
        self._reader = Reader(_CONTRACT, self._frame, schemas.schema_of)
        self._producer = transactional_producer(
            settings,
            f"{settings.topic_prefix}standings",
            **reporting(on_statistics),
            **{"transaction.timeout.ms": _TRANSACTION_MS},
        )
        self._places: dict[str, set[int]] = {}
        """The partitions that have records of a campaign: one, or after ``repartition`` two."""
        self._ends: dict[str, Evaluation] = {}
        """The newest evaluation of each campaign."""
        self._frames: dict[str, polars.DataFrame] = {}
        """What the topic has of the campaigns that are being evaluated."""
        self._in_transaction = 0

    def take(self, running: Iterable[Campaign]) -> None:
        """Takes the topic from any process that writes it, and reads what it has of campaigns.

        Of those that are not ``running`` only the ends of their evaluations are kept in memory.
        """
        with self._failing():
            self._producer.init_transactions(_WITHIN_S)
        wanted = set(map(campaign_key, running))
        values: dict[str, dict[str, bytes]] = {key: {} for key in wanted}
        for partition, place, value in self._read(range(self._settings.partitions)):
            if place.player is None:
                self._note(place.campaign, partition, value)
                continue
            self._places.setdefault(place.campaign, set()).add(partition)
            if place.campaign in wanted and partition == self._home(place.campaign):
                _set(values[place.campaign], place.player, value)
        for key in wanted:
            self._frames[key] = self._decoded(values.pop(key))
        log.info("%d campaigns are on %s", len(self._ends), self._topic)

    def evaluation(self, campaign: Campaign) -> Evaluation | None:
        """The newest evaluation of a campaign on the topic."""
        return self._ends.get(campaign_key(campaign))

    def running_without(self, known: Iterable[Campaign], now: datetime) -> list[str]:
        """The keys of the campaigns on the topic that are not over and not among those ``known``."""
        others = self._ends.keys() - set(map(campaign_key, known))
        return sorted(key for key in others if self._ends[key].ends_at > now)

    def write(self, result: Result) -> int | None:
        """Writes what an evaluation has changed, and its end; returns the number of changes.

        None, and nothing is written, if the topic has an evaluation that is not older. Raises
        ``Overtaken`` if another process has taken the topic, and ``DeliveryFailed`` if Kafka does not
        answer. After both the process must end: what the topic has is no longer known.
        """
        key = campaign_key(result.campaign)
        with self._failing():
            known = self._ends.get(key)
            if known is not None and result.as_of <= known.as_of:
                log.warning("%s: as of %s, which is not new: not written", key, result.as_of)
                return None
            self._leave(key, self._places.get(key, set()) - {self._home(key)})
            found = changes(self._frame_of(key), result.standings)
            for place, record in of_players(result, found):
                self._produce(self._home(key), place, record)
            place, record = of_evaluation(result, len(found))
            self._produce(self._home(key), place, record)
            self._commit()
            self._places[key] = {self._home(key)}
            self._frames[key] = found.on_topic
            self._ends[key] = Evaluation.of(record)
            return len(found)

    def release(self, wanted: Iterable[Campaign]) -> None:
        """Keeps in memory what the topic has of some campaigns; others are read again if needed."""
        keys = set(map(campaign_key, wanted))
        self._frames = {key: frame for key, frame in self._frames.items() if key in keys}

    def forget(self, ended_before: datetime) -> None:
        """Removes the campaigns whose period ended before a time from the topic."""
        with self._failing():
            for key in [key for key, at in self._ends.items() if at.ends_at < ended_before]:
                self._leave(key, self._places.pop(key))
                self._frames.pop(key, None)
                del self._ends[key]
                log.info("%s has ended long ago: removed from %s", key, self._topic)

    def poll(self) -> None:
        """Serves the producer's statistics."""
        self._producer.poll(0)

    def _home(self, key: str) -> int:
        return partition_of(key, self._settings.partitions)

    def _note(self, key: str, partition: int, value: bytes | None) -> None:
        """Takes note of the end of an evaluation, or that a campaign has left a partition."""
        if value is not None:
            read, known = Evaluation.of(self._reader.read(value)), self._ends.get(key)
            if known is None or known.as_of < read.as_of:
                self._ends[key] = read
            self._places.setdefault(key, set()).add(partition)
        elif key in self._places:
            self._places[key].discard(partition)
            if not self._places[key]:
                self._ends.pop(key, None)
                del self._places[key]

    def _frame_of(self, key: str) -> polars.DataFrame:
        if key not in self._frames:
            players = self._players(key, self._home(key)) if key in self._places else {}
            self._frames[key] = self._decoded(players)
        return self._frames[key]

    def _players(self, key: str, partition: int) -> dict[str, bytes]:
        """The newest records of a campaign in a partition, by player as in the key."""
        found: dict[str, bytes] = {}
        for _, place, value in self._read([partition]):
            if place.campaign == key and place.player is not None:
                _set(found, place.player, value)
        return found

    def _decoded(self, players: dict[str, bytes]) -> polars.DataFrame:
        return frame_of(map(self._reader.read, players.values())) if players else ON_TOPIC.to_frame()

    def _read(self, partitions: Iterable[int]) -> Iterator[tuple[int, Place, bytes | None]]:
        places = [TopicPartition(self._topic, number, 0) for number in partitions]
        with closing(committed_consumer(self._settings, f"{self._topic}-state")) as consumer:
            for message in to_the_ends(consumer, places):
                yield message.partition() or 0, Place.of(message.key() or b""), message.value()

    def _leave(self, key: str, partitions: Iterable[int]) -> None:
        """Writes tombstones for all records of a campaign in some partitions, its end last."""
        for partition in partitions:
            for player in self._players(key, partition):
                self._produce(partition, f"{key}|{player}", None)
            self._produce(partition, key, None)
            self._commit()

    def _produce(self, partition: int, key: str, record: Record | None) -> None:
        if not self._in_transaction:
            self._producer.begin_transaction()
        value = None if record is None else self._frame + self._encode(record)
        produce(self._producer, self._topic, value, key, partition)
        self._in_transaction += 1
        if self._in_transaction == RECORDS_MAX:
            self._commit()

    def _commit(self) -> None:
        if self._in_transaction:
            self._producer.commit_transaction()
            self._in_transaction = 0

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Says what an error of Kafka means."""
        try:
            yield
        except KafkaException as error:
            cause = error.args[0]
            if cause.fatal() or cause.code() == KafkaError._FATAL:
                raise Overtaken(
                    f"another `roundhouse standings run` has taken the topic {self._topic} from this "
                    f"one, which therefore ends ({cause.str()}). One service writes all standings of a "
                    "line, whatever its folder of campaigns: stop one of the two, on this machine or "
                    "another, and put the files of both into the folder of the one that stays. "
                    "If there is only one, a transaction took longer than five minutes, and Kafka "
                    "ended it."
                ) from None
            raise DeliveryFailed(f"{self._topic}: {cause.str()}") from None


def _set(values: dict[str, bytes], player: str, value: bytes | None) -> None:
    if value is None:
        values.pop(player, None)
    else:
        values[player] = value
