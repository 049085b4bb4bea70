from libc.stdint cimport int64_t

from streams.wire._out cimport Text, int128

cdef enum TransactionType:
    BET, WIN, LOSS, ROLLBACK_BET, ROLLBACK_WIN, UNKNOWN


cdef class PlainItem:
    cdef bytes packed  # the fields point into it
    cdef readonly int position
    cdef Text id_hash_run, content_hash_run, key_text, content_run
    # its transaction
    cdef TransactionType type_code
    cdef Text source_event, type_text, player_id, round_id, game_id, currency
    cdef int64_t occurred_at
    cdef int128 amount, bonus_amount
