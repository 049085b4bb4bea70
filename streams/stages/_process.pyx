# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The process stage's work on plain items in C: rounds as numbers and text that are folded in place.

What it does not decide itself, a conflict, a refusal, any item that is not plain, it leaves to
:mod:`streams.stages.process`, which is its oracle; a property test compares the two. Between the two a
round passes as the MessagePack of the window table.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError
from cpython.mem cimport PyMem_Free
from cpython.object cimport PyObject
from libc.stdint cimport int64_t
from libc.string cimport memcmp, memcpy

from streams.core._identity cimport blake2b, is_plain_in_keys, put_part
from streams.records._staged cimport (
    BET,
    ROLLBACK_BET,
    ROLLBACK_WIN,
    WIN,
    PlainItem,
)
from streams.wire._msgpack cimport (
    Reader,
    read_array,
    read_bool,
    read_int,
    read_money,
    read_nil,
    read_text,
)
from streams.wire._out cimport (
    Out,
    PyUnicode_AsUTF8AndSize,
    Text,
    begin,
    int128,
    pack_array,
    pack_bool,
    pack_head,
    pack_int,
    pack_money,
    pack_text,
    put,
    put_all,
    put_long,
    put_money,
    put_text,
    str_of,
    written,
)

from streams.core.event import SOURCES, Kind
from streams.core.identity import ID_BYTES, longer_key
from streams.core.profile import game_key, state_key
from streams.core.round import to_state

cdef enum:
    MONEYS = 9
    COUNTS = 5
    DIGEST_BYTES_MAX = 64

cdef enum:  # the order of the amounts in a state
    BET_AMOUNT = 0
    WIN_AMOUNT = 2
    ROLLBACK_BET_AMOUNT = 4
    ROLLBACK_WIN_AMOUNT = 6
    LARGEST_WIN = 8

cdef enum:  # the order of the counts
    BETS, WINS, LOSSES, ROLLBACKS_OF_BETS, ROLLBACKS_OF_WINS

cdef int _ID_BYTES = ID_BYTES
_KIND = Kind.GAME_TRANSACTION
cdef str _PLAYER_LEAD = state_key(Kind.PLAYER, "")
cdef str _GAME_LEAD = state_key(Kind.GAME, "")
cdef int128 _FAR_FROM_LIMIT = (<int128> 1) << 119
"""Amounts below it have 15 bytes at most."""

STATE_FIELDS = (
    "tenant", "player_id", "round_id", "segment", "revision", "source", "source_event", "game_id",
    "currency", "counts", "first_event_at", "last_event_at", "last_received_at", "bet_count",
    "win_count", "loss_count", "rollback_bet_count", "rollback_win_count", "bet_amount",
    "bet_bonus_amount", "win_amount", "win_bonus_amount", "rollback_bet_amount",
    "rollback_bet_bonus_amount", "rollback_win_amount", "rollback_win_bonus_amount",
    "largest_win_amount", "first_bet_at",
)
"""The state of a round as :class:`Round` reads and writes it."""

DATUM_FIELDS = (*STATE_FIELDS[:13], STATE_FIELDS[27], *STATE_FIELDS[13:27])
"""The fields of the first run of a ``round`` datum as :class:`Round` writes them."""

cdef int _STATE_FIELDS = len(STATE_FIELDS)
cdef int _STATE_FIELDS_OF_0_1_0 = 27


