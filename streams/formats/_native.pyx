# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The reader of native bets and wins in C: from the JSON text of an item to fields that point into it.

It takes only items that are certainly valid and are written plainly: the members of the contract and
no others, each once, text without escapes, amounts without an exponent. The reader in Python, its
oracle, reads every other item (:mod:`streams.formats.bulk_body`); a property test compares the two.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp

from streams.wire._out cimport Text, int128, str_of

from streams.wire.money import ONE

cdef enum:
    ID_BYTES_MAX = 256  # characters, and so a bound for bytes
    DIGITS_MAX = 18  # before the point and after it: 10**18 fits 64 bits
    YEAR_MIN = 1970
    YEAR_MAX = 2199

cdef enum:
    UNIQUE_ID = 1 << 0
    TIMESTAMP = 1 << 1
    PLAYER_ID = 1 << 2
    GAME_ID = 1 << 3
    ROUND_ID = 1 << 4
    AMOUNT = 1 << 5
    CURRENCY = 1 << 6
    IS_WIN = 1 << 7
    IS_BONUS = 1 << 8
    ALL_FIELDS = (1 << 9) - 1

cdef uint64_t[DIGITS_MAX + 1] _TENS
_TENS[0] = 1
cdef int _i
for _i in range(1, DIGITS_MAX + 1):
    _TENS[_i] = 10 * _TENS[_i - 1]

cdef int[13] _DAYS_BEFORE = [0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334]
cdef int[13] _DAYS_OF = [0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]


def gamerounds(item_class, list texts):
    """For each text, an object of ``item_class`` (a subclass of :class:`Gameround`), or None.

    The texts are valid UTF-8, and ``msgspec`` has found each to be one JSON value.
    """
    return [_gameround(item_class, text) for text in texts]


cdef object _gameround(item_class, text):
    cdef Gameround item = item_class.__new__(item_class)
    cdef Scan scan
    PyObject_GetBuffer(text, &item.text, PyBUF_SIMPLE)
    scan.at = <const char*> item.text.buf
    scan.end = scan.at + item.text.len
    return item if _read_item(&scan, item) else None


cdef class Gameround:
    """A valid bet or win, with the fields of :class:`streams.formats.native.Gameround`."""

    def __dealloc__(self):
        PyBuffer_Release(&self.text)

    @property
    def unique_id(self):
        return str_of(self.unique_id_text)

    @property
    def player_id(self):
        return str_of(self.player_id_text)

    @property
    def game_id(self):
        return str_of(self.game_id_text)

    @property
    def round_id(self):
        return str_of(self.round_id_text)

    @property
    def currency(self):
        return str_of(self.currency_text)

    @property
    def timestamp(self):
        return self.micros

    @property
    def amount(self):
        cdef int128 one = <int128> _TENS[DIGITS_MAX]
        whole: object = <uint64_t> (self.units / one)
        return whole * ONE + <uint64_t> (self.units % one)


# Scanning: each function returns whether it has read what it looks for, plainly written -----------

cdef struct Scan:
    const char* at
    const char* end


cdef bint _read_item(Scan* scan, Gameround item) noexcept nogil:
    """``{"event": "gameround", "data": {...}}``, its two members in any order."""
    cdef Text name, event
    cdef bint has_event = False, has_data = False
    if not _token(scan, c'{'):
        return False
    while True:
        if not (_string(scan, &name) and _token(scan, c':')):
            return False
        if not has_event and _is(name, b"event", 5):
            has_event = _string(scan, &event) and _is(event, b"gameround", 9)
            if not has_event:
                return False
        elif not has_data and _is(name, b"data", 4):
            has_data = _read_data(scan, item)
            if not has_data:
                return False
        else:
            return False
        if not _token(scan, c','):
            break
    return has_event and has_data and _token(scan, c'}') and _is_over(scan)


