"""Kafka clients, configured once: every producer and consumer of Roundhouse is made here."""

import time
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streams.errors import BrokerUnavailable, ConfigurationError
from streams.records.topics import MESSAGE_BYTES_MAX, PROFILES, RAW, STAGED, TOPICS, WINDOW
from streams.settings import Settings

_IN_MEMORY = "mockCluster"


def _client(settings: Settings) -> dict[str, str | int | float | bool]:
    config: dict[str, str | int | float | bool] = {
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
    """How and as whom to log in to the brokers."""

    mechanism: str
    username: str
    password: str


def sasl_login(settings: Settings) -> Login | None:
    """None without a ``SASL_`` protocol. Raises ``ConfigurationError`` if half of it is missing."""
    if not settings.kafka_security_protocol.startswith("SASL_"):
        return None
    username, password = settings.kafka_sasl_username, settings.kafka_sasl_password
    if username is None or password is None:
        raise ConfigurationError(
            f"ROUNDHOUSE_KAFKA_SECURITY_PROTOCOL is {settings.kafka_security_protocol}: set "
            "ROUNDHOUSE_KAFKA_SASL_USERNAME and ROUNDHOUSE_KAFKA_SASL_PASSWORD too"
        )
    return Login(settings.kafka_sasl_mechanism, username, password.get_secret_value())


def idempotent_producer(settings: Settings, **more: str | int | bool) -> Producer:
    """A producer that writes each record once and in order, or fails.

    Gapless: once a record of a partition has failed, none after it may pass.
    """
    return Producer(
        _client(settings)
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


def transactional_producer(settings: Settings, transactional_id: str) -> Producer:
    """A producer whose records count together or not at all."""
    return Producer(
        _client(settings)
        | {
            "transactional.id": transactional_id,
            "message.max.bytes": MESSAGE_BYTES_MAX,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1_048_576,
            "linger.ms": 5,
            "compression.type": "lz4",
        }
    )


def committed_consumer(settings: Settings, group: str, **more: str | int | bool) -> Consumer:
    """A consumer that sees only what was committed, and commits no offset by itself."""
    return Consumer(
        _client(settings)
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


_ELECTING = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)


def watermarks(consumer: Consumer, place: TopicPartition, timeout_s: float = 30.0) -> tuple[int, int]:
    """Where a partition begins and ends; waits for a leader that is just being elected."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return consumer.get_watermark_offsets(place, timeout=timeout_s)
        except KafkaException as error:
            if error.args[0].code() not in _ELECTING or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def committed_offset(settings: Settings, group: str, topic: str, partition: int) -> int:
    """The offset at which a group goes on; where the partition begins, if it has committed none."""
    consumer = committed_consumer(settings, group)
    try:
        place = TopicPartition(topic, partition)
        [found] = consumer.committed([place], timeout=30)
        return found.offset if found.offset >= 0 else watermarks(consumer, place)[0]
    finally:
        consumer.close()


def lag(settings: Settings) -> dict[str, int]:
    """How many records each stage has not yet committed: translate, process, sink.

    The last mark of a transaction takes up an offset and is no record.
    """
    prefix = settings.topic_prefix
    sink = [topic.name for topic in TOPICS if topic.name not in (RAW, STAGED, WINDOW, PROFILES)]
    stages = {"translate": ("line", [RAW]), "process": ("line", [STAGED]), "sink": ("sink", sink)}
    found = {}
    for stage, (group, names) in stages.items():
        places = [
            TopicPartition(prefix + name, number)
            for name in names
            for number in range(settings.partitions)
        ]
        consumer = committed_consumer(settings, prefix + group)
        try:
            behind = 0
            for place in consumer.committed(places, timeout=10):
                low, high = watermarks(consumer, place, 10)
                ahead = high - (place.offset if place.offset >= 0 else low)
                behind += max(0, ahead - 1) if stage == "sink" else ahead
            found[stage] = behind
        except KafkaException as error:
            raise BrokerUnavailable(
                f"Kafka at {settings.kafka_bootstrap} does not answer: {error.args[0].str()}"
            ) from None
        finally:
            consumer.close()
    return found


METADATA_MS = 5_000
"""How long a group believes what it was told of its topics. A broker that has just started may not
know them yet: a group formed then has nothing to do until it asks again, by default 5 minutes later."""

BROKER_WITHIN_S = 30.0


def wait_for_broker(settings: Settings, timeout_s: float | None = None) -> str:
    """Waits until a broker answers, and returns the cluster's id ("" if it has none)."""
    why: list[str] = []
    config: dict[str, Any] = {**_client(settings), "log_level": 0}
    config["error_cb"] = lambda error: why.append(error.str())
    admin = AdminClient(config)
    deadline = time.monotonic() + (BROKER_WITHIN_S if timeout_s is None else timeout_s)
    while True:
        try:
            return admin.list_topics(timeout=2.0).cluster_id or ""
        except KafkaException as error:
            admin.poll(0)
            if time.monotonic() > deadline:
                reason = why[-1] if why else error.args[0].str()
                raise BrokerUnavailable(
                    f"no Kafka broker at {settings.kafka_bootstrap}: {reason}. Start one (`roundhouse "
                    "up` does) or mend the ROUNDHOUSE_KAFKA_ settings."
                ) from None


def ensure_topics(settings: Settings) -> list[str]:
    """Creates the topics that are missing and returns their names.

    librdkafka's in-memory cluster has no controller to ask; it makes topics on first use. Raises
    ``ConfigurationError`` if an existing topic has another number of partitions.
    """
    admin = AdminClient(_client(settings))
    created = []
    if not (admin.list_topics(timeout=10).cluster_id or "").startswith(_IN_MEMORY):
        created = _create_topics(settings, admin)
    _check_partitions(settings, admin)
    return created


def _create_topics(settings: Settings, admin: AdminClient) -> list[str]:
    wanted = [
        NewTopic(
            settings.topic_prefix + topic.name,
            num_partitions=settings.partitions,
            replication_factor=settings.replication_factor,
            config=topic.config(settings.window_days, settings.replication_factor),
        )
        for topic in TOPICS
    ]
    created = []
    for name, future in admin.create_topics(wanted).items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    return created


def _check_partitions(settings: Settings, admin: AdminClient) -> None:
    for name in (settings.topic_prefix + topic.name for topic in TOPICS):
        # asking for a topic by name makes it, on a broker that makes topics on first use
        deadline = time.monotonic() + 10
        while not (found := admin.list_topics(name, timeout=10).topics[name].partitions):
            if time.monotonic() > deadline:
                raise BrokerUnavailable(f"topic {name} did not come into being")
            time.sleep(0.05)
        if len(found) != settings.partitions:
            raise ConfigurationError(
                f"topic {name} has {len(found)} partitions, ROUNDHOUSE_PARTITIONS is "
                f"{settings.partitions}. The number is fixed once topics exist: keys, positions and "
                "state depend on it."
            )