cdef class Round:
    """The fold of a round's events, see :class:`streams.core.round.Round`."""

    cdef object owner  # what the texts point into
    cdef object batch_texts
    cdef object game_owner
    cdef Text tenant, player_id, round_id, source, source_event, game_id, currency
    cdef int source_index
    cdef int64_t segment, revision
    cdef bint counts
    cdef int64_t first_event_at, last_event_at, last_received_at, first_bet_at
    cdef bint has_first_bet
    cdef int64_t[COUNTS] numbers
    cdef int128[MONEYS] moneys

    def to_state(self):
        """See :data:`streams.core.round.to_state`."""
        cdef Out out
        begin(&out)
        try:
            self.pack(&out)
            return written(&out)
        finally:
            PyMem_Free(out.data)

    cdef int pack(self, Out* out) except -1:
        cdef int i
        pack_array(out, _STATE_FIELDS)
        pack_text(out, self.tenant)
        pack_text(out, self.player_id)
        pack_text(out, self.round_id)
        pack_int(out, self.segment)
        pack_int(out, self.revision)
        pack_text(out, self.source)
        pack_text(out, self.source_event)
        pack_text(out, self.game_id)
        pack_text(out, self.currency)
        pack_bool(out, self.counts)
        pack_int(out, self.first_event_at)
        pack_int(out, self.last_event_at)
        pack_int(out, self.last_received_at)
        for i in range(COUNTS):
            pack_int(out, self.numbers[i])
        for i in range(MONEYS):
            pack_money(out, self.moneys[i])
        if self.has_first_bet:
            return pack_int(out, self.first_bet_at)
        return pack_head(out, 0xC0, 0, 0)

    cdef int encode(self, Out* out) except -1:
        """The first run of the ``round`` datum."""
        cdef int i
        put_text(out, self.tenant)
        put_text(out, self.player_id)
        put_text(out, self.round_id)
        put_long(out, self.segment)
        put_long(out, self.revision)
        put_long(out, self.source_index)
        put_text(out, self.source_event)
        put_text(out, self.game_id)
        put_text(out, self.currency)
        put(out, b"\x01" if self.counts else b"\x00", 1)
        put_long(out, self.first_event_at)
        put_long(out, self.last_event_at)
        put_long(out, self.last_received_at)
        put_long(out, 1 if self.has_first_bet else 0)
        if self.has_first_bet:
            put_long(out, self.first_bet_at)
        for i in range(COUNTS):
            put_long(out, self.numbers[i])
        for i in range(MONEYS):
            put_money(out, self.moneys[i])
        return 0

    cdef bint refuses(self, PlainItem item) noexcept nogil:
        """Whether the item may have to be refused: see :func:`streams.core.round.refusal`."""
        return not (
            _same(item.source_event, self.source_event)
            and _same(item.currency, self.currency)
            and item.amount < _FAR_FROM_LIMIT
            and self.moneys[BET_AMOUNT] < _FAR_FROM_LIMIT
            and self.moneys[WIN_AMOUNT] < _FAR_FROM_LIMIT
            and self.moneys[ROLLBACK_BET_AMOUNT] < _FAR_FROM_LIMIT
            and self.moneys[ROLLBACK_WIN_AMOUNT] < _FAR_FROM_LIMIT
        )

    cdef int fold(self, PlainItem item, bint counts, int64_t received_at) except -1:
        """See :func:`streams.core.round.fold`."""
        if item.occurred_at < self.first_event_at:
            self.first_event_at = item.occurred_at
            self._set_game(item)
        elif item.occurred_at == self.first_event_at and _less(item.game_id, self.game_id):
            self._set_game(item)
        self.last_event_at = max(self.last_event_at, item.occurred_at)
        self.last_received_at = max(self.last_received_at, received_at)
        self.counts = self.counts and counts
        if item.type_code == BET:
            if self.numbers[BETS] == 0:
                self.has_first_bet, self.first_bet_at = True, item.occurred_at
            elif self.has_first_bet:
                self.first_bet_at = min(self.first_bet_at, item.occurred_at)
            self._add(item, BETS, BET_AMOUNT)
        elif item.type_code == WIN:
            self._add(item, WINS, WIN_AMOUNT)
            self.moneys[LARGEST_WIN] = max(self.moneys[LARGEST_WIN], item.amount)
        elif item.type_code == ROLLBACK_BET:
            self._add(item, ROLLBACKS_OF_BETS, ROLLBACK_BET_AMOUNT)
        elif item.type_code == ROLLBACK_WIN:
            self._add(item, ROLLBACKS_OF_WINS, ROLLBACK_WIN_AMOUNT)
        else:
            self.numbers[LOSSES] += 1
        return 0

    cdef void _add(self, PlainItem item, int count, int amount) noexcept:
        """The bonus amount stands after the amount."""
        self.numbers[count] += 1
        self.moneys[amount] += item.amount
        self.moneys[amount + 1] += item.bonus_amount

    cdef void _set_game(self, PlainItem item) noexcept:
        self.game_id = item.game_id
        self.game_owner = item.packed


