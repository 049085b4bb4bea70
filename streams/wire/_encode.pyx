# cython: language_level=3, boundscheck=False, wraparound=False
"""The encoder of :mod:`streams.wire.avro_encoder` in C: a schema as a tree of values that write themselves.

The contract is that module's, and so are the tests. A value that is not of its type raises
``TypeError`` or ``OverflowError``, a field or symbol that is not there ``KeyError`` or
``AttributeError``.
"""

from cpython.bytes cimport PyBytes_AsStringAndSize, PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_GetItemWithError
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject, PyObject_GetAttr
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef enum:
    LONG, STRING, BYTES, BOOLEAN, ENUM, ARRAY, MAP, RECORD

cdef dict _KINDS = {
    "int": LONG,
    "long": LONG,
    "string": STRING,
    "bytes": BYTES,
    "boolean": BOOLEAN,
    "enum": ENUM,
    "array": ARRAY,
    "map": MAP,
    "record": RECORD,
}

cdef enum:
    FIRST_ROOM = 512
    LONGEST_VARINT = 10


def encoder(schema, *, attributes=None):
    """See :func:`streams.wire.avro_encoder.encoder`."""
    return _value(schema, attributes).encode


cdef _Value _value(schema, attributes):
    cdef _Value made
    if isinstance(schema, list):
        if len(schema) != 2 or schema[0] != "null":
            raise ValueError(f"only unions of null and one other type are supported: {schema}")
        made = _value(schema[1], None)
        made.optional = True
        return made
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind not in _KINDS:
        raise ValueError(f"type {kind} is not supported")
    made = _Value()
    made.kind = _KINDS[kind]
    made.of_attributes = attributes is not None
    if made.kind == ENUM:
        made.symbols = {symbol: i for i, symbol in enumerate(schema["symbols"])}
    elif made.kind == ARRAY:
        made.inner = _value(schema["items"], None)
    elif made.kind == MAP:
        made.inner = _value(schema["values"], None)
    elif made.kind == RECORD:
        made.names = tuple([
            field["name"] if attributes is None or field["name"] in attributes else None
            for field in schema["fields"]
        ])
        made.fields = tuple([_value(field["type"], None) for field in schema["fields"]])
        made.defaults = tuple([
            (<_Value> value).encode(field["default"]) if "default" in field else None
            for field, value in zip(schema["fields"], made.fields)
        ])
    return made


cdef struct Out:
    char* data
    Py_ssize_t size
    Py_ssize_t room


cdef class _Value:
    """How values of one type are written.

    ``of_attributes``: a record's fields are an object's attributes, and a name is None where it has none.
    ``defaults``: what is written for a field that a record leaves out. ``optional``: a union with null.
    """

    cdef int kind
    cdef bint optional
    cdef bint of_attributes
    cdef dict symbols
    cdef _Value inner
    cdef tuple names
    cdef tuple fields
    cdef tuple defaults

    def encode(self, record):
        """The datum of ``record``."""
        cdef Out out
        begin(&out)
        try:
            self.write(&out, record)
            return PyBytes_FromStringAndSize(out.data, out.size)
        finally:
            PyMem_Free(out.data)

    cdef int write(self, Out* out, object value) except -1:
        if self.optional:
            if value is None:
                return put(out, b"\x00", 1)
            put(out, b"\x02", 1)
        if self.kind == STRING:
            return put_string(out, value)
        if self.kind == LONG:
            return put_long(out, value)
        if self.kind == BYTES:
            return put_bytes(out, value)
        if self.kind == BOOLEAN:
            return put(out, b"\x01" if value else b"\x00", 1)
        if self.kind == ENUM:
            return put_long(out, self.symbols[value])
        if self.kind == RECORD:
            return self.write_fields(out, value)
        if value:
            put_long(out, len(value))
            if self.kind == ARRAY:
                for entry in value:
                    self.inner.write(out, entry)
            else:
                for key, entry in (<dict?> value).items():
                    put_string(out, key)
                    self.inner.write(out, entry)
        return put(out, b"\x00", 1)

    cdef int write_fields(self, Out* out, object record) except -1:
        cdef Py_ssize_t i
        cdef PyObject* found
        if self.of_attributes:
            for i in range(len(self.names)):
                if self.names[i] is None:
                    put_all(out, self.defaults[i])
                else:
                    (<_Value> self.fields[i]).write(out, PyObject_GetAttr(record, self.names[i]))
            return 0
        for i in range(len(self.names)):
            found = PyDict_GetItemWithError(<dict?> record, self.names[i])
            if found != NULL:
                (<_Value> self.fields[i]).write(out, <object> found)
            elif self.defaults[i] is not None:
                put_all(out, self.defaults[i])
            else:
                raise KeyError(self.names[i])
        return 0


cdef inline int begin(Out* out) except -1:
    """Makes room; whoever begins frees ``data``."""
    out.size, out.room = 0, FIRST_ROOM
    out.data = <char*> PyMem_Malloc(out.room)
    if out.data == NULL:
        raise MemoryError
    return 0


cdef inline int put(Out* out, const char* data, Py_ssize_t size) except -1:
    if out.size + size > out.room:
        grow(out, size)
    memcpy(out.data + out.size, data, size)
    out.size += size
    return 0


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


cdef int grow(Out* out, Py_ssize_t more) except -1:
    cdef Py_ssize_t room = 2 * out.room + more
    cdef char* data = <char*> PyMem_Realloc(out.data, room)
    if data == NULL:
        raise MemoryError
    out.data, out.room = data, room
    return 0


def joined(bytes head, int64_t number, list tails):
    """See :func:`streams.wire.avro_encoder.joined`."""
    cdef Out out
    cdef list made = []
    cdef Py_ssize_t lead
    begin(&out)
    try:
        put_all(&out, head)
        put_long(&out, number)
        lead = out.size
        for tail in tails:
            out.size = lead
            put_all(&out, tail)
            made.append(PyBytes_FromStringAndSize(out.data, out.size))
        return made
    finally:
        PyMem_Free(out.data)


cdef inline int put_all(Out* out, object value) except -1:
    cdef Py_ssize_t size
    cdef char* data
    PyBytes_AsStringAndSize(value, &data, &size)
    return put(out, data, size)
