"""The scripted model server: OpenAI's chat completions on a raw asyncio protocol, as cheap as Python allows.

The question says what is answered: ``bench:<chunks>:<interval in ms>:<characters a chunk>``. With an interval of 0
all chunks leave in one write; else each leaves at its time, and one that is late does not delay the next. A chunk
begins with the moment of its writing, ``@`` and ten digits (microseconds), on the clock of ``now``.
"""

from __future__ import annotations

import asyncio
import json
import re
from functools import cache
from time import perf_counter
from typing import cast

STAMP_LENGTH = 11
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
SCRIPT = re.compile(rb"bench:([0-9]+):([0-9]+):([0-9]+)")

_began = perf_counter()


def now() -> int:
    """Return microseconds on the clock that chunks are stamped with."""
    return int((perf_counter() - _began) * 1_000_000)


def script(chunks: int, interval: int = 0, size: int = STAMP_LENGTH + 1) -> str:
    """Return the question that gets ``chunks`` chunks, ``interval`` ms apart, of ``size`` characters each."""
    return f"bench:{chunks}:{interval}:{size}"


class Upstream(asyncio.Protocol):
    """One connection of a server to the model: one request after the other."""

    # Of all connections: paced answers that are under way, chunks that they had, and whether they are to end now.
    running = 0
    written = 0
    ends = False

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.WriteTransport
        self._next: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not registered as asyncio's.
        self._transport = cast(asyncio.WriteTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._next:
            self._next.cancel()
            Upstream.running -= 1

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not separator or (length and len(body) < int(length[1])):
            return
        self._received = b""
        asked = SCRIPT.search(body)
        if asked is None:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            return
        chunks, interval, size = map(int, asked.groups())
        if interval:
            self._transport.write(HEAD)
            Upstream.running += 1
            self._pace(chunks, interval / 1000, size, asyncio.get_running_loop().time())
        else:
            self._transport.write(_whole(chunks, size))

    def _pace(self, left: int, interval: float, size: int, due: float) -> None:
        before, after = _around(size)
        self._transport.write(before + b"@%010d" % now() + after)
        Upstream.written += 1
        if left > 1 and not Upstream.ends:
            due += interval
            loop = asyncio.get_running_loop()
            self._next = loop.call_at(due, self._pace, left - 1, interval, size, due)
        else:
            self._transport.write(_end())
            self._next = None
            Upstream.running -= 1


async def listen() -> tuple[asyncio.Server, str]:
    """Start the model server on a free port of loopback; return it and its URL."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=4096)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions"


@cache
def _around(size: int) -> tuple[bytes, bytes]:
    """Return the bytes of a chunk before and after its stamp."""
    before, after = _chunk({"content": "STAMP" + "x" * (size - STAMP_LENGTH - 1) + " "}).split(b"STAMP")
    return before, after


@cache
def _whole(chunks: int, size: int) -> bytes:
    before, after = _around(size)
    return HEAD + (before + b"@0000000000" + after) * chunks + _end()


@cache
def _end() -> bytes:
    usage = {"prompt_tokens": 10, "completion_tokens": 100, "total_tokens": 110}
    return b"".join([_chunk({}, finish_reason="stop"), _chunk(None, usage=usage), _frame("[DONE]"), b"0\r\n\r\n"])


def _chunk(
    delta: dict[str, str] | None, *, finish_reason: str | None = None, usage: dict[str, int] | None = None
) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    common = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": "bench"}
    return _frame(json.dumps({**common, "choices": choices, **({"usage": usage} if usage else {})}))


def _frame(data: str) -> bytes:
    """Return an event as a part of a chunked body; a stamp takes the room of its eleven characters."""
    event = f"data: {data}\n\n"
    length = len(event) + (STAMP_LENGTH - len("STAMP") if "STAMP" in event else 0)
    return b"%x\r\n%b\r\n" % (length, event.encode())
