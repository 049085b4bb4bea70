"""The cluster: waits for a broker, creates and checks topics."""

import time
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streams.errors import BrokerUnavailable, ConfigurationError
from streams.kafka.clients import client_config
from streams.records.topics import TOPICS
from streams.settings import Settings

_IN_MEMORY = "mockCluster"

BROKER_WITHIN_S = 30.0


def wait_for_broker(settings: Settings, timeout_s: float | None = None) -> str:
    """Waits until a broker answers, and returns the cluster's id ("" if it has none)."""
    why: list[str] = []
    config: dict[str, Any] = {**client_config(settings), "log_level": 0}
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

    librdkafka's in-memory cluster has no controller; it creates topics on first use. Raises
    ``ConfigurationError`` if an existing topic has another number of partitions.
    """
    admin = AdminClient(client_config(settings))
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
        # a metadata request for a topic by name creates it on a broker with automatic creation
        deadline = time.monotonic() + 10
        while not (found := admin.list_topics(name, timeout=10).topics[name].partitions):
            if time.monotonic() > deadline:
                raise BrokerUnavailable(f"topic {name} did not come into being")
            time.sleep(0.05)
        if len(found) != settings.partitions:
            raise ConfigurationError(
                f"topic {name} has {len(found)} partitions, ROUNDHOUSE_PARTITIONS is "
                f"{settings.partitions}. Set it to {len(found)}; `roundhouse repartition` makes more."
            )
