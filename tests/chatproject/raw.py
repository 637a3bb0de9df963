"""Requests byte by byte, as no client library would send them."""

from __future__ import annotations

import json
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Received:
    """All that came back until the server closed the connection."""

    raw: bytes

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"HTTP/1.1 (\d{3}) ", self.raw)]

    @property
    def status(self) -> int | None:
        """That of the first answer, None where there is none."""
        return self.statuses[0] if self.statuses else None

    @property
    def head(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[0].lower()

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def problem(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def send(connection: socket.socket, *pieces: bytes) -> int:
    """Send the pieces, as far as the server takes them; return how many bytes went out."""
    sent = 0
    with suppress(ConnectionError):
        for piece in pieces:
            connection.sendall(piece)
            sent += len(piece)
    return sent


def rest(connection: socket.socket) -> Received:
    """Wait until the server closes the connection."""
    received = b""
    with suppress(ConnectionError):
        while piece := connection.recv(65_536):
            received += piece
    return Received(received)


def ask(port: int, *pieces: bytes) -> Received:
    """Send the pieces on a connection of their own, and wait until the server closes it."""
    with connect(port) as connection:
        send(connection, *pieces)
        return rest(connection)


def request(line: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    """Return a request that asks for the connection's close."""
    return b"\r\n".join([line, *fields, b"Connection: close", b"", body])
