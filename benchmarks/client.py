"""The load: HTTP/1.1 on raw asyncio protocols. It reads no more of an answer than the figures need."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any

from .upstream import now

LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
STAMP = re.compile(rb"@([0-9]{10})")
LAST_CHUNK = b"0\r\n\r\n"


class Answer:
    """What came of one request. ``first_at`` and ``ended_at`` are on the clock of ``now``."""

    def __init__(self) -> None:
        self.status = 0
        self.head = b""
        self.body = b""
        self.sent_at = 0
        self.first_at = 0
        self.ended_at = 0
        self._missing: int | None = None

    def feed(self, data: bytes) -> bool:
        """Take bytes in; whether the answer is complete."""
        if not self.status:
            self.head += data
            head, separator, data = self.head.partition(b"\r\n\r\n")
            if not separator:
                return False
            self.head = head
            self.status = int(head[9:12])
            if length := LENGTH.search(head):
                self._missing = int(length[1])
        self.read(data)
        if self._missing is not None:
            self._missing -= len(data)
            complete = self._missing <= 0
        else:
            complete = self.body.endswith(LAST_CHUNK)
        if complete:
            self.ended_at = now()
        return complete

    def read(self, data: bytes) -> None:
        """Take a part of the body in."""
        self.body += data


class Stream(Answer):
    """An SSE answer: counts its chunks and events, and keeps no text.

    ``delays``, where it is given, gets how long each chunk took since it left the model (microseconds).
    """

    def __init__(self, delays: list[int] | None = None) -> None:
        super().__init__()
        self.chunks = 0
        self.events = 0
        self.begun = asyncio.Event()
        self._delays = delays

    def read(self, data: bytes) -> None:
        """``body`` holds what follows the last complete event."""
        data = self.body + data
        end = data.rfind(b"\n\n") + 2
        if end == 1:
            self.body = data
            return
        self.body = data[end:]
        events = data[:end]
        if chunks := events.count(b"@"):
            number = sum(b"@" in event for event in events.split(b"\n\n")) if chunks > 1 else 1
            self.count(events, chunks, events=number)

    def count(self, data: bytes, chunks: int, *, events: int) -> None:
        """Note that ``data`` came now, in which there are so many chunks and events."""
        moment = now()
        if not self.first_at:
            self.first_at = moment
            self.begun.set()
        self.chunks += chunks
        self.events += events
        if self._delays is not None:
            self._delays += [moment - int(stamp) for stamp in STAMP.findall(data)]


class Connection(asyncio.Protocol):
    """One kept connection. It takes one request at a time, and connects again when the server closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._done: asyncio.Future[None]

    async def ask(self, request: bytes, answer: Answer) -> None:
        """Send a request; return when ``answer`` is complete. Raises ``ConnectionError`` where it is cut."""
        if self._transport is None:
            await self.open()
        await self._exchange(request, answer)

    async def open(self) -> None:
        """Connect."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", self._port)

    async def _exchange(self, request: bytes, answer: Answer) -> None:
        if self._transport is None:
            raise ConnectionResetError("the server closed the connection before it was asked")
        self._answer = answer
        self._done = asyncio.get_running_loop().create_future()
        answer.sent_at = now()
        self._transport.write(request)
        await self._done

    def close(self) -> None:
        if self._transport:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._answer and self._answer.feed(data):
            self._answer = None
            if not self._done.done():
                self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer and not self._done.done():
            self._done.set_exception(ConnectionResetError("the server closed the connection in an answer"))
        self._answer = None


def request(method: str, path: str, headers: Mapping[str, str], body: Any = None) -> bytes:
    """Return the bytes of a request."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = {"Host": "127.0.0.1", **headers}
    if body is not None:
        lines |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content
