"""What one caller or one upstream can do at its worst, from a process of its own and for a bounded time.

``python -m tests.reliability.floods upstream KIND`` is a model server that prints its URL and floods whoever asks it;
``python -m tests.reliability.floods caller KIND PORT`` floods the server at that port of loopback. Both end by
themselves after ``SECONDS``.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

SECONDS = 60.0
AT_ONCE = 8
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
# What an upstream sends first, and then again and again.
UPSTREAM = {
    "informational": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "comments": (EVENTS, b": nothing\n" * 1000),
    "empty_events": (EVENTS, b'data: {"choices": [{"index": 0, "delta": {}}]}\n\n' * 1000),
    "blank_lines": (EVENTS, b"\n" * 10_000),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-Nothing: " + b"x" * 8000 + b"\r\n"),
}


async def _flood_whoever_asks(kind: str) -> None:
    first, again = UPSTREAM[kind]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(first)
            while True:
                writer.write(again)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions", flush=True)
    await asyncio.sleep(SECONDS)


async def _request(port: int, lines: list[str], body: bytes = b"") -> None:
    """Send a request on a connection of its own and read until the server closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = [*lines, f"Host: 127.0.0.1:{port}", "Connection: close", f"Content-Length: {len(body)}", "", ""]
        writer.write("\r\n".join(head).encode() + body)
        await writer.drain()
        while await reader.read(65_536):
            pass
    finally:
        writer.close()


async def _schema(port: int, number: int) -> None:
    await _request(port, [f"GET /schema?lang={number:04}{'x' * 2000} HTTP/1.1"])


async def _logins(port: int, number: int) -> None:
    form = f"username=nobody{number}&password=wrong".encode()
    form_type = "Content-Type: application/x-www-form-urlencoded"
    await _request(port, ["POST /admin/login/ HTTP/1.1", form_type], form)


async def _wrong_keys(port: int, number: int) -> None:
    await _request(port, ["GET /conversations HTTP/1.1", f"Authorization: Bearer chatkey_{number:040}"])


async def _long_heads(port: int, _number: int) -> None:
    """Header after header, until the server has had enough or 60 MB are sent."""
    _reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET / HTTP/1.1\r\n")
        for _block in range(60):
            writer.write((b"X-Nothing: " + b"x" * 1000 + b"\r\n") * 1000)
            await writer.drain()
    finally:
        writer.close()


async def _trickle(port: int, start: bytes) -> None:
    """Open 200 connections that send a byte each now and then and never come to an end."""
    pairs = [await asyncio.open_connection("127.0.0.1", port) for _connection in range(200)]
    try:
        for _reader, writer in pairs:
            writer.write(start)
        while any(not writer.is_closing() for _reader, writer in pairs):
            for _reader, writer in pairs:
                writer.write(b"x")
            await asyncio.sleep(0.2)
    finally:
        for _reader, writer in pairs:
            writer.close()


async def _slow_heads(port: int, _number: int) -> None:
    await _trickle(port, b"GET / HTTP/1.1\r\nX-Slow: ")


async def _slow_bodies(port: int, _number: int) -> None:
    fields = b"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n"
    await _trickle(port, b"POST /chat HTTP/1.1\r\n" + fields + b"\r\n")


Flood = Callable[[int, int], Awaitable[None]]
# What is done again and again, and by how many at a time.
CALLER: dict[str, tuple[Flood, int]] = {
    "schema": (_schema, AT_ONCE),
    "logins": (_logins, AT_ONCE),
    "wrong_keys": (_wrong_keys, AT_ONCE),
    "long_heads": (_long_heads, 2),
    "slow_heads": (_slow_heads, 1),
    "slow_bodies": (_slow_bodies, 1),
}


async def _flood(kind: str, port: int) -> None:
    flood, at_once = CALLER[kind]

    async def again_and_again(number: int) -> None:
        while True:
            with suppress(ConnectionError):
                await flood(port, number)
            number += at_once

    print("flooding", flush=True)
    with suppress(TimeoutError):
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*(again_and_again(number) for number in range(at_once)))


@contextmanager
def running(*arguments: str) -> Iterator[str]:
    """A flood in a process of its own, for the length of a block; give the line that it prints first."""
    command = [sys.executable, "-m", __name__, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


if __name__ == "__main__":
    _who, _kind, *_port = sys.argv[1:]
    asyncio.run(_flood_whoever_asks(_kind) if _who == "upstream" else _flood(_kind, int(_port[0])))
