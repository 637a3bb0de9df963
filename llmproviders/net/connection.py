"""One connection to a model's server, which carries one answer after the other."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from typing import Any, cast

from .dial import Origin
from .exchange import Answer

# So much is taken from a socket at a time, where that is not TLS.
BUFFER_BYTES = 16_384
# Of a request that is larger some may not be sent yet when its answer refuses it: beneath TLS nobody can ask.
SENT_AT_ONCE = 16_384


class Connection(asyncio.BaseProtocol):
    """Carries one answer after the other: calls ``on_free`` when it may carry the next, ``on_close`` at its end."""

    def __init__(
        self,
        origin: Origin,
        *,
        on_free: Callable[[Connection], None],
        on_close: Callable[[Connection], None],
    ) -> None:
        self.origin = origin
        self._on_free = on_free
        self._on_close = on_close
        self._answer: Answer | None = None
        self._transport: asyncio.Transport | None = None
        self._is_large = False
        # The loop's time since when it carries nothing.
        self.free_since = 0.0

    async def ask(self, request: bytes, *, has_body: bool = True) -> Answer:
        """Send a request and return its answer once the head is here. Raises as ``Answer.head`` does."""
        assert self._transport is not None
        answer = self._answer = Answer(self, has_body=has_body)
        self._is_large = len(request) > SENT_AT_ONCE
        if self._transport.is_closing():
            answer.end(None)
        else:
            self._transport.write(request)
        try:
            await answer.head()
        except BaseException:
            answer.release()
            raise
        return answer

    def release(self, answer: Answer, *, reusable: bool) -> None:
        """End the use of this connection for an answer."""
        if answer is not self._answer:
            return
        self._answer = None
        assert self._transport is not None
        is_sent = not self._transport.get_write_buffer_size() and not (self._is_large and answer.status >= 300)
        if reusable and is_sent and not self._transport.is_closing():
            self._on_free(self)
        else:
            self.abort()

    def is_usable(self) -> bool:
        """Whether nothing came since it was last used: neither bytes, which would be the next answer, nor its end."""
        if self._transport is None or self._transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    def pause(self) -> None:
        """Let the server wait until what came is read."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Take more from the server."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once. An answer that is not whole yet is broken off, even one that the server may end so."""
        if self._answer is not None:
            self._answer.end(ConnectionAbortedError())
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def take(self, data: memoryview | bytes) -> None:
        """Take what came."""
        if self._answer is None:
            self.abort()  # nobody asked for it, and it must not become the next answer
        else:
            self._answer.feed(data)

    def eof_received(self) -> None:
        if self._answer is not None:
            self._answer.end(None)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None:
            self._answer.end(error)
        self._on_close(self)


class PlainConnection(Connection, asyncio.BufferedProtocol):
    """Over TCP alone: taken from the socket in small parts, so that a flood holds nobody up for long."""

    def __init__(self, buffer: bytearray, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Shared by all connections of a loop: what comes is taken apart before the next may come.
        self._buffer = memoryview(buffer)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.take(self._buffer[:nbytes])


class SecureConnection(Connection, asyncio.Protocol):
    """Over TLS: all that was read is taken at once. What is left beneath is lost where the server ends TCP alone."""

    def data_received(self, data: bytes) -> None:
        self.take(data)
