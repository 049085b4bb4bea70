"""Accepts a conflict as a correction: it replaces the accepted item with its id.

The steps, and the state after a crash at the end of each:

1. Read the conflict and the accepted item from ClickHouse, and both items from ``raw.batches``. Nothing
   is written.
2. Record the correction in the table ``corrections``. It is recorded and not written: the same command
   again records a second attempt and writes it.
3. Write a request of both items, whose batch id says that it is a correction, and wait for Kafka. The
   process stage compares and swaps (:mod:`streams.stages.process`), so a second copy changes nothing.
4. Wait for its outcome. The line corrects it whether or not somebody waits.
"""

import json
import time
import uuid
from contextlib import closing
from datetime import datetime, timedelta
from typing import NamedTuple

from confluent_kafka import Consumer

from connectors.backfill.outcomes import Outcomes
from connectors.clickhouse.literals import quoted
from connectors.clickhouse.query import query_rows
from connectors.rejects.replay import read_raw, request_of
from connectors.rejects.stored import (
    Correction,
    Filter,
    StoredReject,
    compared,
    find,
    record_correction,
)
from connectors.status.differences import Compared
from streams.core.event import CORRECTION_PREFIX, Kind
from streams.errors import ConfigurationError, NotSettled
from streams.kafka.clients import committed_consumer
from streams.kafka.request_writer import NewRequest, RawPosition, RequestWriter
from streams.records.raw_batch import Request, batch_of
from streams.settings import Settings
from streams.stages.preview import preview
from streams.wire.json_text import raw_items
from streams.wire.times import to_micros

KINDS = (Kind.GAME_TRANSACTION, Kind.PAYMENT, Kind.LOGIN, Kind.SPORTS_BET)
"""The kinds that can be corrected. In the profiles that the others update, a later event prevails."""

AMOUNTS = ("amount", "bonus_amount", "base_amount", "reporting_currency")
"""The fields of a game transaction that can be corrected: a round has sums of them."""

_CORRECTIONS = uuid.UUID("0d0c8d6e-7a4f-5d0e-8f52-3c1f7b1c2a90")


class Prepared(NamedTuple):
    """A correction that could be written."""

    reject: StoredReject
    compared: Compared
    request: NewRequest


def prepare(settings: Settings, reject_id: str, tenant: str | None, now: datetime) -> Prepared | None:
    """The correction by a reject; None if the accepted item is what was refused, as after a correction.

    Raises ``ConfigurationError`` with the reason for which it cannot be one, and ``RawRecordGone``.
    """
    found = find(settings, Filter(tenant=tenant, reject_ids=(reject_id,)), 2)
    if len(found) != 1:
        known = "two tenants have a reject" if found else "no reject has"
        raise ConfigurationError(f"{known} the id {reject_id}; choose with --tenant")
    [reject] = found
    both = compared(settings, reject)
    if both is None:
        raise ConfigurationError(
            f"{reject_id} is no id_conflict with an accepted item in ClickHouse, but {reject.code}"
        )
    if not both.fields:
        return None
    _check(settings, reject, both, now)
    with closing(committed_consumer(settings, f"{settings.topic_prefix}replay")) as consumer:
        before = _accepted(settings, consumer, reject.tenant, both)
        after = request_of(
            read_raw(settings, consumer, reject.raw_partition, reject.raw_offset), reject.batch_id
        )
    batch = batch_of(after.headers)._replace(
        batch_id=CORRECTION_PREFIX + str(uuid.uuid5(_CORRECTIONS, f"{reject.tenant}|{reject_id}")),
        received_at=to_micros(now),
    )
    items = _item(before, both.accepted.position), _item(after, reject.position)
    request = NewRequest(batch, b"[%b,%b]" % items)
    _check_request(request)
    return Prepared(reject, both, request)


def _check(settings: Settings, reject: StoredReject, both: Compared, now: datetime) -> None:
    kind, fields = both.accepted.kind, [entry["field"].split("/")[-1] for entry in both.fields]
    if kind not in KINDS or reject.source == "gameball":
        raise ConfigurationError(
            f"a {kind.contract} of {reject.source} cannot be corrected: send a newer event, which has "
            "the last word"
        )
    if kind is Kind.GAME_TRANSACTION and not set(fields) <= set(AMOUNTS):
        raise ConfigurationError(
            f"only {', '.join(AMOUNTS)} of a bet or win can be corrected, and these differ: "
            f"{', '.join(fields)}. Send a rollback, and the right event under a new id."
        )
    age = now - datetime.fromisoformat(both.accepted.received_at)
    if age > timedelta(seconds=settings.window_s):
        raise ConfigurationError(
            f"the accepted item is from {both.accepted.received_at}: the line may have forgotten it"
        )


def _accepted(settings: Settings, consumer: Consumer, tenant: str, both: Compared) -> Request:
    """The request in which the accepted item was posted."""
    rows = query_rows(
        settings,
        "SELECT raw_partition, raw_offset FROM outcomes WHERE stage = 'translate' "
        f"AND tenant = {quoted(tenant)} AND batch_id = {quoted(both.accepted.batch_id)} "
        "ORDER BY received_at DESC LIMIT 1",
    )
    if not rows:
        raise ConfigurationError(f"ClickHouse has no outcome of batch {both.accepted.batch_id}")
    [row] = rows
    raw = read_raw(settings, consumer, int(row["raw_partition"]), int(row["raw_offset"]))
    return request_of(raw, both.accepted.batch_id)


def _item(request: Request, position: int) -> bytes:
    return raw_items(request.body)[position]


def _check_request(request: NewRequest) -> None:
    """Raises ``ConfigurationError`` unless this version reads both items, under one id."""
    first, second = preview(request.batch, request.body)
    if first.errors or second.errors or first.idempotency_key != second.idempotency_key:
        raise ConfigurationError("this version does not read both items as one id with two contents")


def apply(settings: Settings, prepared: Prepared, by: str, reason: str, wait_s: float) -> bool:
    """Records and writes a correction; whether the line took it.

    Raises ``DeliveryFailed``, and ``NotSettled`` if its outcome is not there in time.
    """
    reject, batch = prepared.reject, prepared.request.batch
    record_correction(settings, _row(prepared, by, reason))
    written: list[RawPosition] = []
    with closing(Outcomes(settings, batch.batch_id, {})) as outcomes:
        writer = RequestWriter(settings)
        writer.write([prepared.request], written.append)
        writer.flush()
        [at] = written
        deadline = time.monotonic() + wait_s
        while not outcomes.is_settled(batch.batch_id, 2, at):
            if time.monotonic() > deadline:
                raise NotSettled(
                    f"batch {batch.batch_id} corrects {reject.reject_id} once the workers read it; "
                    "`SELECT * FROM batches` shows whether they have taken it"
                )
            outcomes.poll(0.1)
        return outcomes.take(batch.batch_id, at)["conflict"] == 0


def _row(prepared: Prepared, by: str, reason: str) -> Correction:
    reject, accepted, batch = prepared.reject, prepared.compared.accepted, prepared.request.batch
    source_event, event_id = accepted.id
    _, after = preview(batch, prepared.request.body)
    return Correction(
        time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(batch.received_at / 1e6))
        + f".{batch.received_at % 1_000_000:06d}",
        *(by, reason, reject.tenant, reject.reject_id, batch.batch_id, batch.source),
        *(source_event, event_id),
        json.dumps(accepted.events, default=str),
        f"[{','.join(bytes(event).decode() for event in after.events)}]",
    )
