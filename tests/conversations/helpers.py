"""What tests of the API do again and again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from websockets.sync.client import ClientConnection

from tests.upstream import answer, call

JSON = {"Content-Type": "application/json"}
ARGUMENTS = '{"city": "北京"}'


@dataclass
class Stream:
    """The events of an SSE answer, and what they come to."""

    status: int
    headers: httpx.Headers
    ids: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def add(self, block: str) -> None:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "data" in fields:
            self.ids.append(fields["id"])
            self.events.append(json.loads(fields["data"]))

    @property
    def text(self) -> str:
        return "".join(event.get("chunk", "") for event in self.events)

    @property
    def reasoning(self) -> str:
        return "".join(event.get("reasoning", "") for event in self.events)

    @property
    def calls(self) -> list[dict[str, Any]]:
        return calls_of(self.events)

    @property
    def done(self) -> dict[str, Any]:
        """The one terminal event, which must be the last."""
        assert [event for event in self.events if "done" in event] == self.events[-1:], self.events
        return self.events[-1]

    @property
    def error(self) -> dict[str, Any]:
        """The error right before the end."""
        assert self.done["status"] == "failed"
        error: dict[str, Any] = self.events[-2]["error"]
        return error


def calls_of(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The calls of tools, their arguments put together."""
    calls: dict[int, dict[str, Any]] = {}
    for event in events:
        if called := event.get("tool_call"):
            begun = calls.setdefault(called["index"], {**called, "arguments": ""})
            begun["arguments"] += called["arguments"]
    return list(calls.values())


def blocks(pieces: Iterable[str]) -> Iterator[str]:
    """Split a body into event blocks as they arrive."""
    rest = ""
    for piece in pieces:
        rest += piece
        *whole, rest = rest.split("\n\n")
        yield from whole


@contextmanager
def streaming(client: httpx.Client, method: str, url: str, **options: Any) -> Iterator[tuple[Stream, Iterator[str]]]:
    """Open a stream; ``next(blocks)`` takes one event block from the socket into the ``Stream``."""
    with client.stream(method, url, **options) as response:
        stream = Stream(response.status_code, response.headers)

        def take() -> Iterator[str]:
            for block in blocks(response.iter_text()):
                stream.add(block)
                yield block

        yield stream, take()


def stream(client: httpx.Client, method: str, url: str, **options: Any) -> Stream:
    """Read a stream to its end."""
    with streaming(client, method, url, **options) as (result, taken):
        for _block in taken:
            pass
    return result


def chat(client: httpx.Client, message: str, **body: Any) -> Stream:
    """`POST /chat`, streamed to the end."""
    return stream(client, "POST", "/chat", json={"message": message, **body})


def whole_chat(client: httpx.Client, message: str, **body: Any) -> httpx.Response:
    """`POST /chat` with `stream: false`."""
    return client.post("/chat", json={"message": message, "stream": False, **body})


def history(client: httpx.Client, session_id: str) -> list[dict[str, Any]]:
    """The messages of the branch that is shown."""
    messages: list[dict[str, Any]] = client.get(f"/conversations/{session_id}/history").json()["messages"]
    return messages


def asks(*ids: str, text: str = "Let me look.") -> Any:
    """A model that says something and asks for calls, each with ``ARGUMENTS``."""
    deltas = [delta for index, each in enumerate(ids) for delta in call(index, ARGUMENTS, id=each, name="weather")]
    return answer(*([text] if text else []), deltas=deltas, finish="tool_calls")


async def flat(batches: AsyncIterator[Any]) -> list[Any]:
    """All events of a reader."""
    return [event async for batch in batches for event in batch]


class Socket:
    """A client that speaks frames."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def send(self, **frame: Any) -> None:
        self.connection.send(json.dumps(frame))

    def get(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(self.connection.recv(timeout=10))
        return frame

    def reply(self, frame_id: str) -> list[dict[str, Any]]:
        """Read one reply to its end; frames of others meanwhile are an error."""
        frames = [self.get()]
        while "done" not in frames[-1]:
            frames.append(self.get())
        assert all(frame["id"] == frame_id for frame in frames)
        return frames