def of_state(bytes state):
    """The round of :data:`streams.core.round.to_state`; None if one of its amounts is near the limit,
    or if it is in another form than that writes it.
    """
    cdef Reader reader
    cdef Round made = Round.__new__(Round)
    made.owner = state
    reader.at = PyBytes_AS_STRING(state)
    reader.end = reader.at + PyBytes_GET_SIZE(state)
    return made if _read(&reader, made) and reader.at == reader.end else None


cdef bint _read(Reader* reader, Round made) except -1:
    cdef Py_ssize_t size
    cdef int i
    if not read_array(reader, &size) or size not in (_STATE_FIELDS, _STATE_FIELDS_OF_0_1_0):
        return False
    if not (
        read_text(reader, &made.tenant)
        and read_text(reader, &made.player_id)
        and read_text(reader, &made.round_id)
        and read_int(reader, &made.segment)
        and read_int(reader, &made.revision)
        and read_text(reader, &made.source)
        and read_text(reader, &made.source_event)
        and read_text(reader, &made.game_id)
        and read_text(reader, &made.currency)
        and read_bool(reader, &made.counts)
        and read_int(reader, &made.first_event_at)
        and read_int(reader, &made.last_event_at)
        and read_int(reader, &made.last_received_at)
    ):
        return False
    for i in range(COUNTS):
        if not read_int(reader, &made.numbers[i]):
            return False
    for i in range(MONEYS):
        if not read_money(reader, &made.moneys[i]):
            return False
    if size > _STATE_FIELDS_OF_0_1_0 and not read_nil(reader):
        made.has_first_bet = read_int(reader, &made.first_bet_at)
        if not made.has_first_bet:
            return False
    made.source_index = _source_index(made.source)
    return made.source_index >= 0


cdef Round _opened_by(PlainItem item, batch, int64_t segment):
    """See :func:`streams.core.round.opened_by`."""
    cdef Round made = Round.__new__(Round)
    made.owner, made.batch_texts = item.packed, batch
    made.tenant, made.source = _text(batch.tenant), _text(batch.source)
    made.source_index = _source_index(made.source)
    made.player_id, made.round_id = item.player_id, item.round_id
    made.source_event, made.game_id, made.currency = item.source_event, item.game_id, item.currency
    made.segment = segment
    made.counts = batch.counts
    made.first_event_at = made.last_event_at = item.occurred_at
    made.last_received_at = batch.received_at
    return made


cdef Text _text(str text):
    cdef Text made
    made.data = PyUnicode_AsUTF8AndSize(text, &made.size)
    return made


cdef int _source_index(Text source):
    cdef int i
    for i, name in enumerate(SOURCES):
        if _same(source, _text(name)):
            return i
    return -1


cdef inline bint _same(Text one, Text other) noexcept nogil:
    return one.size == other.size and memcmp(one.data, other.data, one.size) == 0


cdef inline bint _less(Text one, Text other) noexcept nogil:
    """The order of UTF-8 is that of the characters."""
    cdef int order = memcmp(one.data, other.data, min(one.size, other.size))
    return order < 0 or (order == 0 and one.size < other.size)


# Items ---------------------------------------------------------------------------------------


