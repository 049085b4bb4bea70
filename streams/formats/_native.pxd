from libc.stdint cimport int64_t

from streams.wire._out cimport Text, int128


cdef class Gameround:
    cdef Py_buffer text
    cdef Text unique_id_text, player_id_text, game_id_text, round_id_text, currency_text
    cdef int64_t micros
    cdef int128 units
    cdef readonly bint is_win, is_bonus
