# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The reader of staged items in C, for items with one transaction: fields that point into the group.

Every other item, and a group in another form than translate writes it, is read in Python
(:mod:`streams.records.staged_chunk`), which is its oracle; a property test compares the two.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.string cimport memcmp

from streams.wire._msgpack cimport (
    DEPTH_MAX,
    Reader,
    read_array,
    read_bool,
    read_bytes,
    read_int,
    read_money,
    read_text,
    skip,
)
from streams.wire._out cimport Text, int128, money_of, MONEY_BYTES_MAX, str_of

from streams.core.event import Kind
from streams.core.identity import CONTENT_BYTES, ID_BYTES
from streams.core.round import Transaction

cdef enum:
    ITEM_FIELDS = 8
    TRANSACTION_FIELDS = 9
    POSITION_MAX = 0x7FFFFFFF

cdef int _GAME_TRANSACTION = Kind.GAME_TRANSACTION
cdef int _ID_BYTES = ID_BYTES
cdef int _CONTENT_BYTES = CONTENT_BYTES
_KIND = Kind.GAME_TRANSACTION


def unpack(bytes packed, read_item):
    """The items of a group, and those among them that ``read_item`` has read from their bytes; None if
    this is no array of MessagePack.
    """
    cdef Reader reader
    cdef Py_ssize_t size, i
    cdef const char* start
    cdef PlainItem item
    items, others = [], []
    reader.at = PyBytes_AS_STRING(packed)
    reader.end = reader.at + PyBytes_GET_SIZE(packed)
    if not read_array(&reader, &size):
        return None
    for i in range(size):
        start = reader.at
        item = PlainItem.__new__(PlainItem)
        item.packed = packed
        if _read(&reader, item) and _is_text(item):
            items.append(item)
            continue
        reader.at = start
        if not skip(&reader, DEPTH_MAX):
            return None
        other = read_item(PyBytes_FromStringAndSize(start, reader.at - start))
        others.append(other)
        items.append(other)
    return (items, others) if reader.at == reader.end else None


cdef bint _read(Reader* reader, PlainItem item) noexcept nogil:
    cdef Py_ssize_t size
    cdef int64_t number
    cdef bint flag
    if not (read_array(reader, &size) and size == ITEM_FIELDS and read_int(reader, &number)):
        return False
    if not 0 <= number <= POSITION_MAX:
        return False
    item.position = <int> number
    if not (read_int(reader, &number) and number == _GAME_TRANSACTION):
        return False
    if not (read_bool(reader, &flag) and not flag):
        return False
    if not (read_bytes(reader, &item.id_hash_run) and item.id_hash_run.size == _ID_BYTES):
        return False
    if not (read_bytes(reader, &item.content_hash_run) and item.content_hash_run.size >= _CONTENT_BYTES):
        return False
    return (
        read_text(reader, &item.key_text)
        and read_array(reader, &size) and size == 1 and read_bytes(reader, &item.content_run)
        and read_array(reader, &size) and size == 1 and _read_transaction(reader, item)
    )


cdef bint _read_transaction(Reader* reader, PlainItem item) noexcept nogil:
    cdef Py_ssize_t size
    if not (
        read_array(reader, &size) and size == TRANSACTION_FIELDS
        and read_text(reader, &item.source_event)
        and read_int(reader, &item.occurred_at)
        and read_text(reader, &item.type_text)
        and read_text(reader, &item.player_id)
        and read_text(reader, &item.round_id)
        and read_text(reader, &item.game_id)
        and read_text(reader, &item.currency)
        and read_money(reader, &item.amount)
        and read_money(reader, &item.bonus_amount)
    ):
        return False
    item.type_code = _type_of(item.type_text)
    return item.type_code != UNKNOWN


cdef TransactionType _type_of(Text text) noexcept nogil:
    if text.size == 3:
        if memcmp(text.data, b"bet", 3) == 0:
            return BET
        if memcmp(text.data, b"win", 3) == 0:
            return WIN
    if text.size == 4 and memcmp(text.data, b"loss", 4) == 0:
        return LOSS
    if text.size == 12:
        if memcmp(text.data, b"rollback_bet", 12) == 0:
            return ROLLBACK_BET
        if memcmp(text.data, b"rollback_win", 12) == 0:
            return ROLLBACK_WIN
    return UNKNOWN


cdef bint _is_text(PlainItem item) except -1:
    """Whether all texts are UTF-8."""
    cdef Text texts[6]
    cdef int i
    texts[0], texts[1], texts[2] = item.key_text, item.source_event, item.player_id
    texts[3], texts[4], texts[5] = item.round_id, item.game_id, item.currency
    for i in range(6):
        if not _is_ascii(texts[i]):
            try:
                str_of(texts[i])
            except UnicodeDecodeError:
                return False
    return True


cdef bint _is_ascii(Text text) noexcept nogil:
    cdef Py_ssize_t i
    cdef char bits = 0
    for i in range(text.size):
        bits |= text.data[i]
    return not bits & 0x80


cdef bytes _bytes(Text run):
    return PyBytes_FromStringAndSize(run.data, run.size)


cdef bytes _money(int128 units):
    cdef char room[MONEY_BYTES_MAX + 1]
    return PyBytes_FromStringAndSize(room, money_of(units, room))


cdef class PlainItem:
    """An item with the fields of :class:`streams.records.staged_chunk.StagedItem`."""

    kind = _KIND
    lookup_only = False

    @property
    def id_hash(self):
        return _bytes(self.id_hash_run)

    @property
    def content_hash(self):
        return _bytes(self.content_hash_run)

    @property
    def key(self):
        return str_of(self.key_text)

    @property
    def contents(self):
        return [_bytes(self.content_run)]

    @property
    def transactions(self):
        return [
            Transaction(
                str_of(self.source_event),
                self.occurred_at,
                str_of(self.type_text),
                str_of(self.player_id),
                str_of(self.round_id),
                str_of(self.game_id),
                str_of(self.currency),
                _money(self.amount),
                _money(self.bonus_amount),
            )
        ]
