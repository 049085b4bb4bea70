"""Kafka clients: every producer and consumer of Roundhouse is configured here."""

import logging
import ssl
from typing import Any, NamedTuple

from confluent_kafka import Consumer, Producer

from streams.errors import ConfigurationError
from streams.records.topics import MESSAGE_BYTES_MAX
from streams.settings import Settings
from streams.telemetry.client_statistics import EVERY_MS, OnStatistics

_librdkafka = logging.getLogger("librdkafka")


def client_config(settings: Settings) -> dict[str, Any]:
    """The connection, login and log settings of every librdkafka client."""
    config: dict[str, Any] = {
        "logger": _librdkafka,  # else it writes to stderr in a form of its own
        "bootstrap.servers": settings.kafka_bootstrap,
        "security.protocol": settings.kafka_security_protocol,
        "log_level": 4,
    }
    files = {
        "ssl.ca.location": settings.kafka_ca_file,
        "ssl.certificate.location": settings.kafka_certificate_file,
        "ssl.key.location": settings.kafka_key_file,
    }
    config |= {name: str(path) for name, path in files.items() if path is not None}
    if login := sasl_login(settings):
        names = "sasl.mechanism", "sasl.username", "sasl.password"
        config |= dict(zip(names, login, strict=True))
    return config


class Login(NamedTuple):
    """Mechanism, user name and password of the login to the brokers."""

    mechanism: str
    username: str
    password: str


def sasl_login(settings: Settings) -> Login | None:
    """The login; None without a ``SASL_`` protocol. Raises ``ConfigurationError`` if the name or the
    password is missing.
    """
    if not settings.kafka_security_protocol.startswith("SASL_"):
        return None
    username, password = settings.kafka_sasl_username, settings.kafka_sasl_password
    if username is None or password is None:
        raise ConfigurationError(
            f"ROUNDHOUSE_KAFKA_SECURITY_PROTOCOL is {settings.kafka_security_protocol}: set "
            "ROUNDHOUSE_KAFKA_SASL_USERNAME and ROUNDHOUSE_KAFKA_SASL_PASSWORD too"
        )
    return Login(settings.kafka_sasl_mechanism, username, password.get_secret_value())


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context of clients other than librdkafka's; None without TLS."""
    if not settings.kafka_security_protocol.endswith("SSL"):
        return None
    ca = settings.kafka_ca_file
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    if settings.kafka_certificate_file:
        context.load_cert_chain(settings.kafka_certificate_file, settings.kafka_key_file)
    return context


def reporting(on_statistics: OnStatistics) -> dict[str, Any]:
    """The configuration of a client that reports statistics. It must be polled even while idle."""
    return {"statistics.interval.ms": EVERY_MS, "stats_cb": on_statistics}


FLUSHED: dict[str, Any] = {"linger.ms": 100}
"""For a producer whose batches end with a flush or a commit, which do not wait for the linger: records
go to Kafka in few requests.
"""


def idempotent_producer(settings: Settings, **more: Any) -> Producer:
    """A producer that writes each record once and in order, or fails.

    It is gapless: after a record of a partition has failed, no later one is written.
    """
    return Producer(
        client_config(settings)
        | {
            "enable.idempotence": True,
            "enable.gapless.guarantee": True,
            "acks": "all",
            "message.max.bytes": MESSAGE_BYTES_MAX,
            "queue.buffering.max.kbytes": 262_144,
            "linger.ms": 2,
            "compression.type": "lz4",
        }
        | more
    )


def transactional_producer(settings: Settings, transactional_id: str, **more: Any) -> Producer:
    """A producer whose records of a transaction become visible together or not at all."""
    return Producer(
        client_config(settings)
        | {
            "transactional.id": transactional_id,
            "message.max.bytes": MESSAGE_BYTES_MAX,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1_048_576,
            "linger.ms": 5,
            "compression.type": "lz4",
        }
        | more
    )


def produce(
    producer: Producer,
    topic: str,
    value: bytes | None,
    key: str | bytes | None,
    partition: int,
    **more: Any,
) -> None:
    """Gives a record to a producer; while its queue is full, waits for it and takes its reports.

    ``more``: further arguments of ``Producer.produce``, such as ``headers``.
    """
    while True:
        try:
            producer.produce(topic, value, key, partition, **more)
        except BufferError:
            producer.poll(0.1)
        else:
            return


def committed_consumer(settings: Settings, group: str, **more: Any) -> Consumer:
    """A consumer of committed records that commits offsets only when it is told to."""
    return Consumer(
        client_config(settings)
        | {
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,  # an empty partition reports its end only after this wait
            "fetch.message.max.bytes": MESSAGE_BYTES_MAX,
            "fetch.max.bytes": 4 * MESSAGE_BYTES_MAX,
            "receive.message.max.bytes": 5 * MESSAGE_BYTES_MAX,
        }
        | more
    )


def uncommitted_consumer(settings: Settings, group: str) -> Consumer:
    """As :func:`committed_consumer`, but a partition ends only after all that is written."""
    return committed_consumer(settings, group, **{"isolation.level": "read_uncommitted"})


METADATA_MS = 5_000
"""How long a group uses its metadata of topics. A broker that has just started may not know its topics
yet: a group that forms then gets no partitions until the next refresh, by default 5 minutes later.
"""
