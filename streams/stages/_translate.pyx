# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The translation of a plain native bet or win in C: from the fields that were read to a staged item.

What it writes is what ``streams.stages.translate`` writes in Python, its oracle, for version
1 of the contract ``game-transaction``; a property test compares the two.
"""

from cpython.mem cimport PyMem_Free

from streams.core._identity cimport blake2b, is_plain_in_keys, put_part
from streams.formats._native cimport Gameround
from streams.wire._out cimport (
    Out,
    Text,
    begin,
    int128,
    pack_array,
    pack_bool,
    pack_bytes,
    pack_int,
    pack_money,
    pack_text,
    put,
    put_all,
    put_long,
    put_money,
    put_text,
    written,
)

from zlib import crc32

from streams.core.event import Kind
from streams.core.identity import CONTENT_BYTES, ID_BYTES
from streams.wire.contracts import schema

cdef enum:
    ITEM_FIELDS = 8  # of streams.records.staged_chunk.StagedItem
    TRANSACTION_FIELDS = 9  # of streams.core.round.Transaction
    DIGEST_BYTES_MAX = 64

cdef int _GAME_TRANSACTION = Kind.GAME_TRANSACTION
cdef int _ID_BYTES = ID_BYTES
cdef int _CONTENT_BYTES = CONTENT_BYTES
cdef list _TYPES = next(
    field["type"]["symbols"] for field in schema("game-transaction")["fields"] if field["name"] == "type"
)
cdef int _BET = _TYPES.index("bet")
cdef int _WIN = _TYPES.index("win")


cdef class Plain:
    """Stages plain bets and wins of one request."""

    cdef bytes id_lead
    cdef bytes key_lead
    cdef int partitions
    cdef Out content
    cdef Out out

    def __cinit__(self, str id_lead, str key_lead, int partitions):
        """``id_lead`` is what the hashed lists of ids begin with, ``key_lead`` what keys begin with."""
        self.id_lead = id_lead.encode()
        self.key_lead = key_lead.encode()
        self.partitions = partitions
        begin(&self.content)
        begin(&self.out)

    def __dealloc__(self):
        PyMem_Free(self.content.data)
        PyMem_Free(self.out.data)

    def stage(self, list items, Py_ssize_t position, staged):
        """Stages the items from a position on, by partition, until one that is not plain; returns the
        position of that.
        """
        while position < len(items) and isinstance(items[position], Gameround):
            found = self._staged(items[position], position)
            if found is None:
                break
            staged[found[0]].append(found[1])
            position += 1
        return position

    cdef tuple _staged(self, Gameround item, int position):
        """The staged partition and the packed item with the size of its content; None if a character of
        the player's id is escaped in keys.
        """
        cdef char id_hash[DIGEST_BYTES_MAX]
        cdef char content_hash[DIGEST_BYTES_MAX]
        cdef bytes key
        if not is_plain_in_keys(item.player_id_text):
            return None
        self._hash_id(item.unique_id_text, id_hash)
        self._write_content(item)
        blake2b(self.content.data, self.content.size, content_hash, _CONTENT_BYTES)
        key = self._key(item.player_id_text)
        self.out.size = 0
        pack_array(&self.out, ITEM_FIELDS)
        pack_int(&self.out, position)
        pack_int(&self.out, _GAME_TRANSACTION)
        pack_bool(&self.out, False)
        pack_bytes(&self.out, id_hash, _ID_BYTES)
        pack_bytes(&self.out, content_hash, _CONTENT_BYTES)
        pack_text(&self.out, Text(key, len(key)))
        pack_array(&self.out, 1)
        pack_bytes(&self.out, self.content.data, self.content.size)
        pack_array(&self.out, 1)
        self._pack_transaction(item)
        return crc32(key) % self.partitions, (written(&self.out), self.content.size)

    cdef int _hash_id(self, Text unique_id, char* digest) except -1:
        """See :func:`streams.core.identity.hash_after`."""
        self.out.size = 0
        put_all(&self.out, self.id_lead)
        put_part(&self.out, unique_id)
        blake2b(self.out.data, self.out.size, digest, _ID_BYTES)
        return 0

    cdef bytes _key(self, Text player_id):
        self.out.size = 0
        put_all(&self.out, self.key_lead)
        put(&self.out, player_id.data, player_id.size)
        return written(&self.out)

    cdef int _write_content(self, Gameround item) except -1:
        """The fields of the contract ``game-transaction`` after ``position``."""
        cdef Out* content = &self.content
        content.size = 0
        put_text(content, Text(b"gameround", 9))
        put_text(content, item.unique_id_text)
        put_long(content, item.micros)
        put_text(content, item.player_id_text)
        put_text(content, item.round_id_text)
        put_text(content, item.game_id_text)
        put_long(content, _WIN if item.is_win else _BET)
        put_money(content, item.units)
        put_money(content, item.units if item.is_bonus else <int128> 0)
        put_text(content, item.currency_text)
        put_long(content, 0)  # no base_amount
        put_long(content, 0)  # no reporting_currency
        return 0

    cdef int _pack_transaction(self, Gameround item) except -1:
        cdef Out* out = &self.out
        pack_array(out, TRANSACTION_FIELDS)
        pack_text(out, Text(b"gameround", 9))
        pack_int(out, item.micros)
        pack_text(out, Text(b"win", 3) if item.is_win else Text(b"bet", 3))
        pack_text(out, item.player_id_text)
        pack_text(out, item.round_id_text)
        pack_text(out, item.game_id_text)
        pack_text(out, item.currency_text)
        pack_money(out, item.units)
        pack_money(out, item.units if item.is_bonus else <int128> 0)
        return 0
