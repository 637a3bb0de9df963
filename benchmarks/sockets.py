"""The load over WebSockets: as much of RFC 6455 as a client needs that has one answer at a time."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from .client import Answer, Connection, Stream, request
from .upstream import now

TEXT, PING, PONG = 1, 9, 10
# Any mask will do on loopback, and this one changes nothing.
MASK = bytes(4)


class Socket(Connection):
    """One kept WebSocket. It takes one call at a time, and connects again when the server closed it."""

    def __init__(self, port: int, headers: Mapping[str, str]) -> None:
        super().__init__(port)
        self._headers = headers
        self._received = b""

    async def open(self) -> None:
        """Connect and shake hands; raises ``ConnectionRefusedError`` where the server does not upgrade."""
        await super().open()
        self._received = b""
        upgrade = {
            **self._headers,
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(secrets.token_bytes(16)).decode(),
        }
        hands = _Handshake()
        await self._exchange(request("GET", "/ws/chat", upgrade), hands)
        if b" 101 " not in hands.head:
            self.close()
            raise ConnectionRefusedError(f"a socket was refused: {hands.head!r}")

    def data_received(self, data: bytes) -> None:
        if isinstance(self._answer, _Handshake):
            super().data_received(data)
            return
        self._received += data
        for kind, payload in self._frames():
            if kind == TEXT:
                super().data_received(payload)
            elif kind == PING and self._transport:
                self._transport.write(frame(payload, PONG))

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        """Take the frames that are complete out of what was received."""
        while len(self._received) >= 2:
            length, begins = self._received[1], 2
            if length >= 126:
                begins = 4 if length == 126 else 10
                length = int.from_bytes(self._received[2:begins])
            ends = begins + length
            if len(self._received) < ends:
                return
            kind, payload = self._received[0] & 15, self._received[begins:ends]
            self._received = self._received[ends:]
            yield kind, payload


class _Handshake(Answer):
    """The head that a server answers an upgrade with."""

    def feed(self, data: bytes) -> bool:
        self.head += data
        return b"\r\n\r\n" in self.head


class SocketStream(Stream):
    """An answer in frames. ``status`` is 200 where it ended, and 400 where the call was refused."""

    def feed(self, data: bytes) -> bool:
        """Take one frame in; whether it is the last."""
        if chunks := data.count(b"@"):
            self.count(data, chunks, events=1)
            return False
        if ended := b'"done"' in data:
            self.status = 200
        elif ended := b'"refused"' in data:
            self.status, self.head = 400, data
        if ended:
            self.ended_at = now()
        return ended


def call(body: Mapping[str, Any]) -> bytes:
    """Return the frame that asks for an answer."""
    return frame(json.dumps({"type": "chat", **body}).encode(), TEXT)


def frame(payload: bytes, kind: int) -> bytes:
    length = len(payload)
    if length < 126:
        size = bytes([128 | length])
    elif length < 1 << 16:
        size = bytes([128 | 126]) + length.to_bytes(2)
    else:
        size = bytes([128 | 127]) + length.to_bytes(8)
    return bytes([128 | kind]) + size + MASK + payload