cdef class Entry:
    """See ``streams.stages.process._Item``."""

    cdef readonly object group
    cdef readonly object staged
    cdef readonly bytes id_key
    cdef public bytes round_key


def entries(list groups, bytes lead):
    """An entry for each item of the groups. ``lead`` begins the keys of ids."""
    cdef Entry entry
    found = []
    for group in groups:
        for staged in group.staged.items:
            entry = Entry.__new__(Entry)
            entry.group, entry.staged, entry.round_key = group, staged, b""
            if type(staged) is PlainItem:
                entry.id_key = _joined(lead, (<PlainItem> staged).id_hash_run)
            else:
                entry.id_key = lead + staged.id_hash
            found.append(entry)
    return found


cdef bytes _joined(bytes lead, Text run):
    """Both, in one allocation."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(lead)
    cdef bytes made = PyBytes_FromStringAndSize(NULL, size + run.size)
    memcpy(PyBytes_AS_STRING(made), PyBytes_AS_STRING(lead), size)
    memcpy(PyBytes_AS_STRING(made) + size, run.data, run.size)
    return made


def id_keys(list entries):
    """The keys of the ids of all entries that are counted."""
    cdef Entry entry
    return [
        entry.id_key
        for entry in entries
        if type(entry.staged) is PlainItem or not entry.staged.lookup_only
    ]


def fresh(list entries, dict ids):
    """The entries whose id is new, and those that are not counted."""
    cdef Entry entry
    return [
        entry
        for entry in entries
        if ids.get(entry.id_key) is None
        or (type(entry.staged) is not PlainItem and entry.staged.lookup_only)
    ]


def find_round_keys(list entries, bytes lead, in_python):
    """Sets the key of the round of each entry. ``lead`` begins the keys of rounds, and ``in_python`` sets
    the key of an entry that is not plain.
    """
    cdef Entry entry
    cdef PlainItem item
    cdef Out out
    cdef char digest[DIGEST_BYTES_MAX]
    begin(&out)
    try:
        for entry in entries:
            if type(entry.staged) is not PlainItem:
                in_python(entry)
                continue
            item = entry.staged
            out.size = 0
            put_all(&out, entry.group.hash_lead_bytes)
            put_part(&out, item.player_id)
            put_part(&out, item.round_id)
            blake2b(out.data, out.size, digest, _ID_BYTES)
            entry.round_key = _joined(lead, Text(<const char*> digest, _ID_BYTES))
    finally:
        PyMem_Free(out.data)


cdef class Deciding:
    """Decides the items of one call of :func:`streams.stages.process.process` in their order."""

    cdef object in_python
    cdef int64_t segment
    cdef dict ids, window, open_rounds, touched
    cdef list canonical
    cdef object group
    cdef object batch
    cdef bint counts
    cdef int64_t received_at
    cdef bytes head
    cdef Py_ssize_t accepted, duplicates
    cdef Out out

    def __cinit__(self):
        begin(&self.out)

    def __dealloc__(self):
        PyMem_Free(self.out.data)

    def __init__(self, processing, list canonical, in_python):
        """``in_python`` decides an entry that is not decided here."""
        self.ids, self.window = processing.ids, processing.effects.window
        self.open_rounds, self.touched = processing.open_rounds, processing.touched
        self.segment = processing.at.segment
        self.canonical, self.in_python = canonical, in_python

    def run(self, list entries):
        cdef Entry entry
        for entry in entries:
            if type(entry.staged) is not PlainItem or not self._decides(entry, entry.staged):
                self.in_python(entry)
        self._count()

    cdef bint _decides(self, Entry entry, PlainItem item) except -1:
        cdef PyObject* known = PyDict_GetItemWithError(self.ids, entry.id_key)
        cdef Round state
        if entry.group is not self.group:
            self._begin(entry.group)
        if known != NULL and <object> known is not None:
            if not _same_content(<bytes?> <object> known, item.content_hash_run):
                return False
            self.duplicates += 1
            return True
        state = self._round_of(entry, item)
        if state is None or state.refuses(item):
            return False
        state.fold(item, self.counts, self.received_at)
        self._accept(entry, item, state)
        return True

    cdef int _begin(self, group) except -1:
        self._count()
        self.group, self.batch = group, group.batch
        self.counts, self.received_at = self.batch.counts, self.batch.received_at
        self.head = group.head(_KIND)
        return 0

    cdef int _count(self) except -1:
        if self.group is not None:
            self.group.tally["accepted"] += self.accepted
            self.group.tally["duplicate"] += self.duplicates
        self.accepted = self.duplicates = 0
        return 0

    cdef Round _round_of(self, Entry entry, PlainItem item):
        """The state of the item's round; None if it is not one for this module."""
        cdef PyObject* found = PyDict_GetItemWithError(self.open_rounds, entry.round_key)
        if found == NULL:
            return _opened_by(item, self.batch, self.segment)
        if type(<object> found) is Round:
            return <Round> found
        return of_state(to_state(<object> found))

    cdef int _accept(self, Entry entry, PlainItem item, Round state) except -1:
        cdef bytes key = PyBytes_FromStringAndSize(item.key_text.data, item.key_text.size)
        cdef bytes content_hash = item.content_hash
        self.open_rounds[entry.round_key] = state
        self.touched[entry.round_key] = key
        self.ids[entry.id_key] = self.window[entry.id_key] = content_hash
        self.out.size = 0
        put_all(&self.out, self.head)
        put_long(&self.out, item.position)
        put(&self.out, item.content_run.data, item.content_run.size)
        self.canonical.append((key, written(&self.out)))
        self.accepted += 1
        return 0