cdef bint _read_data(Scan* scan, Gameround item) noexcept nogil:
    cdef Text name
    cdef int seen = 0, field
    if not _token(scan, c'{'):
        return False
    while True:
        if not (_string(scan, &name) and _token(scan, c':')):
            return False
        field = _read_field(scan, name, item)
        if not field or field & seen:
            return False
        seen |= field
        if not _token(scan, c','):
            break
    return seen == ALL_FIELDS and _token(scan, c'}')


cdef int _read_field(Scan* scan, Text name, Gameround item) noexcept nogil:
    """The bit of the field, or 0."""
    if _is(name, b"unique_id", 9):
        return UNIQUE_ID if _id(scan, &item.unique_id_text) else 0
    if _is(name, b"timestamp", 9):
        return TIMESTAMP if _timestamp(scan, &item.micros) else 0
    if _is(name, b"player_id", 9):
        return PLAYER_ID if _id(scan, &item.player_id_text) else 0
    if _is(name, b"game_id", 7):
        return GAME_ID if _id(scan, &item.game_id_text) else 0
    if _is(name, b"round_id", 8):
        return ROUND_ID if _id(scan, &item.round_id_text) else 0
    if _is(name, b"amount", 6):
        return AMOUNT if _amount(scan, &item.units) else 0
    if _is(name, b"currency", 8):
        return CURRENCY if _currency(scan, &item.currency_text) else 0
    if _is(name, b"is_win", 6):
        return IS_WIN if _boolean(scan, &item.is_win) else 0
    if _is(name, b"is_bonus", 8):
        return IS_BONUS if _boolean(scan, &item.is_bonus) else 0
    return 0


cdef inline bint _is(Text text, const char* word, Py_ssize_t size) noexcept nogil:
    return text.size == size and memcmp(text.data, word, size) == 0


cdef inline void _skip_space(Scan* scan) noexcept nogil:
    while scan.at < scan.end and scan.at[0] in (c' ', c'\t', c'\n', c'\r'):
        scan.at += 1


cdef inline bint _token(Scan* scan, char token) noexcept nogil:
    _skip_space(scan)
    if scan.at == scan.end or scan.at[0] != token:
        return False
    scan.at += 1
    return True


cdef inline bint _is_over(Scan* scan) noexcept nogil:
    _skip_space(scan)
    return scan.at == scan.end


cdef inline bint _string(Scan* scan, Text* text) noexcept nogil:
    """A string without escapes."""
    if not _token(scan, c'"'):
        return False
    text.data = scan.at
    while scan.at < scan.end and scan.at[0] != c'"':
        if scan.at[0] == c'\\' or <unsigned char> scan.at[0] < 32:
            return False
        scan.at += 1
    text.size = scan.at - text.data
    return _token(scan, c'"')


cdef inline bint _id(Scan* scan, Text* text) noexcept nogil:
    return _string(scan, text) and 0 < text.size <= ID_BYTES_MAX


cdef inline bint _currency(Scan* scan, Text* text) noexcept nogil:
    cdef int i
    if not _string(scan, text) or text.size != 3:
        return False
    for i in range(3):
        if not c'A' <= text.data[i] <= c'Z':
            return False
    return True


cdef inline bint _boolean(Scan* scan, bint* value) noexcept nogil:
    _skip_space(scan)
    value[0] = scan.end - scan.at >= 4 and memcmp(scan.at, b"true", 4) == 0
    if value[0]:
        scan.at += 4
        return True
    if scan.end - scan.at < 5 or memcmp(scan.at, b"false", 5) != 0:
        return False
    scan.at += 5
    return True


cdef inline bint _amount(Scan* scan, int128* units) noexcept nogil:
    """A number that is not negative, as units of 10**-18."""
    cdef uint64_t whole = 0, part = 0
    cdef int whole_digits, part_digits = 0
    cdef const char* first
    _skip_space(scan)
    first = scan.at
    whole_digits = _digits(scan, &whole)
    if not 0 < whole_digits <= DIGITS_MAX or (first[0] == c'0' and whole_digits > 1):
        return False
    if scan.at < scan.end and scan.at[0] == c'.':
        scan.at += 1
        part_digits = _digits(scan, &part)
        if not 0 < part_digits <= DIGITS_MAX:
            return False
    units[0] = (<int128> whole) * <int128> _TENS[DIGITS_MAX] + <int128> (
        part * _TENS[DIGITS_MAX - part_digits]
    )
    return scan.at < scan.end and scan.at[0] not in (c'e', c'E')


