"""Clients on bare sockets that read only what they are told to, and leave when they are told to."""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Mapping
from typing import Any, Self

from tests.conftest import Server
from tests.entry import HEADERS
from tests.processes.server import ServerProcess

# Small, so that what is sent to a client that does not read stays with the server.
RECEIVE_BUFFER = 4096


class SilentClient:
    """A connection over which one request goes out and nothing is read of its own accord."""

    def __init__(self, server: ServerProcess | Server, headers: Mapping[str, str] = HEADERS) -> None:
        self._headers = headers
        self._host = f"127.0.0.1:{server.port}"
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", server.port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Hang up; what was not read makes it a reset."""
        self.socket.close()

    def post(self, path: str, body: dict[str, Any]) -> None:
        """Send a POST with JSON; its answer is not read."""
        content = json.dumps(body).encode()
        self._send_head(
            "POST", path, {"Content-Type": "application/json", "Content-Length": str(len(content))}, content
        )

    def get(self, path: str) -> None:
        self._send_head("GET", path, {})

    def open_socket(self) -> None:
        """Make the connection a WebSocket at `/ws/chat`."""
        key = base64.b64encode(os.urandom(16)).decode()
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        self._send_head("GET", "/ws/chat", {**upgrade, "Sec-WebSocket-Key": key})
        head = self.until(b"\r\n\r\n")
        assert b" 101 " in head, head

    def send_frame(self, **frame: Any) -> None:
        """Send a text frame, masked with zeros."""
        content = json.dumps(frame).encode()
        size = bytes([0x80 | len(content)]) if len(content) < 126 else b"\xfe" + len(content).to_bytes(2, "big")
        self.socket.sendall(b"\x81" + size + bytes(4) + content)

    def until(self, end: bytes) -> bytes:
        """Read until ``end`` has come, and return all that came."""
        got = b""
        while end not in got:
            part = self.socket.recv(RECEIVE_BUFFER)
            assert part, f"closed after {got!r}"
            got += part
        return got

    def _send_head(self, method: str, path: str, headers: dict[str, str], content: bytes = b"") -> None:
        fields = {"Host": self._host, **self._headers, **headers}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + content)
