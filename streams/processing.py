"""The process stage: decides what every staged item is, folds rounds, and lists what to write.

Pure: state comes in through a :class:`Lookup`, effects go out as a value. The shell
(:mod:`streams.ledger`) writes the effects in one transaction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from streams import profiles, rounds
from streams.canonical import (
    Batch,
    Kind,
    decode,
    encode,
    encode_batch,
    player_body,
    to_json,
)
from streams.canonical import Translated as Derived
from streams.codec import Record, codec
from streams.idempotency import CONTENT_BYTES, ID_BYTES, Verdict, decide, hash_of, key_of
from streams.profiles import Profile
from streams.rounds import Transaction
from streams.translation import LOOKUP_ONLY, outcome, reject

ID_KEY = b"\x01"
ROUND_KEY = b"\x02"
_TELLING = frozenset((Kind.PLAYER, Kind.GAME, Kind.CUSTOM_EVENT))
_KINDS = tuple(Kind)
_STAGED = codec("staged-chunk")
_UNPACK = msgspec.msgpack.Decoder(list[list[Transaction] | None]).decode


class Lookup(Protocol):
    """Reads of one partition's state."""

    def window(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """Values of the window table."""
        ...

    def profiles(self, keys: Sequence[str]) -> Sequence[Profile | None]:
        """Profiles by state key."""
        ...


class Output(NamedTuple):
    """A record to send: ``contract`` names its schema, ``topic`` goes without the prefix."""

    topic: str
    contract: str
    key: str
    datum: bytes | Record


class ProfilePut(NamedTuple):
    """A profile to store."""

    kind: Kind
    tenant: str
    identity: str
    profile: Profile


@dataclass
class Effects:
    """All that processing some groups leads to. ``window`` and ``profiles`` are puts by key."""

    outputs: list[Output] = field(default_factory=list)
    window: dict[bytes, bytes] = field(default_factory=dict)
    profiles: dict[str, ProfilePut] = field(default_factory=dict)


def process(groups: Iterable[Record], lookup: Lookup, partition: int, offset: int) -> Effects:
    """Effects of ``groups`` (as :func:`unpack` returns them), applied in order.

    ``partition`` and ``offset`` say where in ``staged`` they stand; the offset is the segment of
    every round that is new here.
    """
    return _Processing(list(groups), lookup, partition, offset).run()


def groups_of(datum: bytes) -> list[Record]:
    """The groups of a datum of the contract ``staged-chunk``, unpacked.

    Raises ``ValueError`` if translate cannot have written it.
    """
    try:
        return [unpack(group) for group in _STAGED.decode(datum)["groups"]]
    except (EOFError, LookupError, ArithmeticError, TypeError) as error:  # as fastavro has it
        raise ValueError(str(error) or type(error).__name__) from None


def unpack(group: Record) -> Record:
    """A group of the contract ``staged-chunk`` with its transactions read.

    Raises ``ValueError`` if translate cannot have written it.
    """
    count = len(group["positions"])
    columns = len(group["kinds"]), len(group["keys"]), len(group["events"])
    if columns != (count,) * 3 or len(group["id_hashes"]) != count * ID_BYTES:
        raise ValueError("the group's columns differ in length")
    if len(group["content_hashes"]) != count * CONTENT_BYTES:
        raise ValueError("the group's columns differ in length")
    if any(kind & ~LOOKUP_ONLY >= len(_KINDS) for kind in group["kinds"]):
        raise ValueError("the group has an item of no known kind")
    transactions = _UNPACK(group["transactions"])
    if [bool(each) for each in transactions] != [kind == 0 for kind in group["kinds"]]:
        raise ValueError("the group's transactions are not those of its items")
    head = encode_batch(_batch_of(group))
    for kind, datums in zip(group["kinds"], group["events"], strict=True):
        if not datums or not all(datum.startswith(head) for datum in datums):
            raise ValueError("the group has an event of another batch")
        if _KINDS[kind & ~LOOKUP_ONLY] in _TELLING:
            decode(_KINDS[kind & ~LOOKUP_ONLY], datums[0])
    return group | {"transactions": transactions}


class _Item(NamedTuple):
    group: int
    position: int
    kind: Kind
    lookup_only: bool
    id_key: bytes
    content_hash: bytes
    key: str
    datums: list[bytes]
    transactions: list[Transaction] | None


class _OpenRound(NamedTuple):
    state: rounds.Round
    key: bytes


class _Processing:
    """One run of :func:`process`: gather, look up once, then decide item by item."""

    def __init__(self, groups: list[Record], lookup: Lookup, partition: int, offset: int) -> None:
        self.groups = groups
        self.lookup = lookup
        self.partition = partition
        self.segment = offset
        self.effects = Effects()
        self.batches = [_batch_of(group) for group in groups]
        self.tallies = [{"accepted": 0, "duplicate": 0, "conflict": 0, "counted": 0} for _ in groups]
        self.ids: dict[bytes, bytes | None] = {}
        self.open_rounds: dict[bytes, _OpenRound] = {}
        self.touched: dict[bytes, _OpenRound] = {}
        self.profiles: dict[str, Profile | None] = {}

    def run(self) -> Effects:
        items = [item for index, group in enumerate(self.groups) for item in _items(index, group)]
        self._look_up_ids(items)
        fresh = [item for item in items if item.lookup_only or self.ids[item.id_key] is None]
        self._look_up_rounds(fresh)
        self._look_up_profiles(fresh)
        for item in items:
            if item.lookup_only:
                self._learn(item)
            else:
                self._decide(item)
        self._emit_rounds()
        self._emit_outcomes()
        return self.effects

    # Looking up ------------------------------------------------------------------------------

    def _look_up_ids(self, items: list[_Item]) -> None:
        keys = list({item.id_key for item in items if not item.lookup_only})
        self.ids = dict(zip(keys, self.lookup.window(keys), strict=True))

    def _look_up_rounds(self, items: list[_Item]) -> None:
        keys = list(
            {
                _round_key(self.batches[item.group], item.transactions[0])
                for item in items
                if item.transactions
            }
        )
        for key, datum in zip(keys, self.lookup.window(keys), strict=True):
            if datum is not None:
                self.open_rounds[key] = _OpenRound(rounds.decode(datum), key)

    def _look_up_profiles(self, items: list[_Item]) -> None:
        keys = set()
        for item in items:
            tenant = self.batches[item.group].tenant
            if item.transactions:
                keys.add(profiles.state_key(Kind.PLAYER, tenant, item.transactions[0].player_id))
                keys.update(
                    profiles.state_key(Kind.GAME, tenant, each.game_id) for each in item.transactions
                )
            elif item.kind in _TELLING:
                keys.add(_profile_of(item)[1])
        for opened in self.open_rounds.values():
            keys.add(profiles.state_key(Kind.GAME, opened.state.tenant, opened.state.game_id))
        ordered = list(keys)
        self.profiles = dict(zip(ordered, self.lookup.profiles(ordered), strict=True))

    # Deciding --------------------------------------------------------------------------------

    def _decide(self, item: _Item) -> None:
        tally = self.tallies[item.group]
        tally["counted"] += 1
        verdict = decide(item.content_hash, self.ids[item.id_key])
        if verdict is Verdict.DUPLICATE:
            tally["duplicate"] += 1
        elif verdict is Verdict.CONFLICT:
            self._refuse(
                item,
                "id_conflict",
                "this id was accepted before with other content; send corrections under a new id",
            )
        elif (refusal := self._fold(item)) is not None:
            self._refuse(item, *refusal)
        else:
            self._accept(item)

    def _fold(self, item: _Item) -> tuple[str, str] | None:
        """Folds the item's transactions into their round, or says why not."""
        if not item.transactions:
            return None
        batch = self.batches[item.group]
        key = _round_key(batch, item.transactions[0])
        opened = self.open_rounds.get(key)
        if opened is None:
            opened = _OpenRound(rounds.opened_by(batch, item.transactions[0], self.segment), key)
        refused = rounds.refusal(opened.state, item.transactions)
        if refused is None:
            self.open_rounds[key] = self.touched[key] = opened
            for transaction in item.transactions:
                rounds.fold(opened.state, batch, transaction)
        return refused

    def _accept(self, item: _Item) -> None:
        self.tallies[item.group]["accepted"] += 1
        self.ids[item.id_key] = self.effects.window[item.id_key] = item.content_hash
        for datum in item.datums:
            self._send(item.kind.topic, item.kind.contract, item.key, datum)
        if item.kind in _TELLING:
            self._learn(item)

    def _refuse(self, item: _Item, code: str, message: str) -> None:
        self.tallies[item.group]["conflict"] += 1
        group = self.groups[item.group]
        where = group["raw_partition"], group["raw_offset"], self.batches[item.group]
        refused = reject(*where, "process", item.position) | {
            "outcome": "conflict",
            "code": code,
            "errors": [{"code": code, "pointer": "", "message": message}],
            "payload_format": "canonical",
            "payload": b"\n".join(
                to_json(item.kind.contract, decode(item.kind, datum)) for datum in item.datums
            ),
        }
        self._send("rejects", "reject", group["tenant"], refused)

    def _learn(self, item: _Item) -> None:
        """Merges what an event says into its profile; an unknown player comes into being."""
        kind, key, event = _profile_of(item)
        known = self.profiles[key]
        if item.kind is Kind.CUSTOM_EVENT:
            said = profiles.contact_said_by(event)
        else:
            said = profiles.said_by(kind, event)
        merged = profiles.merge(known or {}, said)
        if known is not None and merged == known:
            return
        self.profiles[key] = merged
        identity = event["game_id" if kind is Kind.GAME else "player_id"]
        self.effects.profiles[key] = ProfilePut(kind, event["tenant"], identity, merged)
        if item.kind is Kind.CUSTOM_EVENT:
            self._derive_player(item, event)

    def _derive_player(self, item: _Item, event: Record) -> None:
        """A canonical player event for what a custom event taught us about its player."""
        body = player_body(event["player_id"], mobile=event["mobile"], email=event["email"])
        player = Derived(
            Kind.PLAYER,
            event["player_id"],
            event["source_event"],
            event["event_id"],
            event["occurred_at"],
            [body],
        )
        for datum in encode(self.batches[item.group], item.position, player):
            self._send(Kind.PLAYER.topic, Kind.PLAYER.contract, item.key, datum)

    # Emitting --------------------------------------------------------------------------------

    def _emit_rounds(self) -> None:
        for opened in self.touched.values():
            state = opened.state
            state.revision += 1
            datum = rounds.encode(
                state,
                self.profiles[profiles.state_key(Kind.PLAYER, state.tenant, state.player_id)],
                self.profiles[profiles.state_key(Kind.GAME, state.tenant, state.game_id)],
            )
            self.effects.window[opened.key] = datum
            key = key_of(state.tenant, state.player_id, state.round_id)
            self._send("rounds", "round", key, datum)

    def _emit_outcomes(self) -> None:
        for group, batch, tally in zip(self.groups, self.batches, self.tallies, strict=True):
            if tally.pop("counted"):
                counted = outcome(
                    group["raw_partition"],
                    group["raw_offset"],
                    batch,
                    "process",
                    self.partition,
                    group["part"],
                )
                self._send("outcomes", "outcome", group["tenant"], counted | tally)

    def _send(self, topic: str, contract: str, key: str, datum: bytes | Record) -> None:
        self.effects.outputs.append(Output(topic, contract, key, datum))


def _batch_of(group: Record) -> Batch:
    lead = group["tenant"], group["source"], group["batch_id"], group["received_at"], group["counts"]
    return Batch(*lead, merges_channels=False, idempotency_key=None)


def _items(index: int, group: Record) -> Iterable[_Item]:
    ids, contents = group["id_hashes"], group["content_hashes"]
    columns = (
        group["positions"],
        group["kinds"],
        group["keys"],
        group["events"],
        group["transactions"],
    )
    for i, (position, kind, key, datums, transactions) in enumerate(zip(*columns, strict=True)):
        yield _Item(
            index,
            position,
            _KINDS[kind & ~LOOKUP_ONLY],
            kind >= LOOKUP_ONLY,
            ID_KEY + ids[i * ID_BYTES : (i + 1) * ID_BYTES],
            contents[i * CONTENT_BYTES : (i + 1) * CONTENT_BYTES],
            key,
            datums,
            transactions,
        )


def _round_key(batch: Batch, transaction: Transaction) -> bytes:
    return ROUND_KEY + hash_of(batch.tenant, transaction.player_id, transaction.round_id)


def _profile_of(item: _Item) -> tuple[Kind, str, Record]:
    """Which profile an item tells about: its kind, its state key; and the item's event."""
    event = decode(item.kind, item.datums[0])
    kind = Kind.GAME if item.kind is Kind.GAME else Kind.PLAYER
    identity = event["game_id" if kind is Kind.GAME else "player_id"]
    return kind, profiles.state_key(kind, event["tenant"], identity), event
