"""Servers of tests that are scripted byte by byte, and leave nothing open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from llmproviders.net.http import close_client

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SECONDS = 10.0


@asynccontextmanager
async def listening(
    handler: Handler, host: str = "127.0.0.1", *, seconds: float = SECONDS, **options: Any
) -> AsyncIterator[int]:
    """A server on loopback, for so long at most; gives its port. In the end it ends all that it accepted."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, EOFError, asyncio.CancelledError):
                await handler(reader, writer)
        finally:
            writer.close()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        task = asyncio.ensure_future(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async with asyncio.timeout(seconds), await asyncio.start_server(begin, host, 0, **options) as server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            await close_client()
            server.close()
            await turns()  # what was accepted last begins
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for writer in writers:
                writer.transport.abort()
            await turns()


async def turns() -> None:
    """Let the loop begin and close what it was told to."""
    for _turn in range(5):
        await asyncio.sleep(0)


async def until(is_so: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(SECONDS):
        while True:
            if is_so():
                return
            await asyncio.sleep(0)
