"""Reading a request body within its limits, inflating gzip on the way."""

import zlib
from collections.abc import AsyncIterable

from starlette.requests import Request

from connectors.edge.problems import Problem

_GZIP = 31  # zlib's window bits for a gzip wrapper


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The body, at most ``bytes_max`` long after inflating. Raises :class:`Problem`."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > bytes_max:
        raise _too_large(bytes_max)
    if encoding in ("identity", ""):
        return await _collect(request.stream(), bytes_max)
    if encoding in ("gzip", "x-gzip"):
        return await _inflate(request.stream(), bytes_max)
    raise Problem(415, "unsupported_encoding", "Send the body plain or with Content-Encoding: gzip.")


async def _collect(stream: AsyncIterable[bytes], bytes_max: int) -> bytes:
    parts, size = [], 0
    async for part in stream:
        size += len(part)
        if size > bytes_max:
            raise _too_large(bytes_max)
        parts.append(part)
    return b"".join(parts)


async def _inflate(stream: AsyncIterable[bytes], bytes_max: int) -> bytes:
    parts, size = [], 0
    inflater = zlib.decompressobj(_GZIP)
    begun = False
    async for part in stream:
        while part:
            begun = True
            try:
                plain = inflater.decompress(part, bytes_max - size + 1)
            except zlib.error as error:
                raise _bad_gzip(str(error)) from None
            size += len(plain)
            if size > bytes_max:
                raise _too_large(bytes_max)
            parts.append(plain)
            part = inflater.unconsumed_tail
            if inflater.eof:  # a gzip file may be several members, one after another
                part, inflater, begun = inflater.unused_data, zlib.decompressobj(_GZIP), False
    if begun:
        raise _bad_gzip("it ends in the middle")
    return b"".join(parts)


def _too_large(bytes_max: int) -> Problem:
    return Problem(
        413, "body_too_large", f"The body is larger than {bytes_max} bytes. Send less at once."
    )


def _bad_gzip(why: str) -> Problem:
    return Problem(400, "bad_gzip", f"The body is not gzip: {why}.")
