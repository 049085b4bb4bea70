"""Schema ids, from the registry if there is one, else built in."""

import json
from collections.abc import Mapping

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from streams.records.topics import TOPICS
from streams.settings import Settings
from streams.wire.avro import frame
from streams.wire.contracts import SCHEMA_IDS, schema
from streams.wire.contracts import Schema as ContractSchema


def frames(settings: Settings) -> Mapping[str, bytes]:
    """The frame of a datum (five bytes) by contract; registers ``<topic>-value`` if needed."""
    if settings.schema_registry_url is None:
        return {name: frame(number) for name, number in SCHEMA_IDS.items()}
    with SchemaRegistryClient({"url": settings.schema_registry_url}) as registry:
        return {name: register(registry, settings, name, schema(name)) for name in SCHEMA_IDS}


def register(
    registry: SchemaRegistryClient, settings: Settings, contract: str, written: ContractSchema
) -> bytes:
    """Registers a version of a contract as ``<topic>-value`` if needed; returns its frame."""
    [topic] = [topic.name for topic in TOPICS if topic.contract == contract]
    subject = f"{settings.topic_prefix}{topic}-value"
    return frame(registry.register_schema(subject, Schema(json.dumps(written), "AVRO")))
