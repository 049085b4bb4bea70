"""Writes refused items to ``raw.batches`` again, with the switches and the identity of their batch.

The steps, and the state after a crash at the end of each:

1. Read the rejects from ClickHouse and their requests from ``raw.batches``, make new requests, and
   read these as the edge does. Nothing is written.
2. Record the replays of a request in the table ``replays``. Its items are recorded and may not be
   written; ``--again`` replays them.
3. Write the request and wait for Kafka. A request that is written twice makes duplicates.
"""

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.rejects.stored import Replay, StoredReject, record
from streams.core.event import Batch
from streams.errors import ConfigurationError, DeliveryFailed, EnvelopeError, RawRecordGone
from streams.formats import READERS, stored_body
from streams.formats.validation import Invalid
from streams.kafka.clients import committed_consumer
from streams.kafka.offsets import watermarks
from streams.kafka.request_writer import NewRequest, RequestWriter
from streams.records.raw_batch import RawRecord, Request, batch_of, requests_of
from streams.records.topics import RAW
from streams.settings import Settings
from streams.wire.json_text import members

READ_WITHIN_S = 30.0


class ReplayRequest(NamedTuple):
    """A request made of the items of one earlier request that would be accepted now."""

    batch: Batch
    body: bytes
    rejects: list[StoredReject]


class Prepared(NamedTuple):
    """The requests that a replay writes, and the rejects that it leaves out, with the reason."""

    requests: list[ReplayRequest]
    left_out: list[tuple[StoredReject, str]]


def prepare(
    settings: Settings, rejects: Sequence[StoredReject], mended: Mapping[str, bytes], now: int
) -> Prepared:
    """The replay of ``rejects``, which are in the order of their raw records.

    ``mended`` has the JSON of items that were changed, by reject id; ``now`` is in microseconds.
    """
    prepared = Prepared([], [])
    replayable = []
    for reject in rejects:
        reason = _why_not(reject)
        if reason is None:
            replayable.append(reject)
        else:
            prepared.left_out.append((reject, reason))
    consumer = committed_consumer(settings, f"{settings.topic_prefix}replay")
    try:
        for (partition, offset), found in groupby(replayable, _raw_position):
            of_record = list(found)
            try:
                raw = read_raw(settings, consumer, partition, offset)
            except RawRecordGone as error:
                prepared.left_out.extend((reject, str(error)) for reject in of_record)
                continue
            for batch_id, of_batch in groupby(of_record, lambda reject: reject.batch_id):
                original = request_of(raw, batch_id)
                _add(prepared, original, list(of_batch), mended, now)
    finally:
        consumer.close()
    return prepared


def _why_not(reject: StoredReject) -> str | None:
    if reject.outcome == "conflict":
        return (
            "it contradicts an accepted item and would again; `roundhouse rejects accept` corrects that"
        )
    if reject.payload_format != "item":
        return "the record was not written by an edge and has no items"
    return None


def _raw_position(reject: StoredReject) -> tuple[int, int]:
    return reject.raw_partition, reject.raw_offset


def request_of(raw: RawRecord, batch_id: str) -> Request:
    """The request of a batch in its raw record. Raises ``ConfigurationError`` if it is not there."""
    for request in requests_of(raw):
        if request.headers.get("batch-id") == batch_id.encode():
            return request
    raise ConfigurationError(
        f"{RAW}[{raw.partition}] at offset {raw.offset} does not hold batch {batch_id}: ClickHouse and "
        "Kafka are not of the same line"
    )


