# A growing buffer that the modules in C write to, and the primitives of Avro and MessagePack in it.

from cpython.bytes cimport PyBytes_AsStringAndSize, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    object PyUnicode_DecodeUTF8(const char* data, Py_ssize_t size, const char* errors)

cdef extern from *:
    """
    typedef __int128 int128;
    """
    ctypedef long long int128  # wider than Cython believes: it must not become a Python object

cdef enum:
    FIRST_ROOM = 512
    LONGEST_VARINT = 10
    MONEY_BYTES_MAX = 16


cdef struct Out:
    char* data
    Py_ssize_t size
    Py_ssize_t room


cdef struct Text:
    # UTF-8 that some object holds
    const char* data
    Py_ssize_t size


cdef inline str str_of(Text text):
    return PyUnicode_DecodeUTF8(text.data, text.size, NULL)


cdef inline int begin(Out* out) except -1:
    """Makes room; whoever begins frees ``data``."""
    out.size, out.room = 0, FIRST_ROOM
    out.data = <char*> PyMem_Malloc(out.room)
    if out.data == NULL:
        raise MemoryError
    return 0


cdef inline int grow(Out* out, Py_ssize_t more) except -1:
    cdef Py_ssize_t room = 2 * out.room + more
    cdef char* data = <char*> PyMem_Realloc(out.data, room)
    if data == NULL:
        raise MemoryError
    out.data, out.room = data, room
    return 0


cdef inline bytes written(Out* out):
    """What was written."""
    return PyBytes_FromStringAndSize(out.data, out.size)


cdef inline int put(Out* out, const char* data, Py_ssize_t size) except -1:
    if out.size + size > out.room:
        grow(out, size)
    memcpy(out.data + out.size, data, size)
    out.size += size
    return 0


cdef inline int put_all(Out* out, object value) except -1:
    cdef Py_ssize_t size
    cdef char* data
    PyBytes_AsStringAndSize(value, &data, &size)
    return put(out, data, size)


# Avro ----------------------------------------------------------------------------------------


cdef inline int put_long(Out* out, int64_t number) except -1:
    """Zigzag, then seven bits a byte, the lowest first."""
    cdef uint64_t rest = (<uint64_t> number << 1) ^ <uint64_t> (number >> 63)
    if out.size + LONGEST_VARINT > out.room:
        grow(out, LONGEST_VARINT)
    while rest > 127:
        out.data[out.size] = <char> (rest & 127 | 128)
        out.size += 1
        rest >>= 7
    out.data[out.size] = <char> rest
    out.size += 1
    return 0


cdef inline int put_string(Out* out, object text) except -1:
    cdef Py_ssize_t size
    cdef const char* data = PyUnicode_AsUTF8AndSize(text, &size)
    put_long(out, size)
    return put(out, data, size)


cdef inline int put_bytes(Out* out, object value) except -1:
    put_long(out, len(<bytes?> value))
    return put_all(out, value)


cdef inline int put_text(Out* out, Text text) except -1:
    put_long(out, text.size)
    return put(out, text.data, text.size)


cdef inline int money_of(int128 units, char* room) noexcept:
    """Writes units as :func:`streams.wire.money.to_bytes` does; returns how many bytes."""
    cdef int128 rest = units if units >= 0 else -units
    cdef int size = 1, i
    while rest > 127:  # eight bits a byte, and one for the sign
        rest >>= 8
        size += 1
    for i in range(size):
        room[i] = <char> ((units >> (8 * (size - 1 - i))) & 255)
    return size


cdef inline int put_money(Out* out, int128 units) except -1:
    cdef char room[MONEY_BYTES_MAX + 1]
    cdef int size = money_of(units, room)
    put_long(out, size)
    return put(out, room, size)


# MessagePack ---------------------------------------------------------------------------------


cdef inline int pack_head(Out* out, uint8_t first, uint64_t number, int size) except -1:
    """A first byte, and ``number`` in so many bytes after it, the highest first."""
    cdef char room[9]
    cdef int i
    room[0] = <char> first
    for i in range(size):
        room[1 + i] = <char> (number >> (8 * (size - 1 - i)) & 255)
    return put(out, room, 1 + size)


cdef inline int pack_int(Out* out, int64_t number) except -1:
    if number >= 0:
        if number < 128:
            return pack_head(out, <uint8_t> number, 0, 0)
        if number < 1 << 8:
            return pack_head(out, 0xCC, number, 1)
        if number < 1 << 16:
            return pack_head(out, 0xCD, number, 2)
        if number < <int64_t> 1 << 32:
            return pack_head(out, 0xCE, number, 4)
        return pack_head(out, 0xCF, number, 8)
    if number >= -32:
        return pack_head(out, <uint8_t> (256 + number), 0, 0)
    if number >= -(1 << 7):
        return pack_head(out, 0xD0, number, 1)
    if number >= -(1 << 15):
        return pack_head(out, 0xD1, number, 2)
    if number >= -(<int64_t> 1 << 31):
        return pack_head(out, 0xD2, number, 4)
    return pack_head(out, 0xD3, number, 8)


cdef inline int pack_bool(Out* out, bint value) except -1:
    return pack_head(out, 0xC3 if value else 0xC2, 0, 0)


cdef inline int pack_text(Out* out, Text text) except -1:
    if text.size < 32:
        pack_head(out, <uint8_t> (0xA0 | text.size), 0, 0)
    elif text.size < 1 << 8:
        pack_head(out, 0xD9, text.size, 1)
    elif text.size < 1 << 16:
        pack_head(out, 0xDA, text.size, 2)
    else:
        pack_head(out, 0xDB, text.size, 4)
    return put(out, text.data, text.size)


cdef inline int pack_bytes(Out* out, const char* data, Py_ssize_t size) except -1:
    if size < 1 << 8:
        pack_head(out, 0xC4, size, 1)
    elif size < 1 << 16:
        pack_head(out, 0xC5, size, 2)
    else:
        pack_head(out, 0xC6, size, 4)
    return put(out, data, size)


cdef inline int pack_money(Out* out, int128 units) except -1:
    cdef char room[MONEY_BYTES_MAX + 1]
    return pack_bytes(out, room, money_of(units, room))


cdef inline int pack_array(Out* out, Py_ssize_t size) except -1:
    if size < 16:
        return pack_head(out, <uint8_t> (0x90 | size), 0, 0)
    if size < 1 << 16:
        return pack_head(out, 0xDC, size, 2)
    return pack_head(out, 0xDD, size, 4)
