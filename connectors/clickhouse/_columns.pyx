# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Avro datums to a block in ClickHouse's format Native, in C; see :mod:`connectors.clickhouse.blocks`.

The block has one column a field, of the type that the field has in Avro; ClickHouse converts it to that of
the table. A text is written plainly also for a column that is ``LowCardinality``: dictionaries saved nothing.
"""

from cpython.bytes cimport PyBytes_AsStringAndSize
from cpython.mem cimport PyMem_Free
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memset

from streams.wire._out cimport Out, begin, grow, put, written

cdef enum:
    INT, LONG, BOOLEAN, STRING, ENUM, DECIMAL, STRINGS

cdef enum:
    DECIMAL_BYTES = 16


cdef struct Input:
    const uint8_t* at
    const uint8_t* end


cdef int _not_of_schema() except -1:
    raise ValueError("a datum is not of its schema")


cdef inline int64_t _long(Input* datum) except? -1:
    cdef uint64_t rest = 0
    cdef int shift = 0
    cdef uint8_t byte
    while datum.at < datum.end and shift < 64:
        byte = datum.at[0]
        datum.at += 1
        rest |= <uint64_t> (byte & 127) << shift
        if byte < 128:
            return <int64_t> (rest >> 1) ^ -<int64_t> (rest & 1)
        shift += 7
    return _not_of_schema()


cdef inline Py_ssize_t _size(Input* datum) except -1:
    """The size of the bytes that follow."""
    cdef int64_t size = _long(datum)
    if size < 0 or size > datum.end - datum.at:
        _not_of_schema()
    return size


cdef inline int _put_size(Out* out, uint64_t size) except -1:
    cdef char byte
    while size > 127:
        byte = <char> (size & 127 | 128)
        put(out, &byte, 1)
        size >>= 7
    byte = <char> size
    return put(out, &byte, 1)


cdef inline int _put_bytes(Out* out, bytes data) except -1:
    _put_size(out, len(data))
    return put(out, data, len(data))


cdef inline int _copy_string(Input* datum, Out* out) except -1:
    cdef Py_ssize_t size = _size(datum)
    _put_size(out, size)
    put(out, <const char*> datum.at, size)
    datum.at += size
    return 0


cdef dict _PRIMITIVES = {
    "int": (INT, "Int32", 4),
    "long": (LONG, "Int64", 8),
    "boolean": (BOOLEAN, "Bool", 1),
    "string": (STRING, "String", 1),
}
_TIME = {"type": "long", "logicalType": "timestamp-micros"}
_MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18}


cdef tuple _known(of):
    """Of a type that may not be null: kind, type in ClickHouse, bytes of a zero."""
    if isinstance(of, str) and of in _PRIMITIVES:
        return _PRIMITIVES[of]
    if of == _TIME:
        return LONG, "DateTime64(6, 'UTC')", 8
    if of == _MONEY:
        return DECIMAL, "Decimal(38, 18)", DECIMAL_BYTES
    if isinstance(of, dict) and of["type"] == "enum":
        return ENUM, "String", 1
    if isinstance(of, dict) and (of["type"], of.get("items")) == ("array", "string"):
        return STRINGS, "Array(String)", 0
    raise ValueError(f"type {of} is not supported")


cdef class _Column:
    """The values of a field; ``heads`` has a byte a row that says whether it is null, or the ends of arrays."""

    cdef str name
    cdef str type
    cdef int kind
    cdef bint optional
    cdef list symbols
    cdef Py_ssize_t zero_bytes
    cdef Out heads, values
    cdef uint64_t strings

    def __cinit__(self):
        begin(&self.heads)
        begin(&self.values)

    def __dealloc__(self):
        PyMem_Free(self.heads.data)
        PyMem_Free(self.values.data)

    def __init__(self, field):
        of = field["type"]
        self.name = field["name"]
        self.optional = isinstance(of, list)
        if self.optional:
            if len(of) != 2 or of[0] != "null":
                raise ValueError(f"unions of other types: {of}")
            of = of[1]
        self.kind, self.type, self.zero_bytes = _known(of)
        if self.kind == ENUM:
            self.symbols = [symbol.encode() for symbol in of["symbols"]]
        if self.optional:
            if self.kind == STRINGS:
                raise ValueError("an array that may be null")
            self.type = f"Nullable({self.type})"

    cdef int clear(self) except -1:
        self.heads.size = self.values.size = 0
        self.strings = 0
        return 0

    cdef int add(self, Input* datum) except -1:
        """Reads the field of the next row."""
        cdef char[DECIMAL_BYTES] zeros
        cdef char is_null
        cdef int64_t branch
        if self.optional:
            branch = _long(datum)
            if branch != 0 and branch != 1:
                _not_of_schema()
            is_null = branch == 0
            put(&self.heads, &is_null, 1)
            if is_null:
                memset(zeros, 0, DECIMAL_BYTES)
                return put(&self.values, zeros, self.zero_bytes)
        return self.add_value(datum)

    cdef int add_value(self, Input* datum) except -1:
        cdef int64_t number
        cdef int32_t small
        cdef Py_ssize_t size
        if self.kind == STRING:
            return _copy_string(datum, &self.values)
        if self.kind == LONG:
            number = _long(datum)
            return put(&self.values, <char*> &number, 8)
        if self.kind == DECIMAL:
            return self.add_decimal(datum)
        if self.kind == INT:
            small = <int32_t> _long(datum)
            return put(&self.values, <char*> &small, 4)
        if self.kind == ENUM:
            number = _long(datum)
            if number < 0 or number >= len(self.symbols):
                _not_of_schema()
            return _put_bytes(&self.values, self.symbols[number])
        if self.kind == BOOLEAN:
            if datum.at == datum.end or datum.at[0] > 1:
                _not_of_schema()
            datum.at += 1
            return put(&self.values, <const char*> datum.at - 1, 1)
        return self.add_strings(datum)

    cdef int add_decimal(self, Input* datum) except -1:
        """The highest byte first in Avro, and the lowest first in ClickHouse."""
        cdef Py_ssize_t i, size = _size(datum)
        cdef char* room
        if size < 1 or size > DECIMAL_BYTES:
            _not_of_schema()
        if self.values.size + DECIMAL_BYTES > self.values.room:
            grow(&self.values, DECIMAL_BYTES)
        room = self.values.data + self.values.size
        memset(room, 255 if datum.at[0] & 128 else 0, DECIMAL_BYTES)
        for i in range(size):
            room[i] = <char> datum.at[size - 1 - i]
        self.values.size += DECIMAL_BYTES
        datum.at += size
        return 0

    cdef int add_strings(self, Input* datum) except -1:
        cdef int64_t count = _long(datum)
        while count:
            if count < 0:  # the size of the run follows
                count = -count
                _long(datum)
            while count:
                _copy_string(datum, &self.values)
                self.strings += 1
                count -= 1
            count = _long(datum)
        return put(&self.heads, <char*> &self.strings, 8)

    cdef int write(self, Out* out) except -1:
        _put_bytes(out, self.name.encode())
        _put_bytes(out, self.type.encode())
        put(out, self.heads.data, self.heads.size)
        return put(out, self.values.data, self.values.size)


cdef class Columns:
    """Makes blocks of the datums of one schema. Raises ``ValueError`` if it does not know a type in it."""

    cdef tuple columns

    def __init__(self, schema):
        self.columns = tuple([_Column(field) for field in schema["fields"]])

    def block(self, list datums):
        """The block of ``datums``. Raises ``ValueError`` if one is not of the schema."""
        cdef Input datum
        cdef Out out
        cdef char* data
        cdef Py_ssize_t size
        cdef _Column column
        for column in self.columns:
            column.clear()
        for each in datums:
            PyBytes_AsStringAndSize(each, &data, &size)
            datum.at, datum.end = <const uint8_t*> data, <const uint8_t*> data + size
            for column in self.columns:
                column.add(&datum)
            if datum.at != datum.end:
                _not_of_schema()
        begin(&out)
        try:
            _put_size(&out, len(self.columns))
            _put_size(&out, len(datums))
            for column in self.columns:
                column.write(&out)
            return written(&out)
        finally:
            PyMem_Free(out.data)