cdef bint _same_content(bytes known, Text content_hash):
    """See :func:`streams.core.identity.same_content`."""
    cdef Py_ssize_t size = min(PyBytes_GET_SIZE(known), content_hash.size)
    return memcmp(PyBytes_AS_STRING(known), content_hash.data, size) == 0


# Emitting ------------------------------------------------------------------------------------


def emit_rounds(processing, list emitted, bytes frame):
    """Emits the touched rounds, as ``streams.stages.process`` does; False if that must emit them."""
    cdef Round state
    cdef Out out
    cdef list states = [_in_c(processing.open_rounds[key]) for key in processing.touched]
    if None in states:
        return False
    keys = [_PLAYER_LEAD + (<bytes> key).decode() for key in processing.touched.values()]
    players = processing.round_runs(Kind.PLAYER, keys)
    games = processing.round_runs(Kind.GAME, [_game_key(each) for each in states])
    window = processing.effects.window
    begin(&out)
    try:
        for state, (round_key, key), player, game in zip(
            states, processing.touched.items(), players, games
        ):
            state.revision += 1
            out.size = 0
            state.pack(&out)
            window[round_key] = written(&out)
            out.size = 0
            put_all(&out, frame)
            state.encode(&out)
            put_all(&out, player)
            put_all(&out, game)
            emitted.append((_longer(key, state.round_id), written(&out)))
    finally:
        PyMem_Free(out.data)
    return True


cdef object _in_c(state):
    return state if type(state) is Round else of_state(to_state(state))


cdef str _game_key(Round state):
    """See :func:`streams.core.profile.game_key`."""
    if is_plain_in_keys(state.tenant) and is_plain_in_keys(state.game_id):
        return f"{_GAME_LEAD}{str_of(state.tenant)}|{str_of(state.game_id)}"
    return game_key(str_of(state.tenant), str_of(state.game_id))


cdef bytes _longer(bytes key, Text part):
    """See :func:`streams.core.identity.longer_key`."""
    if is_plain_in_keys(part):
        return _joined(key + b"|", part)
    return longer_key(key.decode(), str_of(part)).encode()
