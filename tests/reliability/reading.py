"""Readers that leave in the middle, come back, and read beside one another."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from websockets.sync.client import connect

from tests.conversations.helpers import Stream, blocks, streaming
from tests.entry import HEADERS
from tests.processes.server import ServerProcess

WAIT_SECONDS = 20.0


def read_bytes(client: httpx.Client, method: str, url: str, limit: int, **options: Any) -> Stream:
    """Read the first ``limit`` bytes of a stream and hang up; a part of an event is dropped, as browsers do."""
    with client.stream(method, url, **options) as response:
        stream = Stream(response.status_code, response.headers)
        body = b""
        for part in response.iter_raw():
            body += part
            if len(body) >= limit:
                break
    whole = body[:limit].rpartition(b"\n\n")[0]
    for block in blocks([whole.decode() + "\n\n"]):
        stream.add(block)
    return stream


def read_frames(server: ServerProcess, generation_id: str, after: int, limit: int) -> list[dict[str, Any]]:
    """Attach over a socket and return the events of the first ``limit`` frames, or of all up to the end."""
    with connect(server.ws_url, proxy=None, additional_headers=HEADERS, max_size=None) as socket:
        socket.send(json.dumps({"type": "attach", "id": "1", "generation_id": generation_id, "after": after}))
        accepted = json.loads(socket.recv(timeout=WAIT_SECONDS))
        assert (accepted["type"], accepted["position"]) == ("accepted", after), accepted
        frames: list[dict[str, Any]] = []
        while len(frames) < limit and not (frames and "done" in frames[-1]):
            frames.append(json.loads(socket.recv(timeout=WAIT_SECONDS)))
    return frames


class Background:
    """A reader in a thread of its own; ``stream`` fills as events come."""

    def __init__(self, client: httpx.Client, method: str, url: str, **options: Any) -> None:
        self.stream = Stream(0, httpx.Headers())
        self.failure: Exception | None = None
        self.seconds = 0.0
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, args=(client, method, url), kwargs=options, daemon=True)
        self._thread.start()

    def _run(self, client: httpx.Client, method: str, url: str, **options: Any) -> None:
        try:
            with streaming(client, method, url, **options) as (stream, taken):
                self.stream = stream
                self._tell()
                for _block in taken:
                    self._tell()
        except httpx.HTTPError as error:
            self.failure = error
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def until(self, predicate: Callable[[Stream], object], seconds: float = WAIT_SECONDS) -> Stream:
        """Wait until what was read is enough."""
        with self._changed:
            enough = self._changed.wait_for(lambda: predicate(self.stream) or self._ended, seconds)
        assert enough, f"nothing came for {seconds} s after {self.stream.events[-2:]}"
        assert predicate(self.stream), (self.failure, self.stream.events[-2:])
        return self.stream

    def end(self, seconds: float = WAIT_SECONDS) -> Stream:
        """Wait for the end of the stream."""
        self.until(lambda _stream: self._ended, seconds)
        assert self.failure is None, self.failure
        return self.stream


@contextmanager
def at_most(seconds: float, what: str) -> Iterator[None]:
    """Assert that the block takes no longer."""
    started = time.monotonic()
    yield
    passed = time.monotonic() - started
    assert passed <= seconds, f"{what} took {passed:.2f} s"
