"""The records of the topic ``standings``: their keys and values. See ``avro/standing.avsc``."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import polars

from connectors.campaigns.evaluation import Result
from connectors.campaigns.settling.awards import decimal_of
from connectors.standings.changes import ON_TOPIC, Changes
from streams.core.identity import key_of, longer_key
from streams.wire.avro import Record
from streams.wire.money import to_bytes, to_units
from streams.wire.times import from_micros, to_micros

_ROWS = 100_000
"""So many records are decoded before they become a frame, which takes a tenth of the memory."""

_TIMES = [name for name, kind in ON_TOPIC.items() if kind == polars.Datetime("us", "UTC")]
_AMOUNTS = [name for name, kind in ON_TOPIC.items() if kind == polars.Decimal(38, 18)]


class Place(NamedTuple):
    """What a key names: a campaign, as ``tenant|campaign``, and a player of it, escaped as in the key;
    without a player the end of its evaluations.
    """

    campaign: str
    player: str | None

    @classmethod
    def of(cls, key: bytes) -> "Place":
        """The place of a record."""
        tenant, campaign, *player = key.decode().split("|")
        return cls(f"{tenant}|{campaign}", player[0] if player else None)


class Evaluation(NamedTuple):
    """The end of an evaluation on the topic."""

    as_of: datetime
    ends_at: datetime
    unsettled: int

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Evaluation":
        """That of a record without a player."""
        as_of, ends_at = from_micros(record["as_of"]), from_micros(record["ends_at"])
        return cls(as_of, ends_at, record["unsettled"])

    @property
    def is_last(self) -> bool:
        """Whether the campaign was over and no item was on its way."""
        return self.as_of >= self.ends_at and not self.unsettled


def of_players(result: Result, found: Changes) -> Iterator[tuple[str, Record | None]]:
    """The key and the record of each change, those who have no standing any more last."""
    campaign, as_of = result.campaign, to_micros(result.as_of)
    lead = key_of(campaign.tenant, campaign.name)
    common = {"tenant": campaign.tenant, "campaign": campaign.name, "as_of": as_of}
    rows = found.written.with_columns(polars.col(_TIMES).dt.epoch("us"))
    amounts = [name for name, kind in rows.schema.items() if kind == polars.Decimal(38, 18)]
    for row in rows.iter_rows(named=True):
        for name in amounts:
            if (amount := row[name]) is not None:
                row[name] = to_bytes(to_units(amount))
        yield longer_key(lead, row["player_id"]), common | row
    for player_id in found.gone:
        yield longer_key(lead, player_id), None


def of_evaluation(result: Result, changes: int) -> tuple[str, Record]:
    """The key and the record that end an evaluation."""
    campaign = result.campaign
    record = {
        "tenant": campaign.tenant,
        "campaign": campaign.name,
        "as_of": to_micros(result.as_of),
        "title": campaign.title,
        "currency": campaign.counts.currency,
        "definition_sha256": campaign.sha256,
        "ends_at": to_micros(campaign.period.utc()[1]),
        "players": len(result.standings),
        "changes": changes,
        "prizes": to_bytes(to_units(result.cost)),
        "unsettled": result.unsettled,
    }
    return key_of(campaign.tenant, campaign.name), record


def frame_of(records: Iterable[Record]) -> polars.DataFrame:
    """The frame of the topic that records of players make."""
    integers = polars.Schema(ON_TOPIC | dict.fromkeys(_TIMES, polars.Int64()))
    frames = [integers.to_frame()]
    left = iter(records)
    while some := list(islice(left, _ROWS)):
        columns = {name: [record[name] for record in some] for name in ON_TOPIC}
        for name in _AMOUNTS:
            columns[name] = [decimal_of(amount) for amount in columns[name]]
        frames.append(polars.DataFrame(columns, schema=integers))
    return polars.concat(frames).cast(ON_TOPIC)
