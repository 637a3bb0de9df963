"""A TCP proxy that can swallow: connections stay open, and nothing passes any more, as in a network that drops."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Self

CHUNK = 65_536


class SwallowingProxy:
    """Passes bytes between ``port`` of loopback and ``target``, a port there too, unless it swallows."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="swallowing proxy", daemon=True)
        self._passes = True
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def swallow(self) -> None:
        """Take what is sent, on old and new connections, and pass nothing."""
        self._passes = False

    def heal(self) -> None:
        """Pass again what comes on new connections. What was swallowed is lost, and the old ones stay dead."""
        asyncio.run_coroutine_threadsafe(self._forget(), self._loop).result(10)
        self._passes = True

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._accept, "127.0.0.1", 0), self._loop
        ).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_details: object) -> None:
        async def end() -> None:
            self._server.close()
            await self._forget()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _forget(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._passes:
            await self._drain(reader)
            return
        theirs, ours = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, ours))
                both.create_task(self._pump(theirs, writer))
        except* OSError:
            pass
        finally:
            ours.transport.abort()

    @staticmethod
    async def _drain(reader: asyncio.StreamReader) -> None:
        while await reader.read(CHUNK):
            pass

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(CHUNK):
            if self._passes:
                sink.write(data)
                await sink.drain()
        if self._passes:
            with suppress(OSError):
                sink.write_eof()