cdef inline int _digits(Scan* scan, uint64_t* number) noexcept nogil:
    """Reads the digits that follow, and one more than :data:`DIGITS_MAX` at most; returns how many."""
    cdef int count = 0
    while scan.at < scan.end and c'0' <= scan.at[0] <= c'9' and count <= DIGITS_MAX:
        number[0] = 10 * number[0] + <uint64_t> (scan.at[0] - c'0')
        scan.at += 1
        count += 1
    return count


cdef bint _timestamp(Scan* scan, int64_t* micros) noexcept nogil:
    """``2026-01-31T12:00:00``, then perhaps a fraction of 3 or 6 digits, then perhaps Z or +02:00."""
    cdef Text text
    cdef int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, offset_minutes = 0
    cdef int fraction = 0, at = 19
    if not _string(scan, &text) or text.size < 19:
        return False
    if not (
        _number(text, 0, 4, &year) and text.data[4] == c'-' and _number(text, 5, 2, &month)
        and text.data[7] == c'-' and _number(text, 8, 2, &day) and text.data[10] == c'T'
        and _number(text, 11, 2, &hour) and text.data[13] == c':' and _number(text, 14, 2, &minute)
        and text.data[16] == c':' and _number(text, 17, 2, &second)
    ):
        return False
    if not (
        YEAR_MIN <= year <= YEAR_MAX and 1 <= month <= 12 and 1 <= day <= _days_of(year, month)
        and hour < 24 and minute < 60 and second < 60
    ):
        return False
    if text.size > at and text.data[at] == c'.':
        if _number(text, 20, 6, &fraction):
            at = 26
        elif _number(text, 20, 3, &fraction):
            fraction *= 1000
            at = 23
        else:
            return False
    if not _offset(text, at, &offset_minutes):
        return False
    micros[0] = (
        ((_days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset_minutes) * 60 + second
    ) * <int64_t> 1_000_000 + fraction
    return True


cdef inline bint _offset(Text text, int at, int* minutes) noexcept nogil:
    """The rest of a time: nothing, Z, or hours and minutes."""
    cdef int hours = 0
    if text.size == at or (text.size == at + 1 and text.data[at] == c'Z'):
        return True
    if text.size != at + 6 or text.data[at] not in (c'+', c'-') or text.data[at + 3] != c':':
        return False
    if not (_number(text, at + 1, 2, &hours) and _number(text, at + 4, 2, minutes)):
        return False
    if hours > 23 or minutes[0] > 59:
        return False
    minutes[0] += 60 * hours
    if text.data[at] == c'-':
        minutes[0] = -minutes[0]
    return True


cdef inline bint _number(Text text, int at, int digits, int* number) noexcept nogil:
    """Exactly so many digits at a place of a text; at its end or before another digit or not."""
    cdef int i
    number[0] = 0
    if text.size < at + digits:
        return False
    for i in range(at, at + digits):
        if not c'0' <= text.data[i] <= c'9':
            return False
        number[0] = 10 * number[0] + (text.data[i] - c'0')
    return True


cdef inline bint _is_leap(int year) noexcept nogil:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


cdef inline int _days_of(int year, int month) noexcept nogil:
    return _DAYS_OF[month] + (month == 2 and _is_leap(year))


cdef inline int64_t _days_since_1970(int year, int month, int day) noexcept nogil:
    cdef int before = year - 1
    cdef int64_t leap_days = before / 4 - before / 100 + before / 400 - 477  # 477 until 1969
    return (
        365 * <int64_t> (year - 1970) + leap_days + _DAYS_BEFORE[month]
        + (month > 2 and _is_leap(year)) + day - 1
    )
