"""Readers that read as far as they are told to, over SSE and WebSocket alike."""

from __future__ import annotations

import json
from typing import Any

import httpx
from websockets.sync.client import ClientConnection

from tests.conversations.helpers import Stream, blocks

from .truth import Part

WAIT_SECONDS = 20.0


class Refused(Exception):
    """A call that did not begin an answer; the argument is the problem's code."""


class SseReader:
    """Reads an answer over SSE as far as it is asked to."""

    def __init__(self, client: httpx.Client, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        self._response = client.send(client.build_request(method, path, json=body), stream=True)
        if self._response.status_code != 200:
            self._response.read()
            raise Refused(self._response.json()["code"])
        self.stream = Stream(200, self._response.headers)
        self.ids = {name: self.stream.headers[f"x-{name}-id"] for name in ("session", "message", "generation")}
        self._blocks = blocks(self._response.iter_text())

    def until_text(self) -> None:
        while not self.stream.text:
            self.stream.add(next(self._blocks))

    def to_the_end(self) -> Part:
        for block in self._blocks:
            self.stream.add(block)
        return self.stream

    def close(self) -> None:
        self._response.close()


class Socket:
    """One WebSocket on which all replies of a run of the machine come in."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._frames: dict[str, list[dict[str, Any]]] = {}

    def send(self, **frame: Any) -> None:
        self._connection.send(json.dumps(frame))

    def frames(self, frame_id: str, count: int) -> list[dict[str, Any]]:
        """Return a reply's frames once there are ``count``."""
        mine = self._frames.setdefault(frame_id, [])
        while len(mine) < count:
            frame = json.loads(self._connection.recv(timeout=WAIT_SECONDS))
            self._frames.setdefault(frame["id"], []).append(frame)
        return mine


class SocketReader:
    """Reads an answer over the machine's socket as far as it is asked to."""

    def __init__(self, socket: Socket, frame_id: str, **frame: Any) -> None:
        self._socket = socket
        self._id = frame_id
        socket.send(id=frame_id, **frame)
        first = socket.frames(frame_id, 1)[0]
        if first["type"] == "refused":
            raise Refused(first["error"]["code"])
        self.ids = {name: str(first[f"{name}_id"]) for name in ("session", "message", "generation")}

    def until_text(self) -> None:
        assert "chunk" in self._socket.frames(self._id, 2)[1]

    def to_the_end(self) -> Part:
        count = 2
        while "done" not in self._socket.frames(self._id, count)[-1]:
            count += 1
        return self._socket.frames(self._id, count)

    def close(self) -> None:
        """The socket is closed with the machine."""
