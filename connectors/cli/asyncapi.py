"""The AsyncAPI 3 document of the topics, built from ``avro/``, the list of topics and the settings.

The document follows the AsyncAPI specification 3.0.0 with the Kafka bindings 0.5.0.
"""

from typing import Any

import yaml

from streams.core.event import SOURCES
from streams.records.topics import OWNERS, RAW, SCHEMAS, TOPICS, Topic
from streams.settings import Settings
from streams.wire.contracts import published, schema, versions

Node = dict[str, Any]

_BINDING = "0.5.0"
_AVRO = "application/vnd.apache.avro+json;version=1.9.0"
_LOGIN = "login"
_DESCRIPTION = (
    "What Roundhouse writes to Kafka. Values are in the Confluent wire format: a zero byte, a schema "
    "id of four bytes, the Avro datum. Read with isolation.level=read_committed: the line writes in "
    "transactions. The version is the newest release that published a version of a contract."
)
_SECURITY_TYPES = {
    "PLAIN": "plain",
    "SCRAM-SHA-256": "scramSha256",
    "SCRAM-SHA-512": "scramSha512",
}
RAW_HEADERS: dict[str, Node] = {
    "tenant": {"type": "string", "description": "Tenant of the key that the request was posted with."},
    "source": {"type": "string", "enum": list(SOURCES), "description": "Format of the body."},
    "batch-id": {"type": "string", "description": "The request's id, as its answer carries it."},
    "received-at": {
        "type": "string",
        "pattern": "^[0-9]{1,17}$",
        "description": "When the edge took the request in: microseconds since the epoch, UTC.",
    },
    "counts": {
        "type": "string",
        "enum": ["0", "1"],
        "description": "Whether campaigns are enabled for the tenant.",
    },
    "merges-channels": {
        "type": "string",
        "enum": ["0", "1"],
        "description": "Whether mobile and e-mail of Gameball events are kept.",
    },
    "invalid": {
        "type": "string",
        "pattern": "^[0-9]+$",
        "description": "Number of items that the edge refused.",
    },
    "idempotency-key": {
        "type": "string",
        "description": "The client's Idempotency-Key; only of Gameball, and only if one was sent.",
    },
    "traceparent": {
        "type": "string",
        "description": "The W3C trace context of the request; only where the edge traces.",
    },
    "bytes": {
        "type": "string",
        "pattern": "^[0-9]{1,9}$",
        "description": "Only where a record holds several requests: the length of this one's body. The "
        "headers are then repeated for each request, and this one ends each set.",
    },
}
"""The headers of a record of ``raw.batches``."""

_RARE_HEADERS = ("idempotency-key", "traceparent", "bytes")

_NOT_AVRO: dict[str, Node] = {
    RAW: {
        "summary": "One request as it was posted, byte for byte, or several one after another. "
        "A contact that the tenant may not keep is null.",
        "headers": {
            "type": "object",
            "properties": RAW_HEADERS,
            "required": [name for name in RAW_HEADERS if name not in _RARE_HEADERS],
        },
    },
    OWNERS: {
        "summary": "A claim of a transactional id that writes several partitions; a tombstone ends it.",
        "payload": {"type": "string", "description": "The worker whose transactional id it is."},
    },
    SCHEMAS: {
        "summary": "A schema that workers write by, where there is no schema registry.",
        "payload": {"type": "object", "description": "An Avro schema."},
    },
}
"""The descriptions of the topics that have no contract."""


def as_yaml(settings: Settings) -> str:
    """The document as text."""
    return yaml.dump(document(settings), Dumper=_Plain, sort_keys=False, width=104, allow_unicode=True)


def document(settings: Settings) -> Node:
    """The document of a line with these settings."""
    security = _security(settings)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Roundhouse: the topics",
            "version": published()[-1].release,
            "description": _DESCRIPTION,
        },
        "defaultContentType": "application/vnd.apache.avro",
        "servers": _servers(settings, security),
        "channels": {topic.name: _channel(topic, settings) for topic in TOPICS},
        "operations": {
            f"send-{topic.name.replace('.', '-')}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{topic.name}"},
            }
            for topic in TOPICS
        },
        "components": {
            "messages": {_message_name(topic): _message(topic) for topic in TOPICS},
            **({"securitySchemes": security} if security else {}),
        },
    }


def _security(settings: Settings) -> Node:
    """The security schemes that the brokers require."""
    schemes: Node = {}
    if settings.kafka_security_protocol.startswith("SASL_"):
        mechanism = settings.kafka_sasl_mechanism
        schemes[_LOGIN] = {"type": _SECURITY_TYPES[mechanism], "description": f"SASL, {mechanism}."}
    if settings.kafka_certificate_file is not None:
        schemes["certificate"] = {"type": "X509", "description": "TLS with a client certificate."}
    return schemes


def _servers(settings: Settings, security: Node) -> Node:
    """A server for each bootstrap address."""
    encrypted = settings.kafka_security_protocol in ("SSL", "SASL_SSL")
    registry = settings.schema_registry_url or f"http://{settings.edge_host}:{settings.edge_port}"
    about: Node = {"protocol": "kafka-secure" if encrypted else "kafka"}
    if security:
        about["security"] = [{"$ref": f"#/components/securitySchemes/{name}"} for name in security]
    about["bindings"] = {
        "kafka": {
            "schemaRegistryUrl": registry,
            "schemaRegistryVendor": "confluent",
            "bindingVersion": _BINDING,
        }
    }
    addresses = settings.kafka_bootstrap.split(",")
    return {f"kafka-{number}": {"host": address} | about for number, address in enumerate(addresses, 1)}


def _channel(topic: Topic, settings: Settings) -> Node:
    config = topic.config(settings.window_days, settings.replication_factor)
    name = _message_name(topic)
    return {
        "address": f"{settings.topic_prefix}{topic.name}",
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {
            "kafka": {
                "partitions": settings.partitions,
                "replicas": settings.replication_factor,
                "topicConfiguration": {
                    "cleanup.policy": [config.pop("cleanup.policy")],
                    **{name: int(value) for name, value in config.items()},
                },
                "bindingVersion": _BINDING,
            }
        },
    }


def _message_name(topic: Topic) -> str:
    return topic.contract or topic.name.replace(".", "-")


def _message(topic: Topic) -> Node:
    binding: Node = {"bindingVersion": _BINDING}
    if topic.key is not None:
        binding = {"key": {"type": "string", "description": topic.key}} | binding
    if topic.contract is None:
        return {
            "contentType": "application/json",
            **_NOT_AVRO[topic.name],
            "bindings": {"kafka": binding},
        }
    contract = schema(topic.contract)
    return {
        "name": contract["name"],
        "summary": contract["doc"],
        "payload": {"schemaFormat": _AVRO, "schema": contract},
        "bindings": {
            "kafka": binding | {"schemaIdLocation": "payload", "schemaIdPayloadEncoding": "confluent"}
        },
        "x-versions": [
            {"version": known.number, "built-in-id": known.schema_id, "since": known.release}
            for known in versions(topic.contract)
        ],
    }


class _Plain(yaml.SafeDumper):
    """A YAML dumper that repeats values instead of writing anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
