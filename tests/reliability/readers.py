"""Readers in threads: each asks for an answer and records every event that it gets, until the end or a cut."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, Self

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.conversations.helpers import Stream, blocks
from tests.entry import HEADERS
from tests.processes.server import ServerProcess

WAIT_SECONDS = 60.0
# A reader's own patience: with a server that a test stops for a while.
SILENCE_SECONDS = 300.0


class Reader:
    """Reads in a thread of its own from ``start`` on; tests wait with ``until`` and ``join``."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.part = Stream(0, httpx.Headers())
        self.ids: dict[str, str] = {}
        self.refused: dict[str, Any] | None = None
        self._acknowledged = False
        self._over = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def start(self) -> Self:
        self._thread.start()
        return self

    def join(self) -> Self:
        """Wait until the answer ended or the connection broke."""
        self._thread.join(WAIT_SECONDS)
        assert not self._thread.is_alive(), f"the reader still waits, after {len(self.part.events)} events"
        return self

    def until(self, predicate: Callable[[Self], object], seconds: float = WAIT_SECONDS) -> Self:
        """Wait until ``predicate(self)``, asked whenever something came; raises when the reading is over before."""
        with self._changed:
            self._changed.wait_for(lambda: predicate(self) or self._over, seconds)
            assert predicate(self), (self.refused, self.part.events[-3:])
        return self

    def acknowledged(self) -> Self:
        """Wait until the server said that it took the message."""
        return self.until(lambda reader: reader._acknowledged)

    def seen(self, events: int) -> Self:
        return self.until(lambda reader: len(reader.part.events) >= events)

    @property
    def has_ended(self) -> bool:
        return any("done" in event for event in self.part.events)

    def _run(self) -> None:
        try:
            self._read()
        except (httpx.TransportError, ConnectionClosed, OSError):
            pass  # the server was killed: what came before counts
        finally:
            self._over = True
            self._notify()

    def _read(self) -> None:
        raise NotImplementedError

    def _accept(self, session_id: str, message_id: str, generation_id: str) -> None:
        self.ids = {"session_id": session_id, "message_id": message_id, "generation_id": generation_id}
        self._acknowledged = True
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


class SseReader(Reader):
    """Over HTTP: by default `POST /chat` with ``body``; ``generation`` attaches to an answer instead."""

    def __init__(self, server: ServerProcess, *, generation: str = "", **body: Any) -> None:
        super().__init__(server)
        self._request: tuple[str, str, Any] = (
            ("GET", f"/generations/{generation}/stream", None) if generation else ("POST", "/chat", body)
        )

    def _read(self) -> None:
        method, url, body = self._request
        with (
            self.server.client() as client,
            client.stream(method, url, json=body, timeout=SILENCE_SECONDS) as response,
        ):
            if response.status_code != 200:
                self.refused = json.loads(response.read())
                return
            self.part.status, self.part.headers = response.status_code, response.headers
            self._accept(*(response.headers[f"x-{name}-id"] for name in ("session", "message", "generation")))
            for block in blocks(response.iter_text()):
                self.part.add(block)
                self._notify()


class SocketReader(Reader):
    """Over a WebSocket: a `chat` frame with ``body``, or ``frame_type="attach"`` with its fields."""

    def __init__(self, server: ServerProcess, *, frame_type: str = "chat", **body: Any) -> None:
        super().__init__(server)
        self._frame = {"type": frame_type, "id": "1", **body}

    def _read(self) -> None:
        with connect(
            self.server.ws_url, proxy=None, additional_headers=HEADERS, open_timeout=WAIT_SECONDS, ping_interval=None
        ) as socket:
            socket.send(json.dumps(self._frame))
            while not self.has_ended:
                frame = json.loads(socket.recv(timeout=SILENCE_SECONDS))
                if frame.get("type") == "accepted":
                    self._accept(frame["session_id"], str(frame["message_id"]), frame["generation_id"])
                elif frame.get("type") == "refused":
                    self.refused = frame["error"]
                    return
                else:
                    self.part.events.append(frame)
                    self._notify()


def script(**fields: Any) -> str:
    """Return the message that makes the scripted upstream do this."""
    return f"!script {json.dumps(fields)}"
