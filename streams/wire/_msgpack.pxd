# Reads MessagePack. Each function returns whether it has read what it looks for; then the reader stands
# after it.

from libc.stdint cimport int64_t, uint8_t, uint64_t

from streams.wire._out cimport Text, int128

cdef enum:
    DEPTH_MAX = 8  # of arrays within each other


cdef struct Reader:
    const char* at
    const char* end


cdef inline bint read_number(Reader* reader, int size, uint64_t* number) noexcept nogil:
    """So many bytes, the highest first."""
    cdef int i
    if reader.end - reader.at < size:
        return False
    number[0] = 0
    for i in range(size):
        number[0] = number[0] << 8 | <uint8_t> reader.at[i]
    reader.at += size
    return True


cdef inline bint read_first(Reader* reader, uint8_t* first) noexcept nogil:
    if reader.at == reader.end:
        return False
    first[0] = <uint8_t> reader.at[0]
    reader.at += 1
    return True


cdef inline bint read_int(Reader* reader, int64_t* value) noexcept nogil:
    """An integer that fits 64 bits with its sign."""
    cdef uint8_t first
    cdef uint64_t number = 0
    cdef int bits
    if not read_first(reader, &first):
        return False
    if first < 0x80 or first >= 0xE0:
        value[0] = first if first < 0x80 else <int64_t> first - 256
        return True
    if 0xCC <= first <= 0xCF:
        if not read_number(reader, 1 << (first - 0xCC), &number) or number >> 63:
            return False
        value[0] = <int64_t> number
        return True
    if 0xD0 <= first <= 0xD3:
        if not read_number(reader, 1 << (first - 0xD0), &number):
            return False
        bits = 64 - (8 << (first - 0xD0))
        value[0] = <int64_t> (number << bits) >> bits
        return True
    return False


cdef inline bint read_bool(Reader* reader, bint* value) noexcept nogil:
    cdef uint8_t first
    if not read_first(reader, &first) or first not in (0xC2, 0xC3):
        return False
    value[0] = first == 0xC3
    return True


cdef inline bint read_nil(Reader* reader) noexcept nogil:
    if reader.at == reader.end or <uint8_t> reader.at[0] != 0xC0:
        return False
    reader.at += 1
    return True


cdef inline bint read_run(Reader* reader, uint64_t size, Text* run) noexcept nogil:
    if <uint64_t> (reader.end - reader.at) < size:
        return False
    run.data, run.size = reader.at, size
    reader.at += size
    return True


cdef inline bint read_text(Reader* reader, Text* text) noexcept nogil:
    """Text, whose UTF-8 is not checked."""
    cdef uint8_t first
    cdef uint64_t size = 0
    if not read_first(reader, &first):
        return False
    if 0xA0 <= first < 0xC0:
        return read_run(reader, first & 31, text)
    if not 0xD9 <= first <= 0xDB or not read_number(reader, 1 << (first - 0xD9), &size):
        return False
    return read_run(reader, size, text)


cdef inline bint read_bytes(Reader* reader, Text* run) noexcept nogil:
    cdef uint8_t first
    cdef uint64_t size = 0
    if not read_first(reader, &first) or not 0xC4 <= first <= 0xC6:
        return False
    return read_number(reader, 1 << (first - 0xC4), &size) and read_run(reader, size, run)


cdef inline bint read_array(Reader* reader, Py_ssize_t* size) noexcept nogil:
    cdef uint8_t first
    cdef uint64_t number = 0
    if not read_first(reader, &first):
        return False
    if 0x90 <= first < 0xA0:
        size[0] = first & 15
        return True
    if not 0xDC <= first <= 0xDD or not read_number(reader, 2 << (first - 0xDC), &number):
        return False
    size[0] = number
    return True


cdef inline bint read_money(Reader* reader, int128* units) noexcept nogil:
    """An amount as :func:`streams.wire.money.to_bytes` writes it, of 15 bytes at most and not negative:
    a sum of a hundred such amounts does not overflow.
    """
    cdef Text run
    cdef Py_ssize_t i
    if not read_bytes(reader, &run) or not 0 < run.size < 16 or <uint8_t> run.data[0] > 127:
        return False
    if run.size > 1 and run.data[0] == 0 and <uint8_t> run.data[1] < 128:
        return False  # longer than need be
    units[0] = 0
    for i in range(run.size):
        units[0] = units[0] << 8 | <uint8_t> run.data[i]
    return True


cdef inline bint skip(Reader* reader, int depth) noexcept nogil:
    """Anything that Roundhouse writes."""
    cdef int64_t number
    cdef bint flag
    cdef Text run
    cdef Py_ssize_t size, i
    cdef const char* start = reader.at
    if read_nil(reader) or read_bool(reader, &flag):
        return True
    reader.at = start
    if read_int(reader, &number):
        return True
    reader.at = start
    if read_text(reader, &run):
        return True
    reader.at = start
    if read_bytes(reader, &run):
        return True
    reader.at = start
    if depth == 0 or not read_array(reader, &size):
        return False
    for i in range(size):
        if not skip(reader, depth - 1):
            return False
    return True
