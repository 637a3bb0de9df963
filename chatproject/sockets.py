"""WebSockets as uvicorn speaks them, taken in by pieces: a client that floods one gets its turn like others."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

# What is taken in at a time (bytes): an event loop reads up to some megabytes at once, of the smallest frames 300,000.
PIECE = 2_048
# Of more frames than so many in one piece the next one waits so long (seconds): nobody means that many.
FEW_FRAMES, PAUSE = 16, 0.05
# What came whole before the connection was lost still counts, up to so many bytes.
LAST = 65_536
# Of one message. Those without a byte count for no size.
MOST_FRAGMENTS = 1_000


class SocketProtocol(WebSocketsSansIOProtocol):
    """Goes on with what came once others had their turn, and once the application has taken what came before it.

    ``python -m chatproject`` serves with it; ``uvicorn --ws chatproject.sockets:SocketProtocol`` does, too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting = bytearray()
        self._next: asyncio.Handle | None = None
        self._frames_in_piece = 0

    def data_received(self, data: bytes) -> None:
        if not self.handshake_initiated:
            super().data_received(data)  # the head, which the HTTP protocol has bounded
            return
        self._waiting += data
        if self._next is None and not self.read_paused:
            self._take_piece()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._next is not None:
            self._next.cancel()
        rest, self._waiting = bytes(self._waiting[:LAST]), bytearray()
        if rest and not self.close_sent:
            with suppress(Exception):  # what is odd in it concerns nobody any more
                super().data_received(rest)
        super().connection_lost(exc)

    async def receive(self) -> Any:
        """Return the next message. The one before has been dealt with."""
        message = await super().receive()
        if not self.read_paused:
            self._go_on()
        return message

    async def send(self, message: Any) -> None:
        """Send a message. After a close go on with what waits: the client's own may be in it."""
        await super().send(message)
        if self.close_sent and not self.read_paused:
            self._go_on()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MOST_FRAGMENTS:
            self.frames = []
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def handle_events(self) -> None:
        self._frames_in_piece = len(self.conn.events)
        super().handle_events()

    def _take_piece(self) -> None:
        self._next = None
        piece = bytes(self._waiting[:PIECE])
        del self._waiting[:PIECE]
        try:
            super().data_received(piece)
        except Exception:
            self.transport.abort()  # as event loops do where they call; nobody would read on
            raise
        if not self.read_paused:
            self._go_on()

    def _go_on(self) -> None:
        """Take in the next piece soon, and read no more before; without one read on."""
        if self._next is not None or self.disconnected or self.transport.is_closing():
            return
        if not self._waiting:
            self.transport.resume_reading()
            return
        self.transport.pause_reading()
        self._next = self.loop.call_later(PAUSE if self._frames_in_piece > FEW_FRAMES else 0, self._take_piece)
