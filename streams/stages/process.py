"""The process stage: decides whether each staged item is new, folds rounds, and lists the writes.

Pure: state comes in through a :class:`Lookup`, and the effects are returned as a value. The shell
(:mod:`streams.state.owned_partition`) writes the effects in one transaction.

A correction is a request with two items of one id: the accepted one, and what replaces it. It compares
and swaps: the second takes effect if the state has the hash of the first. It is then no new item, so
both count as duplicates, and a correction that arrives again changes nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from streams.core import profile as profiles
from streams.core import round as rounds
from streams.core.accounting import (
    CountedAt,
    Outcome,
    Reason,
    Reject,
    encode_outcome,
    encode_reject,
)
from streams.core.event import (
    Kind,
    datums,
    encode_batch,
    encode_content,
    is_correction,
    player_body,
    to_json,
)
from streams.core.event import Translated as Derived
from streams.core.identity import erased_mark, hash_after, lengthened, longer_key, same_content
from streams.core.profile import Profile, game_key, state_key
from streams.records.staged_chunk import PROFILE_KINDS, Group, StagedItem
from streams.records.topics import OUTCOMES, REJECTS, ROUNDS
from streams.wire.avro import Record, unframe

try:
    from streams.stages import _process
except ImportError:
    _process = None  # type: ignore[assignment]

COMPILED = _process is not None and rounds.is_of(_process.STATE_FIELDS, _process.DATUM_FIELDS)
"""Whether items with one transaction are decided, and their rounds folded, in C."""

ID_KEY = b"\x01"
ROUND_KEY = b"\x02"


class Lookup(Protocol):
    """Reads the state of one partition."""

    def window(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """Values of the window table, in the order of ``keys``; None for an unknown key."""
        ...

    @property
    def erased(self) -> Set[bytes]:
        """The marks of erased players: see :func:`streams.core.identity.erased_mark`."""
        ...

    def profiles(self, keys: Sequence[str]) -> Sequence[Profile | None]:
        """Profiles, in the order of their state keys; None for an unknown key."""
        ...

    def round_runs(self, kind: Kind, keys: Sequence[str]) -> Sequence[bytes]:
        """The encoded profiles of the players or games with these state keys, as rounds contain them:
        see :func:`streams.core.round.encode_profile`.
        """
        ...


class ProfilePut(NamedTuple):
    """A profile to store."""

    kind: Kind
    tenant: str
    identity: str
    profile: Profile


@dataclass
class Effects:
    """The effects of processing some groups.

    ``outputs`` are (key, framed datum) by topic without the prefix. ``window`` and ``profiles`` are
    puts by key. ``outcomes`` are the outcomes among the outputs, and ``refused`` counts the rejects
    among them by code.
    """

    outputs: dict[str, list[tuple[bytes, bytes]]] = field(default_factory=lambda: defaultdict(list))
    window: dict[bytes, bytes] = field(default_factory=dict)
    profiles: dict[str, ProfilePut] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


class At(NamedTuple):
    """The position of groups in ``staged``; ``segment`` is that of every round that begins there."""

    partition: int
    segment: int


def process(groups: Iterable[Group], lookup: Lookup, frames: Mapping[str, bytes], at: At) -> Effects:
    """The effects of ``groups``, applied in order.

    ``frames`` are, by contract, the frames of the datums that are made here. Datums of accepted
    items keep the frames of their groups.
    """
    return _Processing(list(groups), lookup, frames, at).run()


class _Group:
    """A staged group, what all its items share, and the counts of its items' outcomes."""

    def __init__(self, staged: Group) -> None:
        self.staged = staged
        self.batch = staged.batch
        self._heads: dict[Kind, bytes] = {}
        self.hash_lead = lengthened("", staged.batch.tenant)
        self.hash_lead_bytes = self.hash_lead.encode()
        self.corrects = is_correction(staged.batch.batch_id)
        self.tally = {"accepted": 0, "duplicate": 0, "conflict": 0}

    def datums(self, item: StagedItem) -> list[bytes]:
        """The framed datums of an item's events, in the version in which their contents are written."""
        return datums(self.head(item.kind), item.position, item.contents)

    def head(self, kind: Kind) -> bytes:
        """The frame and the fields of the batch, with which the datums of a kind begin."""
        head = self._heads.get(kind)
        if head is None:
            content = self.staged.contents[kind]
            head = self._heads[kind] = content.frame + content.encode_batch(self.batch)
        return head


