"""What comes back on one request over HTTP/1.1, as in RFC 9112.

httptools (llhttp, Node's parser) takes messages apart, strictly. Here is what a parser does not decide: how much a
server may send, when an answer is whole, and whether its connection may carry another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from .errors import ConnectionClosedError, MalformedAnswerError, NoAnswerError

if TYPE_CHECKING:
    from .connection import Connection

# All that a server may send before the head of its answer is complete, or between two pieces of its body, and how
# many informational responses ("100 Continue", which nobody asked for) may be among it.
MAX_HEAD_BYTES = 65_536
MAX_INFORMATIONAL = 16
# So much of a body waits to be read before the server has to wait.
HIGH_WATER = 65_536


class Answer:
    """What comes back on one request. Whoever reads it releases it, at its end or before.

    ``header`` and ``read`` may be waited for by one task at a time.
    """

    def __init__(self, connection: Connection, *, has_body: bool) -> None:
        self.status = 0
        # As they were sent, names in lower case; those of trailers are not kept.
        self.headers: list[tuple[bytes, bytes]] = []
        self.has_head = False
        # Whether all has come, and whether its connection may carry another answer then.
        self.is_whole = False
        self._has_body = has_body
        self._keeps_alive = False
        self._ends_with_connection = False
        self._connection = connection
        self._parser: Any = HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._size = 0
        self._silent = self._informational = 0
        self._has_begun = False
        self._error: Exception | None = None
        self._waiting: asyncio.Future[None] | None = None
        # Called whenever something has come, for whoever does not wait for it.
        self.on_news: Callable[[], None] | None = None

    # What readers ask ---------------------------------------------------------------------------------------

    @property
    def at_end(self) -> bool:
        """Whether all has been read."""
        return self.is_whole and not self._parts

    @property
    def waits(self) -> bool:
        """Whether something has come that was not read."""
        return bool(self._parts)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come, though what came may not have been read."""
        return self.is_whole or self._error is not None

    def header(self, name: bytes) -> str:
        """Return a header's value, those of several joined with commas; ``""`` without one. ``name``: lower case."""
        return b", ".join([value for key, value in self.headers if key == name]).decode("latin-1")

    async def head(self) -> None:
        """Wait for status and headers. Raises ``ConnectionClosedError`` or ``MalformedAnswerError``."""
        while not self.has_head:
            await self._news()

    async def read(self) -> bytes:
        """Return what is there of the body, at least a byte, or ``b""`` at its end. Raises as ``head`` does, once all
        that came before is read.
        """
        while not self._parts:
            if self.is_whole:
                return b""
            await self._news()
        return self._taken()

    def take(self, most: int) -> bytes | None:
        """Return what is there of the body; None where it is more than ``most``, or ``read`` has to tell its end."""
        if self._size > most or (not self._parts and self.is_over):
            return None
        return self._taken()

    def _taken(self) -> bytes:
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        if self._size > HIGH_WATER:
            self._connection.resume()
        self._size = 0
        return body

    async def _news(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def release(self) -> None:
        """Give the connection back, for another answer if this one was read to its end; else it is closed."""
        self._connection.release(self, reusable=self.at_end and self._keeps_alive and self._error is None)
        self._parser = None  # which holds this answer

    # What the connection brings -----------------------------------------------------------------------------

    def feed(self, data: memoryview | bytes) -> None:
        """Take bytes. What comes after the answer's end is not ours: it spoils the connection, not the answer."""
        size = self._size
        self._has_begun = True
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if self.is_whole:
                self._keeps_alive = False
            else:
                self._fail(MalformedAnswerError(str(error)))
        if self.is_whole or self._size > size:
            self._silent = 0
        else:
            self._silent += len(data)
            if self._silent > MAX_HEAD_BYTES:
                self._fail(MalformedAnswerError("too much beside the body of an answer"))
        if self._size > HIGH_WATER >= size:
            self._connection.pause()
        self._wake()

    def end(self, error: Exception | None) -> None:
        """The connection has ended: so has a body that had no other end, if it did so in order."""
        if error is None and self._error is None and self._ends_with_connection and self.has_head:
            self.is_whole = True
        if not self.is_whole:
            kind = ConnectionClosedError if self._has_begun else NoAnswerError
            self._fail(kind(*(error.args if error else ())))
        self._wake()

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
            self._connection.abort()

    def _wake(self) -> None:
        if self.on_news is not None:
            self.on_news()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # What the parser calls (it passes their errors on as its own) ---------------------------------------------

    def on_message_begin(self) -> None:
        if self.is_whole:
            self._keeps_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.has_head:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self.is_whole:
            return
        self.status = self._parser.get_status_code()
        if 100 <= self.status < 200:
            self._informational += 1
            if self._informational > MAX_INFORMATIONAL:
                raise MalformedAnswerError("too many informational answers")
            self.headers.clear()
            return
        self.has_head = True
        self._ends_with_connection = not (self.header(b"content-length") or self._is_chunked())
        if not self._has_body:
            self.is_whole = True

    def on_body(self, body: bytes) -> None:
        if not self.has_head:
            raise MalformedAnswerError("an informational answer with a body")
        if not self.is_whole:
            self._parts.append(body)
            self._size += len(body)

    def on_message_complete(self) -> None:
        if self.has_head and not self.is_whole:
            self.is_whole = True
            self._keeps_alive = self._parser.should_keep_alive()

    def _is_chunked(self) -> bool:
        return self.header(b"transfer-encoding").lower().rpartition(",")[2].strip() == "chunked"
