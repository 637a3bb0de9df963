"""What an upstream does with one call: plain values, and short functions to write them with."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Place = Literal["headers", "finish", "done"] | int
DIRECTIVE = "!script "


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A chat completion. ``chunks`` None echoes the request. Seconds, bytes and counts as named."""

    chunks: Sequence[str] | None = None
    reasoning: Sequence[str] = ()
    reasoning_field: str = "reasoning_content"
    deltas: Sequence[Mapping[str, Any]] = ()  # what follows the chunks, each as it is
    finish: str | None = "stop"
    # True: counted; None: none; a mapping: as it is.
    usage: Mapping[str, Any] | bool | None = True
    done: int = 1  # how many [DONE]
    model: str | None = None  # None: the one asked for
    delay: float = 0.0  # before each text chunk
    repeat: int = 1  # the chunks, so many times over
    endless: bool = False
    slice: int | None = None  # bytes a packet
    stall: Place | None = None
    cut: Place | None = None
    how: Literal["rst", "fin"] = "rst"
    gate: str | None = None
    gate_at: Place = "headers"
    extra: Mapping[str, Any] = field(default_factory=dict)  # more fields of every chunk


@dataclass(frozen=True, kw_only=True)
class Status:
    """A plain response: JSON if ``body`` is no text."""

    status: int
    body: Any = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Bytes as they are, a packet each; then the connection stays silent, or is closed."""

    pieces: Sequence[bytes]
    close: bool = True
    delay: float = 0.0


Behaviour = Answer | Status | Raw


def answer(*chunks: str, **options: Any) -> Answer:
    """An answer of these chunks; ``options`` are the fields of ``Answer``."""
    return Answer(chunks=chunks, **options)


def call(index: int, *arguments: str, id: str = "", name: str = "look_up") -> list[dict[str, Any]]:
    """The deltas of one call of a tool, its arguments in these pieces."""
    begin = {"index": index, "id": id or f"call_{index}", "type": "function", "function": {"name": name}}
    pieces = [{"index": index, "function": {"arguments": piece}} for piece in arguments]
    return [{"tool_calls": [piece]} for piece in (begin, *pieces)]


def echo(**options: Any) -> Answer:
    """An answer that repeats what was asked (``echo_text``)."""
    return Answer(**options)


def status(code: int, body: Any = "", headers: Mapping[str, str] | None = None, *, content_type: str = "") -> Status:
    """A response with this status; a mapping or list is sent as JSON, text as it is."""
    return Status(
        status=code,
        body=body,
        headers=headers or {},
        content_type=content_type or ("text/html" if isinstance(body, str) else "application/json"),
    )


def redirect(url: str, code: int = 302) -> Status:
    return Status(status=code, headers={"Location": url})


def raw(*pieces: bytes, close: bool = True, delay: float = 0.0) -> Raw:
    return Raw(pieces=pieces, close=close, delay=delay)


def events(
    *lines: str | bytes, end: bytes = b"\n", close: bool = True, content_type: str = "text/event-stream"
) -> Raw:
    """A 200 event stream: a text becomes a ``data:`` event; bytes, and texts that begin with ``:``, stay."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nConnection: close\r\n\r\n".encode()
    return Raw(pieces=(head, b"".join(_event(line, end) for line in lines)), close=close)


def _event(line: str | bytes, end: bytes) -> bytes:
    if isinstance(line, bytes):
        return line
    return (line if line.startswith(":") else f"data: {line}").encode("utf-8", "surrogatepass") + end + end


def echo_text(message: str, earlier: int) -> str:
    """What an echo answers to ``message`` after ``earlier`` messages of user and assistant."""
    return f"You said: {message} ({earlier} earlier messages)"


def echoed(body: Mapping[str, Any]) -> list[str]:
    """The chunks that echo this request: a word each."""
    turns = [message for message in body.get("messages", []) if message.get("role") != "system"]
    said = turns[-1].get("content", "") if turns else ""
    return re.findall(r"\s*\S+\s*", echo_text(said, max(len(turns) - 1, 0)))


def directed(body: Mapping[str, Any]) -> Behaviour | None:
    """The behaviour that the last user message asks for with ``!script {…}``, if no results of tools follow it."""
    said = next((m.get("content", "") for m in reversed(body.get("messages", [])) if m.get("role") == "user"), "")
    if body.get("messages", [{}])[-1].get("role") == "tool":
        return None
    if not isinstance(said, str) or not said.startswith(DIRECTIVE):
        return None
    options = json.loads(said.removeprefix(DIRECTIVE))
    kind = Status if "status" in options else Answer
    unknown = options.keys() - {item.name for item in fields(kind)}
    if unknown:
        return Status(status=400, body={"error": {"message": f"script: unknown {sorted(unknown)}"}})
    return kind(**options)


SCRIPTS: Mapping[str, Behaviour] = {
    "echo": echo(),
    "slow": echo(delay=0.05),
    "endless": answer("tick ", endless=True, delay=0.02),
    "stall": echo(stall=1),
    "cut": echo(cut=2),
}
