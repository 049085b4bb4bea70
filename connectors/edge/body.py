"""Reads a request body within its limits, and inflates gzip on the way."""

import asyncio
import zlib
from collections.abc import AsyncIterable

from starlette.requests import ClientDisconnect, Request

from connectors.edge.problems import Problem

_GZIP = 31  # zlib's window bits for a gzip wrapper


RETRY_AFTER_S = 2


class Room:
    """The limit of body bytes that all requests together may hold."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.held = 0
        self.requests = 0

    def share(self) -> "Share":
        """The share of a new request; it is empty."""
        return Share(self)


class Share:
    """The bytes that one request holds; they are released at the end of the ``with`` block."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._bytes = 0

    def take(self, size: int) -> None:
        """Adds ``size`` bytes. Raises :class:`Problem` if the limit would be exceeded."""
        if self._room.held + size > self._room.bytes_max:
            raise Problem(
                503,
                "busy",
                "Too many large requests at once. Post the same batch again.",
                {"Retry-After": str(RETRY_AFTER_S)},
            )
        self._room.held += size
        self._bytes += size

    def __enter__(self) -> "Share":
        self._room.requests += 1
        return self

    def __exit__(self, *raised: object) -> None:
        self._room.requests -= 1
        self._room.held -= self._bytes


async def read_body(request: Request, bytes_max: int, share: Share, timeout_s: float) -> bytes:
    """The body, at most ``bytes_max`` long after inflating. Raises :class:`Problem`."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _read(request, bytes_max, share)
    except TimeoutError:
        raise Problem(
            408, "too_slow", f"The body did not come within {timeout_s:g} s. Nothing is stored."
        ) from None
    except ClientDisconnect:
        raise Problem(400, "incomplete_body", "The connection ended before the body.") from None


async def _read(request: Request, bytes_max: int, share: Share) -> bytes:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > bytes_max:
        raise _too_large(bytes_max)
    if encoding in ("identity", ""):
        return await _collect(request.stream(), bytes_max, share)
    if encoding in ("gzip", "x-gzip"):
        return await _inflate(request.stream(), bytes_max, share)
    raise Problem(415, "unsupported_encoding", "Send the body plain or with Content-Encoding: gzip.")


async def _collect(stream: AsyncIterable[bytes], bytes_max: int, share: Share) -> bytes:
    parts, size = [], 0
    async for part in stream:
        size += len(part)
        if size > bytes_max:
            raise _too_large(bytes_max)
        share.take(len(part))
        parts.append(part)
    return b"".join(parts)


async def _inflate(stream: AsyncIterable[bytes], bytes_max: int, share: Share) -> bytes:
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
            share.take(len(plain))
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
