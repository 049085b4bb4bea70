"""Schemas by their ids, including those of newer versions.

An id that this version does not ship is looked up in the schema registry if there is one, else on
the topic ``schemas``, to which every worker writes the schemas that it ships before it writes any
record.
"""

import json
from collections.abc import Mapping
from typing import cast

from confluent_kafka import TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from streams.core.event import Contents, Kind, contents_of
from streams.errors import DeliveryFailed, NewerVersion
from streams.kafka.clients import committed_consumer, idempotent_producer
from streams.kafka.reading import SILENCE_S, to_the_ends
from streams.kafka.schema_ids import register
from streams.records.staged_chunk import content_frames
from streams.records.topics import SCHEMAS
from streams.settings import Settings
from streams.wire.avro import FRAME_BYTES, frame
from streams.wire.contracts import Schema, published, schema, version_of, versions

_PUBLISH_WITHIN_S = 30.0


class Schemas:
    """The schemas of a cluster. ``frames`` maps each contract to the frame of the datums that this
    version writes.
    """

    def __init__(self, settings: Settings, frames: Mapping[str, bytes]) -> None:
        self.frames = frames
        self._settings = settings
        self._found = {value: schema(contract) for contract, value in frames.items()}
        self._first: dict[str, bytes] = {}
        self._contents: dict[bytes | None, Contents] = {}

    def schema_of(self, contract: str, written: bytes) -> Schema:
        """The schema of a contract that a frame names. Raises ``NewerVersion`` if it is not found."""
        if written not in self._found:
            number = int.from_bytes(written[1:FRAME_BYTES], "big")
            self._found[written] = self._ask(contract, number)
        return self._found[written]

    def contents(self, header: bytes | None) -> Contents:
        """The encodings of the contents of a staged record, by its header; records of 0.1.0 have no
        header.
        """
        found = self._contents.get(header)
        if found is None:
            if header is None:
                frames = {kind.contract: self.first(kind.contract) for kind in Kind}
            else:
                frames = {**self.frames, **content_frames(header)}
            found = self._contents[header] = contents_of(frames, self.schema_of)
        return found

    def first(self, contract: str) -> bytes:
        """The frame of a contract's version 1, which 0.1.0 wrote."""
        if contract not in self._first:
            self._first[contract] = self._frame_of_first(contract)
        return self._first[contract]

    def _frame_of_first(self, contract: str) -> bytes:
        first = versions(contract)[0]
        if self._settings.schema_registry_url is None:
            return frame(first.schema_id)
        with SchemaRegistryClient({"url": self._settings.schema_registry_url}) as registry:
            return register(registry, self._settings, contract, first.schema)

    def _ask(self, contract: str, number: int) -> Schema:
        if self._settings.schema_registry_url is not None:
            text = _registered(self._settings.schema_registry_url, number)
        elif shipped := version_of(number):
            return shipped.schema
        else:
            text = learned(self._settings).get(number)
        if text is None:
            raise NewerVersion(
                f"a record of the contract {contract} has the schema id {number}, which neither this "
                "version nor the schema registry or the topic "
                f"{self._settings.topic_prefix}{SCHEMAS} knows. Deploy here the version that wrote it."
            )
        return cast(Schema, json.loads(text))


def _registered(url: str, number: int) -> str | None:
    with SchemaRegistryClient({"url": url}) as registry:
        try:
            text: str | None = registry.get_schema(number).schema_str
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                return None
            raise
    return text


def publish(settings: Settings) -> None:
    """Writes the schemas that this version ships to the topic ``schemas``, if they are missing.

    It is called before the first record is written, so that an older version can read the records.
    Raises ``DeliveryFailed`` if Kafka does not accept the schemas. With a registry it does nothing.
    """
    if settings.schema_registry_url is not None:
        return
    known = learned(settings)
    missing = [version for version in published() if version.schema_id not in known]
    if not missing:
        return
    producer = idempotent_producer(settings)
    for version in missing:
        text = json.dumps(version.schema).encode()
        producer.produce(settings.topic_prefix + SCHEMAS, text, b"%d" % version.schema_id, partition=0)
    if producer.flush(_PUBLISH_WITHIN_S):
        raise DeliveryFailed(f"{SCHEMAS}: no acknowledgement in time")


def learned(settings: Settings, silence_s: float = SILENCE_S) -> dict[int, str]:
    """The schemas on the topic ``schemas``, by id.

    Raises ``BrokerUnavailable`` if Kafka sends nothing for ``silence_s``.
    """
    consumer = committed_consumer(settings, f"{settings.topic_prefix}schemas")
    try:
        place = TopicPartition(settings.topic_prefix + SCHEMAS, 0, 0)
        return {
            int(message.key() or b"0"): (message.value() or b"").decode()
            for message in to_the_ends(consumer, [place], silence_s)
        }
    finally:
        consumer.close()
