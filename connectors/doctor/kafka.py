"""Checks of Kafka: brokers, topics, rights, clocks; and of the schema registry."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpx
from aiokafka.conn import create_conn  # type: ignore[import-untyped]
from aiokafka.protocol.admin import ApiVersionRequest  # type: ignore[import-untyped]
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclOperation,
    AdminClient,
    ConfigResource,
    ResourceType,
    TopicDescription,
)

from connectors.doctor.findings import Finding, error, ok, warning
from streams.errors import BrokerUnavailable, ConfigurationError
from streams.kafka.admin import wait_for_broker
from streams.kafka.clients import client_config, committed_consumer, sasl_login, ssl_context
from streams.kafka.offsets import watermarks
from streams.records.topics import (
    AWARDS,
    OUTCOMES,
    OWNERS,
    PROFILES,
    RAW,
    REJECTS,
    ROUNDS,
    SCHEMAS,
    SETTLEMENTS,
    STAGED,
    TOPICS,
    WINDOW,
    Topic,
)
from streams.settings import Settings

ANSWER_WITHIN_S = 5.0
SKEW_S_MAX = 5.0

NEEDED_APIS = {"JoinGroup": (11, 5), "InitProducerId": (22, 1), "DescribeCluster": (60, 0)}
"""Key and least version of the APIs that the clients use, by name. Kafka 2.8 has all of them."""

_NO_LIMIT = -1
_AT_LEAST = ("max.message.bytes", "retention.ms", "min.insync.replicas")

Config = Mapping[str, str]


def check_kafka(settings: Settings, roles: Iterable[str]) -> Iterator[Finding]:
    """All checks of the brokers and topics; only the first if no broker answers.

    ``roles`` are the services whose rights are checked: keys of :data:`RIGHTS`.
    """
    try:
        cluster = wait_for_broker(settings, ANSWER_WITHIN_S)
    except (BrokerUnavailable, ConfigurationError) as problem:
        yield error(
            "kafka", str(problem), "Start the brokers, or correct the ROUNDHOUSE_KAFKA_ settings."
        )
        return
    yield ok("kafka", f"a broker of cluster {cluster or '(without id)'} answers")
    admin = AdminClient({**client_config(settings), "log_level": 0})
    nodes = admin.describe_cluster().result(ANSWER_WITHIN_S).nodes
    for node in nodes:
        yield broker_version_finding(
            node.id, asyncio.run(_api_versions(settings, node.host, node.port))
        )
    if len(nodes) < settings.replication_factor:
        yield error(
            "kafka.brokers",
            f"{len(nodes)} brokers, ROUNDHOUSE_REPLICATION_FACTOR is {settings.replication_factor}",
            "Start more brokers, or lower the replication factor.",
        )
    config = _config(admin, ResourceType.BROKER, str(nodes[0].id))
    yield from broker_findings(settings, config)
    yield from _check_topics(settings, admin, set(roles))


async def _api_versions(settings: Settings, host: str, port: int) -> dict[int, int]:
    """The highest version of each API that a broker has, by the API's key. Raises ``OSError``."""
    login = sasl_login(settings)
    connection = await create_conn(
        host,
        port,
        ssl_context=ssl_context(settings),
        security_protocol=settings.kafka_security_protocol,
        sasl_mechanism=login and login.mechanism,
        sasl_plain_username=login and login.username,
        sasl_plain_password=login and login.password,
        request_timeout_ms=int(ANSWER_WITHIN_S * 1000),
    )
    try:
        response = await connection.send(ApiVersionRequest())
        return {key: highest for key, _, highest in response.api_versions}
    finally:
        await connection.close()


def broker_version_finding(node: int, apis: Mapping[int, int]) -> Finding:
    """The finding for a broker's APIs (key to highest version); brokers do not report their release."""
    lacking = [name for name, (key, least) in NEEDED_APIS.items() if apis.get(key, -1) < least]
    if lacking:
        return error(
            "kafka.version",
            f"broker {node} is too old: its {', '.join(lacking)} API is missing or of an old version",
            "Upgrade the brokers to Kafka 2.8 or newer; Roundhouse is tested with 4.1.",
        )
    return ok("kafka.version", f"broker {node} has the APIs that the line uses")


