"""Server-sent events: what a page shows, sent again when it changes.

Each event replaces the one before it under the same key, and only the newest of each key is kept. A
reader is a number: the last event that it was sent. A slow one skips what was replaced meanwhile, and
costs no memory; one that comes back with ``Last-Event-ID`` gets what has changed since. A reader has no
thread.

Not ``sse-starlette``: it changes uvicorn's ``Server`` when it is imported, and polls for the end.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import msgspec

HEARTBEAT_S = 15.0
READERS_MAX = 500


class Stream:
    """The newest events, and those who read them. All methods are called in one event loop."""

    def __init__(self, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._heartbeat_s = heartbeat_s
        self._life = secrets.token_hex(4)
        """Ids of another process say nothing here."""
        self._number = 0
        self._newest: dict[str, tuple[int, str, bytes]] = {}
        self._changed = asyncio.Event()
        self._closed = False
        self.readers = 0

    def publish(self, key: str, event: str, value: Any) -> None:
        """Replaces the event of a key, unless it says the same. ``value`` is written as JSON."""
        data = msgspec.json.encode(value)
        if key in self._newest and self._newest[key][1:] == (event, data):
            return
        self._number += 1
        self._newest[key] = self._number, event, data
        self._wake()

    def forget(self, key: str) -> None:
        """Drops the event of a key."""
        self._newest.pop(key, None)

    def close(self) -> None:
        """Ends the answers to all readers."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def events(self, last_event_id: str | None) -> AsyncIterator[bytes]:
        """The bytes of an answer: what has changed since an event, and then each change."""
        life, _, number = (last_event_id or "").partition("-")
        sent = int(number) if life == self._life and number.isdecimal() else 0
        self.readers += 1
        try:
            yield b"retry: 2000\n\n"
            while not self._closed:
                changed = self._changed
                for number_of, event, data in sorted(self._newest.values()):
                    if number_of > sent:
                        sent = number_of
                        head = f"id: {self._life}-{number_of}\nevent: {event}\ndata: "
                        yield head.encode() + data + b"\n\n"
                if changed is not self._changed:
                    continue
                try:
                    await asyncio.wait_for(changed.wait(), self._heartbeat_s)
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self.readers -= 1
