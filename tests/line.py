"""The two stages connected in memory, without Kafka, RocksDB or a clock.

State and outputs are plain dicts and lists, so that a test can compare them with expected values.
"""

import json
from collections import Counter, defaultdict
from typing import Any

from connectors.demo.day import TENANTS, Post
from connectors.edge.routes import ROUTES
from streams.core.accounting import encode_outcome, encode_reject
from streams.core.event import Batch, contents_of, to_json
from streams.records.raw_batch import RawRecord, headers_of
from streams.records.staged_chunk import PackedGroup, unpack
from streams.records.topics import CONTRACTS
from streams.stages.process import At, process
from streams.stages.translate import translate
from streams.wire.avro import codec, frame, unframe
from streams.wire.contracts import SCHEMA_IDS, schema
from tests.standins import MemoryState

FRAMES = {name: frame(number) for name, number in SCHEMA_IDS.items()}
CONTENTS = contents_of(FRAMES, lambda contract, _: schema(contract))
NATIVE = Batch("acme", "native", "batch", 1_773_500_000_000_000, True, False, None)


def batch_of_post(post: Post, number: int, name: str) -> Batch:
    """The batch that the edge would make of a post, the ``number``-th of the demo day ``name``."""
    return Batch(
        post.tenant,
        next(route.source for route in ROUTES if route.path == post.path),
        f"{name}-{number}",
        1_773_500_000_000_000 + number,
        True,
        next(tenant.channel_merging for tenant in TENANTS if tenant.name == post.tenant),
        post.idempotency_key,
    )


class Line:
    """A line in memory: a test calls ``post`` and ``settle``, and then compares ``sent``."""

    def __init__(self, partitions: int = 2) -> None:
        self.partitions = partitions
        self.states = [MemoryState() for _ in range(partitions)]
        self.staged: dict[int, list[PackedGroup]] = defaultdict(list)
        self.sent: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.datums: dict[str, list[bytes]] = defaultdict(list)
        self.offset = 0
        self.raw_offset = 0

    def post(self, body: Any, batch: Batch = NATIVE) -> None:
        """Translates one request; ``body`` is bytes or a value to be encoded as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        record = RawRecord(0, self.raw_offset, headers_of(batch, invalid=0), data)
        self.raw_offset += 1
        translation = translate(record, self.partitions)
        for partition, groups in translation.groups.items():
            self.staged[partition].extend(groups)
        for reject in translation.rejects:
            self._keep("rejects", encode_reject(reject))
        for outcome in translation.outcomes:
            self._keep("outcomes", encode_outcome(outcome))

    def settle(self) -> None:
        """Processes all staged items, those of one partition as one chunk."""
        staged, self.staged = self.staged, defaultdict(list)
        for partition, groups in staged.items():
            state = self.states[partition]
            unpacked = [unpack(group, CONTENTS) for group in groups]
            effects = process(unpacked, state, FRAMES, At(partition, self.offset))
            self.offset += 1
            for topic, records in effects.outputs.items():
                for _, value in records:
                    self._keep(topic, unframe(value))
            state.store(effects)

    def run(self, body: Any, batch: Batch = NATIVE) -> None:
        """Calls ``post`` and then ``settle``."""
        self.post(body, batch)
        self.settle()

    def rounds(self) -> dict[str, dict[str, Any]]:
        """The newest revision of each round, by round id."""
        return {sent["round_id"]: sent for sent in self.sent["rounds"]}

    def tally(self) -> dict[str, int]:
        """The sums of the counts of all outcomes."""
        total: Counter[str] = Counter()
        for sent in self.sent["outcomes"]:
            parts = ("received", "accepted", "duplicate", "conflict", "rejected")
            total.update({part: sent[part] for part in parts})
        return dict(total)

    def _keep(self, topic: str, datum: bytes) -> None:
        contract = CONTRACTS[topic]
        self.datums[topic].append(datum)
        self.sent[topic].append(json.loads(to_json(contract, codec(contract).decode(datum))))


def bet(event_id: str, amount: float | str = 1, **more: Any) -> dict[str, Any]:
    """A native bet."""
    data = {
        "unique_id": event_id,
        "timestamp": "2026-03-14T12:00:00Z",
        "player_id": "p-1",
        "game_id": "g-1",
        "round_id": "r-1",
        "amount": amount,
        "currency": "EUR",
        "is_win": False,
        "is_bonus": False,
    }
    return {"event": "gameround", "data": data | more}


def win(event_id: str, amount: float | str = 1, **more: Any) -> dict[str, Any]:
    """A native win."""
    return bet(event_id, amount, **({"is_win": True} | more))


def casino(kind: str, event_id: str, amount: float | str = 1, **more: Any) -> dict[str, Any]:
    """A FastTrack casino event."""
    data = {
        "user_id": "p-1",
        "timestamp": "2026-03-14T12:00:00Z",
        "unique_id": event_id,
        "game_id": "g-1",
        "round_id": "r-1",
        "type": kind,
        "amount": amount,
        "currency": "EUR",
        "bonus_wager_amount": 0,
    }
    return {"event": "realtime-casino", "data": data | more}