def _config(admin: AdminClient, kind: Any, name: str) -> dict[str, str]:
    [future] = admin.describe_configs([ConfigResource(kind, name)]).values()
    return {entry: found.value for entry, found in future.result(ANSWER_WITHIN_S).items()}


def broker_findings(settings: Settings, config: Config) -> Iterator[Finding]:
    """The findings for the settings of a broker that the line depends on."""
    check, session_ms = "kafka.broker_settings", int(settings.session_timeout_s * 1000)
    low, high = (config.get(f"group.{end}.session.timeout.ms") for end in ("min", "max"))
    if low and high and not int(low) <= session_ms <= int(high):
        yield error(
            check,
            f"brokers allow session time-outs from {low} to {high} ms, ROUNDHOUSE_SESSION_TIMEOUT_S "
            f"is {session_ms} ms",
            "Change the setting, or group.min/max.session.timeout.ms on the brokers.",
        )
    if int(config.get("offsets.retention.minutes") or 10_080) < 1_440:
        yield error(
            check,
            f"brokers forget a group's offsets after {config['offsets.retention.minutes']} minutes",
            "Set offsets.retention.minutes to a week or more: a sink that was away longer would insert "
            "everything again.",
        )


# Topics --------------------------------------------------------------------------------------


def _check_topics(settings: Settings, admin: AdminClient, roles: set[str]) -> Iterator[Finding]:
    names = {settings.topic_prefix + topic.name: topic for topic in TOPICS}
    futures = admin.describe_topics(
        TopicCollection(list(names)),
        include_authorized_operations=True,
        request_timeout=ANSWER_WITHIN_S,
    )
    missing = []
    sound = True
    for name, future in futures.items():
        try:
            described = future.result()
        except KafkaException as problem:
            if problem.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                missing.append(name)
                continue
            yield _not_described(name, problem)
            sound = False
            continue
        config = _config(admin, ResourceType.TOPIC, name)
        for finding in topic_findings(settings, names[name], described, config):
            sound = False
            yield finding
        yield from rights_findings(name, names[name], described, roles)
    if missing:
        yield error(
            "kafka.topics",
            f"missing: {', '.join(sorted(missing))}",
            "`roundhouse topics` makes them, as every service does that may create topics.",
        )
    elif sound:
        yield ok("kafka.topics", f"{len(names)} topics with {settings.partitions} partitions each")
        yield from _check_clocks(settings)


def _not_described(name: str, problem: KafkaException) -> Finding:
    return error(
        "kafka.rights",
        f"{name}: {problem.args[0].str()}",
        "Grant this client Describe on the topic (docs/operations.md, Who may do what).",
    )


def topic_findings(
    settings: Settings, topic: Topic, described: TopicDescription, config: Config
) -> Iterator[Finding]:
    """The findings for a topic: partitions, replicas, configuration."""
    name, check = described.name, "kafka.topics"
    if len(described.partitions) != settings.partitions:
        yield error(
            check,
            f"{name} has {len(described.partitions)} partitions, ROUNDHOUSE_PARTITIONS is "
            f"{settings.partitions}",
            f"Set ROUNDHOUSE_PARTITIONS={len(described.partitions)}.",
        )
    lagging = [part.id for part in described.partitions if len(part.isr) < len(part.replicas)]
    if lagging:
        yield warning(
            check,
            f"{name}: replicas of partitions {lagging} are not in sync",
            "Bring the missing broker back.",
        )
    replicas = min((len(part.replicas) for part in described.partitions), default=0)
    if replicas < settings.replication_factor:
        yield warning(
            check,
            f"{name} has {replicas} replicas, ROUNDHOUSE_REPLICATION_FACTOR is "
            f"{settings.replication_factor}",
            "Add replicas with kafka-reassign-partitions.",
        )
    wanted = topic.config(settings.window_days, replicas)
    for entry, value in wanted.items():
        found = config.get(entry, "")
        if not (_enough(found, value) if entry in _AT_LEAST else found == value):
            yield error(
                check,
                f"{name}: {entry} is {found}, the line needs {value}",
                f"kafka-configs --alter --entity-type topics --entity-name {name} "
                f"--add-config {entry}={value}",
            )