def _add(
    prepared: Prepared,
    original: Request,
    rejects: Sequence[StoredReject],
    mended: Mapping[str, bytes],
    now: int,
) -> None:
    """Adds the new request for rejects of one request, without the items that are still invalid."""
    batch = batch_of(original.headers)
    batch = batch._replace(
        batch_id=str(uuid.uuid4()),
        received_at=now,
        # a Gameball event is identified by the batch id if its request had no key
        idempotency_key=batch.idempotency_key or batch.batch_id if batch.source == "gameball" else None,
    )
    items = [mended.get(reject.reject_id, reject.payload) for reject in rejects]
    valid = []
    for reject, item in zip(rejects, items, strict=True):
        error = _error_in(batch, _body(original, [reject], [item]))
        if error is None:
            valid.append((reject, item))
        else:
            prepared.left_out.append((reject, error))
    if valid:
        body = _body(original, [reject for reject, _ in valid], [item for _, item in valid])
        body = stored_body(batch, body)
        prepared.requests.append(ReplayRequest(batch, body, [reject for reject, _ in valid]))


def _error_in(batch: Batch, body: bytes) -> str | None:
    """The first error of the item in a body of one item."""
    try:
        [item] = READERS[batch.source](body, batch, 1)
    except EnvelopeError as error:
        return f"{error.code}: {error.message}"
    if isinstance(item, Invalid):
        first = item.errors[0]
        return f"{first.code} at {first.pointer}: {first.message}"
    return None


def _body(original: Request, rejects: Sequence[StoredReject], items: Sequence[bytes]) -> bytes:
    """A request body with these items, in the format of their request."""
    if original.headers["source"] != b"gameball":
        return b"[%b]" % b",".join(items)
    top = {member.name: member.text for member in members(original.body.decode())}
    names = [member.name for member in members(top["events"])]
    events = ",".join(
        f"{json.dumps(names[reject.position])}:{item.decode()}"
        for reject, item in zip(rejects, items, strict=True)
    )
    top["events"] = f"{{{events}}}"
    return b"{%b}" % ",".join(f"{json.dumps(name)}:{text}" for name, text in top.items()).encode()


def read_raw(settings: Settings, consumer: Consumer, partition: int, offset: int) -> RawRecord:
    """The raw record at an offset. Raises ``RawRecordGone`` if it was deleted."""
    topic = settings.topic_prefix + RAW
    low, _ = watermarks(consumer, TopicPartition(topic, partition))
    message = None
    if offset >= low:
        consumer.assign([TopicPartition(topic, partition, offset)])
        message = _next(consumer, f"{RAW}[{partition}] at offset {offset}")
    if message is None or message.offset() != offset:
        raise RawRecordGone(f"its request is no longer in {RAW}: ask the operator to post it again")
    headers: Any = message.headers() or ()
    return RawRecord(partition, offset, list(headers), message.value() or b"")


def _next(consumer: Consumer, where: str) -> Message:
    deadline = time.monotonic() + READ_WITHIN_S
    while time.monotonic() < deadline:
        message = consumer.poll(1.0)
        if message is None:
            continue
        error = message.error()
        if error is None:
            return message
        if error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        break
    raise ConfigurationError(f"{where} cannot be read: ClickHouse and Kafka are not of the same line")


class Replaying(NamedTuple):
    """Who replays, why, and at most how many items a second."""

    by: str
    reason: str
    items_per_s: float


def replay(
    settings: Settings,
    requests: Sequence[ReplayRequest],
    replaying: Replaying,
    mended: Mapping[str, bytes],
) -> Iterator[ReplayRequest]:
    """Writes requests one after another; yields each that Kafka has acknowledged.

    Raises ``DeliveryFailed`` if Kafka does not take one.
    """
    replay_id = str(uuid.uuid4())
    writer = RequestWriter(settings)
    for request in requests:
        batch = request.batch
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(batch.received_at / 1e6))
        record(
            settings,
            [
                Replay(
                    *(replay_id, at, replaying.by, replaying.reason),
                    *(batch.tenant, reject.reject_id, batch.batch_id, reject.reject_id in mended),
                )
                for reject in request.rejects
            ],
        )
        try:
            writer.write([NewRequest(batch, request.body)])
            writer.flush()
        except DeliveryFailed as error:
            raise DeliveryFailed(
                f"batch {batch.batch_id}: {error}. Replay its items with --again; what was written "
                "after all is recognised by its ids."
            ) from None
        yield request
        time.sleep(len(request.rejects) / replaying.items_per_s)
