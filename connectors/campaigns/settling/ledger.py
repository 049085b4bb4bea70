"""What a campaign has awarded, on the topics ``settlements`` and ``awards``: written once, read first.

All settlements and reviews of a campaign write with one transactional id. Whoever takes it fences every
earlier process that has it and ends its open transaction. What that process has committed can then be
read, and what it has not committed can never be committed any more. So between :meth:`Ledger.published`
and :meth:`Ledger.publish` nobody else can write: a second settlement of the same campaign finds the
first, or its own transaction fails.
"""

from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from confluent_kafka import IsolationLevel, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from connectors.campaigns.settling.awards import Award, decimal_of
from streams.core.identity import key_of, longer_key, partition_of
from streams.errors import DeliveryFailed, Overtaken
from streams.kafka.clients import client_config, committed_consumer, produce, transactional_producer
from streams.kafka.offsets import PartitionId, list_offsets, when_elected
from streams.kafka.reading import to_the_ends
from streams.kafka.schema_ids import frames
from streams.kafka.schemas import Schemas, publish
from streams.records.topics import AWARDS, CONTRACTS, SETTLEMENTS
from streams.settings import Settings
from streams.wire.avro import Reader, codec
from streams.wire.money import to_bytes, to_units
from streams.wire.times import from_micros, to_micros

_WITHIN_S = 60.0
_SILENCE_S = 90.0
"""Longer than a transaction of another campaign can stay open after its process was killed: 60 s, and
10 s until the broker looks."""


class Settlement(NamedTuple):
    """A record of the topic ``settlements``: see ``avro/settlement.avsc``."""

    settlement_id: str
    tenant: str
    campaign: str
    title: str
    number: int
    run_id: str
    definition_sha256: str
    result_sha256: str
    as_of: datetime
    ended_at: datetime
    settled_at: datetime
    settled_by: str
    reason: str
    unsettled: int
    players: int
    prizes: Decimal
    awards: int


_TIMES = "as_of", "ended_at", "settled_at"


class Ledger:
    """The ledger of one campaign. A process has one at a time."""

    def __init__(self, settings: Settings, tenant: str, campaign: str) -> None:
        self._settings = settings
        self._key = key_of(tenant, campaign)
        self._schemas = Schemas(settings, frames(settings))
        self._producer: Producer | None = None

    def take(self) -> None:
        """Takes the campaign's transactional id from any process that settles the campaign."""
        publish(self._settings)
        producer = transactional_producer(
            self._settings, f"{self._settings.topic_prefix}settle-{self._key}"
        )
        try:
            producer.init_transactions(_WITHIN_S)
        except KafkaException as error:
            raise DeliveryFailed(f"{SETTLEMENTS}: {error.args[0].str()}") from None
        self._producer = producer

    def published(self) -> list[Settlement]:
        """The settlement of the campaign and its reviews, in order; none if it was not settled."""
        topic = self._settings.topic_prefix + SETTLEMENTS
        places = [TopicPartition(topic, number, 0) for number in range(self._settings.partitions)]
        # a transaction of another campaign may be open before records that are committed
        ends = when_elected(lambda: self._ends(places))
        contract = CONTRACTS[SETTLEMENTS]
        reader = Reader(contract, self._schemas.frames[contract], self._schemas.schema_of)
        lead, found = longer_key(self._key, "").encode(), {}
        consumer = committed_consumer(self._settings, f"{self._settings.topic_prefix}settle")
        with closing(consumer):
            for message in to_the_ends(consumer, places, _SILENCE_S, ends):
                if (message.key() or b"").startswith(lead):
                    settlement = _settlement(reader.read(message.value() or b""))
                    found[settlement.number] = settlement
        return [found[number] for number in sorted(found)]

    def _ends(self, places: Sequence[TopicPartition]) -> dict[PartitionId, int]:
        """The ends of partitions, with what is not committed."""
        admin = AdminClient(client_config(self._settings))
        admin.list_topics(timeout=_WITHIN_S)  # it refreshes the leaders
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        return list_offsets(admin, places, latest, IsolationLevel.READ_UNCOMMITTED, _WITHIN_S)

    def publish(self, settlement: Settlement, awards: Sequence[Award]) -> None:
        """Writes a settlement and its awards, all of them or none.

        Raises ``Overtaken`` if another process has taken the campaign's transactional id, and
        ``DeliveryFailed`` if Kafka does not answer: whether they were written is then unknown, and the
        next :meth:`published` says it.
        """
        assert self._producer is not None
        try:
            self._producer.begin_transaction()
            for award in awards:
                key = key_of(award.tenant, award.player_id)
                self._produce(AWARDS, key, key, award.record())
            key = longer_key(self._key, str(settlement.number))
            self._produce(SETTLEMENTS, key, self._key, _record(settlement))
            self._producer.commit_transaction()
        except KafkaException as error:
            cause = error.args[0]
            if cause.fatal():
                raise Overtaken(
                    f"another process settles this campaign ({cause.str()}). Run the command again: it "
                    "shows what was settled"
                ) from None
            raise DeliveryFailed(
                f"{AWARDS}: {cause.str()}. Run the command again: it finds out what was written"
            ) from None

    def _produce(self, topic: str, key: str, by: str, record: dict[str, Any]) -> None:
        assert self._producer is not None
        contract = CONTRACTS[topic]
        value = self._schemas.frames[contract] + codec(contract).encode(record)
        partition = partition_of(by, self._settings.partitions)
        produce(self._producer, self._settings.topic_prefix + topic, value, key, partition)


def _record(settlement: Settlement) -> dict[str, Any]:
    times = {name: to_micros(getattr(settlement, name)) for name in _TIMES}
    return settlement._asdict() | times | {"prizes": to_bytes(to_units(settlement.prizes))}


def _settlement(record: dict[str, Any]) -> Settlement:
    times = {name: from_micros(record[name]) for name in _TIMES}
    known = {name: record[name] for name in Settlement._fields}
    return Settlement(**known | times | {"prizes": decimal_of(record["prizes"])})