def _enough(found: str, least: str) -> bool:
    return found != "" and (int(found) == _NO_LIMIT or int(found) >= int(least))


READS = frozenset((AclOperation.READ,))
WRITES = frozenset((AclOperation.WRITE,))

_CANONICAL = [topic.name for topic in TOPICS if topic.name.startswith("canonical.")]

RIGHTS: dict[str, dict[str, frozenset[AclOperation]]] = {
    "edge": {RAW: WRITES, SCHEMAS: READS},
    "worker": {
        RAW: READS,
        STAGED: READS | WRITES,
        **dict.fromkeys((*_CANONICAL, ROUNDS, REJECTS, OUTCOMES), WRITES),
        **dict.fromkeys((WINDOW, PROFILES, OWNERS, SCHEMAS), READS | WRITES),
    },
    "sink": dict.fromkeys((*_CANONICAL, ROUNDS, REJECTS, OUTCOMES, AWARDS, SETTLEMENTS), READS),
}
"""The rights that each service needs on each topic, as in docs/operations.md."""


def rights_findings(
    name: str, topic: Topic, described: TopicDescription, roles: set[str]
) -> Iterator[Finding]:
    """The findings for rights that the services need and this client does not have."""
    allowed = set(described.authorized_operations or ())
    for role in sorted(roles):
        lacking = RIGHTS[role].get(topic.name, frozenset()) - allowed
        if lacking and allowed:  # ``allowed`` is empty if the broker does not report rights
            rights = " and ".join(sorted(operation.name.capitalize() for operation in lacking))
            yield error(
                "kafka.rights",
                f"this client lacks {rights} on {name}, which the {role} needs",
                "kafka-acls --add --allow-principal User:… "
                + " ".join(f"--operation {operation.name.capitalize()}" for operation in lacking)
                + f" --topic {name}",
            )


# Clocks --------------------------------------------------------------------------------------


def _check_clocks(settings: Settings) -> Iterator[Finding]:
    """The findings for the times of the newest raw records, which come from the clocks of the edges."""
    consumer = committed_consumer(settings, f"{settings.topic_prefix}doctor")
    try:
        ahead_s = max(
            _newest_s(consumer, TopicPartition(settings.topic_prefix + RAW, number)) - time.time()
            for number in range(settings.partitions)
        )
    except KafkaException as problem:
        yield _not_described(settings.topic_prefix + RAW, problem)
        return
    finally:
        consumer.close()
    if ahead_s > SKEW_S_MAX:
        yield warning(
            "kafka.clocks",
            f"the newest record of {RAW} is from {ahead_s:.1f} s in the future",
            "Run NTP on the edges' machines and on this one: receipt times decide which profile is "
            "newer and what a campaign counts.",
        )
    else:
        yield ok("kafka.clocks", f"no record of {RAW} is from the future")


def _newest_s(consumer: Consumer, partition: TopicPartition) -> float:
    """The time of the newest record of a partition, in seconds since the epoch; 0 if there is none."""
    low, high = watermarks(consumer, partition, ANSWER_WITHIN_S)
    if low == high:
        return 0.0
    partition.offset = high - 1
    consumer.assign([partition])
    message = consumer.poll(ANSWER_WITHIN_S)
    if message is None or message.error():
        return 0.0
    _, at_ms = message.timestamp()
    return float(at_ms) / 1000


# Registry ------------------------------------------------------------------------------------


def check_registry(settings: Settings) -> Iterator[Finding]:
    """The finding for the schema registry, if one is configured."""
    url = settings.schema_registry_url
    if url is None:
        yield ok("registry", "no schema registry is set: schema ids are built in")
        return
    try:
        httpx.get(f"{url}/subjects", timeout=ANSWER_WITHIN_S).raise_for_status()
    except httpx.HTTPError as problem:
        yield error(
            "registry",
            f"the schema registry at {url} does not answer: {problem}",
            "Start it, or correct ROUNDHOUSE_SCHEMA_REGISTRY_URL: no worker starts without it.",
        )
        return
    yield ok("registry", f"the schema registry at {url} answers")