class _Item(msgspec.Struct, gc=False):
    """A staged item with its keys; ``round_key`` is set if it has transactions and a new id."""

    group: _Group
    staged: StagedItem
    id_key: bytes
    round_key: bytes = b""


class _Processing:
    """One call of :func:`process`: collects the items, looks up all keys once, then decides item by
    item.
    """

    def __init__(
        self, groups: list[Group], lookup: Lookup, frames: Mapping[str, bytes], at: At
    ) -> None:
        self.groups = [_Group(group) for group in groups]
        self.lookup = lookup
        self.frames = frames
        self.at = at
        self.effects = Effects()
        self.canonical = [self.effects.outputs[kind.topic] for kind in Kind]
        self.ids: dict[bytes, bytes | None] = {}
        self.open_rounds: dict[bytes, rounds.Round | _process.Round] = {}
        self.touched: dict[bytes, bytes] = {}
        self.profiles: dict[str, Profile | None] = {}

    def run(self) -> Effects:
        items = self._items()
        if self.lookup.erased:
            items = self._without_erased(items)
        self._look_up_ids(items)
        fresh = self._fresh(items)
        corrections = self._corrections(items)
        self._look_up_rounds([*fresh, *corrections] if corrections else fresh)
        self._look_up_profiles(fresh)
        if COMPILED and not corrections:
            canonical = self.canonical[Kind.GAME_TRANSACTION]
            _process.Deciding(self, canonical, self._apply).run(items)
        else:
            for item in items:
                self._apply(item)
        self._emit_rounds()
        self._emit_outcomes()
        return self.effects

    def _items(self) -> list[_Item]:
        if COMPILED:
            return _process.entries(self.groups, ID_KEY)
        return [
            _Item(group, staged, ID_KEY + staged.id_hash)
            for group in self.groups
            for staged in group.staged.items
        ]

    def _fresh(self, items: list[_Item]) -> list[_Item]:
        """The items whose id is new, and those that are not counted."""
        if COMPILED:
            return _process.fresh(items, self.ids)
        return [item for item in items if item.staged.lookup_only or self.ids[item.id_key] is None]

    def _apply(self, item: _Item) -> None:
        if item.group.corrects:
            self._correct(item)
        elif item.staged.lookup_only:
            self._learn(item)
        else:
            self._decide(item)

    def _corrections(self, items: list[_Item]) -> list[_Item]:
        if not any(group.corrects for group in self.groups):
            return []
        return [item for item in items if item.group.corrects]

    def _without_erased(self, items: list[_Item]) -> list[_Item]:
        """Refuses the items of erased players, without a payload, and returns the others."""
        keys = {item.staged.key for item in items if item.staged.kind is not Kind.GAME}
        erased = {key for key in keys if erased_mark(key) in self.lookup.erased}
        kept = []
        for item in items:
            if item.staged.kind is Kind.GAME or item.staged.key not in erased:
                kept.append(item)
            else:
                self._refuse(item, "erased_player", "the player was erased", payload=b"")
        return kept

    # Looking up ------------------------------------------------------------------------------

    def _look_up_ids(self, items: list[_Item]) -> None:
        if COMPILED:
            keys = _process.id_keys(items)
        else:
            keys = [item.id_key for item in items if not item.staged.lookup_only]
        self.ids = dict(zip(keys, self.lookup.window(keys), strict=True))

    def _look_up_rounds(self, items: list[_Item]) -> None:
        if COMPILED:
            _process.find_round_keys(items, ROUND_KEY, self._find_round_key)
        else:
            for item in items:
                self._find_round_key(item)
        keys = list(dict.fromkeys(item.round_key for item in items if item.round_key))
        for round_key, datum in zip(keys, self.lookup.window(keys), strict=True):
            if datum is not None:
                in_c = _process.of_state(datum) if COMPILED else None
                self.open_rounds[round_key] = rounds.of_state(datum) if in_c is None else in_c

    def _find_round_key(self, item: _Item) -> None:
        if item.staged.transactions:
            first = item.staged.transactions[0]
            player = lengthened(item.group.hash_lead, first.player_id)
            item.round_key = ROUND_KEY + hash_after(player, first.round_id)

    def _round(self, round_key: bytes) -> rounds.Round | None:
        """The state of a round, which may be one in C; its changes count if they are put back."""
        state = self.open_rounds.get(round_key)
        return (
            state
            if state is None or isinstance(state, rounds.Round)
            else rounds.of_state(state.to_state())
        )

    def _look_up_profiles(self, items: list[_Item]) -> None:
        keys = list({_profile_key(item) for item in items if item.staged.kind in PROFILE_KINDS})
        self.profiles = dict(zip(keys, self.lookup.profiles(keys), strict=True))

    # Deciding --------------------------------------------------------------------------------

    def _decide(self, item: _Item) -> None:
        known = self.ids[item.id_key]
        if known is not None and same_content(known, item.staged.content_hash):
            item.group.tally["duplicate"] += 1
        elif known is not None:
            self._refuse(
                item,
                "id_conflict",
                "this id was accepted before with other content; send corrections under a new id",
            )
        elif item.staged.transactions and (refusal := self._fold(item)) is not None:
            self._refuse(item, *refusal)
        else:
            self._accept(item)

    def _fold(self, item: _Item) -> tuple[str, str] | None:
        """Folds the item's transactions into their round, or returns the refusal's code and message."""
        batch, transactions = item.group.batch, item.staged.transactions
        state = self._round(item.round_key)
        if state is None:
            state = rounds.opened_by(batch, transactions[0], self.at.segment)
        refused = rounds.refusal(state, transactions)
        if refused is None:
            self._touch(item, state)
            for transaction in transactions:
                rounds.fold(state, batch, transaction)
        return refused

    def _touch(self, item: _Item, state: rounds.Round) -> None:
        self.open_rounds[item.round_key] = state
        self.touched[item.round_key] = item.staged.key.encode()

    def _accept(self, item: _Item, counted_as: str = "accepted") -> None:
        group, staged = item.group, item.staged
        group.tally[counted_as] += 1
        self.ids[item.id_key] = self.effects.window[item.id_key] = staged.content_hash
        canonical = self.canonical[staged.kind]
        for value in group.datums(staged):
            canonical.append((staged.key.encode(), value))
        if staged.kind in PROFILE_KINDS:
            self._learn(item)

    def _correct(self, item: _Item) -> None:
        """Decides an item of a correction."""
        if item.staged.lookup_only:
            return
        known = self.ids[item.id_key]
        pair = _pair(item.group.staged.items)
        if pair is None:
            self._refuse(item, "not_correctable", "a correction is two items of one id and subject")
            return
        before, after = pair
        if known is not None and same_content(known, after.content_hash):
            item.group.tally["duplicate"] += 1
        elif known is None or not same_content(known, before.content_hash):
            message = "what this corrects is not, or no longer, what was accepted under the id"
            self._refuse(item, "correction_outdated", message)
        elif item.staged is before:
            item.group.tally["duplicate"] += 1
        elif after.transactions and (refusal := self._refold(item, before)) is not None:
            self._refuse(item, *refusal)
        else:
            self._accept(item, counted_as="duplicate")

    def _refold(self, item: _Item, before: StagedItem) -> tuple[str, str] | None:
        """Replaces transactions in their round by the item's, or returns the refusal."""
        state, after = self._round(item.round_key), item.staged
        refused = rounds.correction_refusal(state, before.transactions, after.transactions)
        if refused is None:
            assert state is not None
            self._touch(item, state)
            rounds.correct(state, item.group.batch, before.transactions, after.transactions)
        return refused

    def _refuse(self, item: _Item, code: str, message: str, payload: bytes | None = None) -> None:
        """``payload``: by default the events of the item."""
        group, staged = item.group, item.staged
        group.tally["conflict"] += 1
        self.effects.refused[code] += 1
        errors = [{"code": code, "pointer": "", "message": message}]
        if payload is None:
            content = group.staged.contents[staged.kind]
            payload = b"\n".join(
                to_json(staged.kind.contract, content.decode_whole(unframe(value)))
                for value in group.datums(staged)
            )
        reason = Reason("conflict", code, errors, "canonical", payload)
        refused = Reject.of(self._counted_at(group.staged), group.batch, staged.position, reason)
        value = self.frames["reject"] + encode_reject(refused)
        self.effects.outputs[REJECTS].append((group.batch.tenant.encode(), value))

    def _learn(self, item: _Item) -> None:
        """Merges an event into the profile that it updates; an unknown player gets a profile."""
        key = _profile_key(item)
        known = self.profiles[key]
        content = item.group.staged.contents[item.staged.kind]
        event = content.decode(item.staged.contents[0])
        kind = Kind.GAME if item.staged.kind is Kind.GAME else Kind.PLAYER
        if item.staged.kind is Kind.CUSTOM_EVENT:
            said = profiles.contact_in(event)
        else:
            said = profiles.profile_in(kind, event)
        merged = profiles.merge(known or {}, said)
        if known is not None and merged == known:
            return
        self.profiles[key] = merged
        identity = event[kind.subject_field]
        self.effects.profiles[key] = ProfilePut(kind, item.group.batch.tenant, identity, merged)
        if item.staged.kind is Kind.CUSTOM_EVENT:
            self._derive_player(item, event)

    def _derive_player(self, item: _Item, event: Record) -> None:
        """Emits a canonical player event for the contact in a custom event."""
        body = player_body(event["player_id"], mobile=event["mobile"], email=event["email"])
        player = Derived(
            Kind.PLAYER,
            event["player_id"],
            event["source_event"],
            event["event_id"],
            event["occurred_at"],
            [body],
        )
        head = self.frames[Kind.PLAYER.contract] + encode_batch(item.group.batch)
        for value in datums(head, item.staged.position, encode_content(player)):
            self.canonical[Kind.PLAYER].append((item.staged.key.encode(), value))

    # Emitting --------------------------------------------------------------------------------

    def _emit_rounds(self) -> None:
        emitted, frame = self.effects.outputs[ROUNDS], self.frames["round"]
        if COMPILED and _process.emit_rounds(self, emitted, frame):
            return
        keys = [key.decode() for key in self.touched.values()]
        states = [state for state in map(self._round, self.touched) if state is not None]
        players = self.round_runs(Kind.PLAYER, [state_key(Kind.PLAYER, key) for key in keys])
        games = self.round_runs(Kind.GAME, [game_key(state.tenant, state.game_id) for state in states])
        for state, round_key, key, player, game in zip(
            states, self.touched, keys, players, games, strict=True
        ):
            state.revision += 1
            self.effects.window[round_key] = rounds.to_state(state)
            value = b"%b%b%b%b" % (frame, rounds.encode_state(state), player, game)
            emitted.append((longer_key(key, state.round_id).encode(), value))

    def round_runs(self, kind: Kind, keys: list[str]) -> Iterable[bytes]:
        """The encoded profiles for rounds, with the changes of this chunk applied."""
        runs = self.lookup.round_runs(kind, keys)
        if not self.effects.profiles:
            return runs
        return [
            rounds.encode_profile(kind, self.profiles[key]) if key in self.effects.profiles else run
            for key, run in zip(keys, runs, strict=True)
        ]

    def _emit_outcomes(self) -> None:
        for group in self.groups:
            if any(group.tally.values()):
                counted = Outcome.of(self._counted_at(group.staged), group.batch, **group.tally)
                self.effects.outcomes.append(counted)
                value = self.frames["outcome"] + encode_outcome(counted)
                self.effects.outputs[OUTCOMES].append((group.batch.tenant.encode(), value))

    def _counted_at(self, group: Group) -> CountedAt:
        return CountedAt(
            group.raw_partition, group.raw_offset, "process", self.at.partition, group.part
        )


def _pair(items: Sequence[StagedItem]) -> tuple[StagedItem, StagedItem] | None:
    """The items of a correction: the accepted one, and what replaces it. None if they are not that.

    An item that updates a profile cannot be taken back: a later one has the last word.
    """
    if len(items) != 2:
        return None
    before, after = items
    same = (before.id_hash, before.key, before.kind) == (after.id_hash, after.key, after.kind)
    return (before, after) if same and before.kind not in PROFILE_KINDS else None


def _profile_key(item: _Item) -> str:
    """The state key of the profile that an item updates."""
    return state_key(item.staged.kind, item.staged.key)
