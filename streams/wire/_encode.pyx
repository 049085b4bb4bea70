# cython: language_level=3, boundscheck=False, wraparound=False
"""The encoder of :mod:`streams.wire.avro_encoder` in C: a schema as a tree of values that write themselves.

The contract is that module's, and so are the tests. A value that is not of its type raises
``TypeError`` or ``OverflowError``, a field or symbol that is not there ``KeyError`` or
``AttributeError``.
"""

from cpython.dict cimport PyDict_GetItemWithError
from cpython.mem cimport PyMem_Free
from cpython.object cimport PyObject, PyObject_GetAttr
from libc.stdint cimport int64_t

from streams.wire._out cimport Out, begin, put, put_all, put_bytes, put_long, put_string, written

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
            return written(&out)
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


def joined(bytes head, int64_t number, list tails):
    """See :func:`streams.wire.avro_encoder.joined`."""
    cdef Out out
    cdef list datums = []
    cdef Py_ssize_t lead
    begin(&out)
    try:
        put_all(&out, head)
        put_long(&out, number)
        lead = out.size
        for tail in tails:
            out.size = lead
            put_all(&out, tail)
            datums.append(written(&out))
        return datums
    finally:
        PyMem_Free(out.data)
