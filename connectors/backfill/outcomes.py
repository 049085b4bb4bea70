"""What becomes of written batches, read from the topic ``outcomes`` while the line settles them."""

from collections import Counter, defaultdict
from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.kafka.clients import committed_consumer
from streams.kafka.offsets import watermarks
from streams.kafka.request_writer import RawPosition
from streams.kafka.schema_ids import frames
from streams.kafka.schemas import Schemas
from streams.records.topics import CONTRACTS, OUTCOMES
from streams.settings import Settings
from streams.wire.avro import Reader, Record

_COUNTS = ("received", "accepted", "duplicate", "conflict", "rejected")
_MESSAGES_MAX = 1_000


class Outcomes:
    """The outcomes of the batches whose ids begin with ``lead``."""

    def __init__(self, settings: Settings, lead: str, positions: Mapping[int, int]) -> None:
        """``positions`` are offsets to read from, by partition; others are read from their ends."""
        schemas = Schemas(settings, frames(settings))
        contract = CONTRACTS[OUTCOMES]
        self._read = Reader(contract, schemas.frames[contract], schemas.schema_of).read
        self._lead = lead
        self._found: defaultdict[str, dict[str, Record]] = defaultdict(dict)
        self._consumer = committed_consumer(settings, f"{settings.topic_prefix}backfill")
        topic = settings.topic_prefix + OUTCOMES
        self._next = {
            number: positions[number]
            if number in positions
            else watermarks(self._consumer, TopicPartition(topic, number))[1]
            for number in range(settings.partitions)
        }
        self._consumer.assign([TopicPartition(topic, *at) for at in self._next.items()])

    def close(self) -> None:
        """Closes the connection."""
        self._consumer.close()

    @property
    def positions(self) -> dict[int, int]:
        """The offset of the next outcome, by partition."""
        return dict(self._next)

    def poll(self, timeout_s: float) -> None:
        """Waits for outcomes, at most so long, and takes those that are there."""
        for _ in range(_MESSAGES_MAX):
            message = self._consumer.poll(timeout_s)
            if message is None:
                return
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    continue
                raise KafkaException(error)
            timeout_s = 0.0
            self._next[message.partition() or 0] = (message.offset() or 0) + 1
            record = self._read(message.value() or b"")
            if record["batch_id"].startswith(self._lead):
                # translate may write an outcome again after a crash
                self._found[record["batch_id"]][record["outcome_id"]] = record

    def is_settled(self, batch_id: str, items: int, at: RawPosition) -> bool:
        """Whether all ``items`` of a batch in the raw record at a position have their outcomes."""
        counts = self._counts(batch_id, at)
        return counts["received"] == sum(counts[name] for name in _COUNTS[1:]) == items

    def take(self, batch_id: str, at: RawPosition) -> Counter[str]:
        """The counts of a settled batch, of which nothing is kept.

        An interrupted backfill may have written it before. Then what the line accepted of the earlier
        copy is a duplicate in the one at ``at``, and counts here as accepted.
        """
        counts = self._counts(batch_id, at)
        accepted = sum(record["accepted"] for record in self._found.pop(batch_id, {}).values())
        counts["duplicate"] -= accepted - counts["accepted"]
        counts["accepted"] = accepted
        return counts

    def _counts(self, batch_id: str, at: RawPosition) -> Counter[str]:
        counts: Counter[str] = Counter()
        for record in self._found.get(batch_id, {}).values():
            if (record["raw_partition"], record["raw_offset"]) == at:
                counts.update({name: record[name] for name in _COUNTS})
        return counts
