"""A connection that breaks in the middle of an answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Cutter:
    """Passes connections on to ``port``; the first whose request begins with ``request`` is cut after ``text``."""

    def __init__(self, port: int, request: bytes, on_cut: Callable[[], object], text: bytes) -> None:
        self.cuts = 0
        self.requests: list[bytes] = []
        self.port = 0
        self._target = port
        self._request = request
        self._on_cut = on_cut
        self._text = text
        self._writers: set[asyncio.StreamWriter] = set()
        self._ended = False

    async def serve(self, started: threading.Event, ending: asyncio.Event) -> None:
        async with await asyncio.start_server(self._pass, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await ending.wait()
        # Their reads end, and with them their tasks: a cancelled one would be reported by asyncio's streams.
        self._ended = True
        for writer in self._writers:
            writer.transport.abort()
        while connections := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(connections)

    async def _pass(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        with self._open(to_client):
            server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
            with self._open(to_server):
                await self._exchange(client, to_client, server, to_server)

    @contextmanager
    def _open(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._writers.add(writer)
        if self._ended:
            writer.transport.abort()
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _exchange(
        self,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        if not (head := await client.read(65_536)):
            return
        self.requests.append(head)
        to_server.write(head)
        cut = head.startswith(self._request) and not self.cuts
        sending = asyncio.create_task(self._copy(client, to_server))
        try:
            await self._copy(server, to_client, cut=cut)
        finally:
            sending.cancel()
            await asyncio.wait([sending])

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, cut: bool = False) -> None:
        try:
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
                if cut and self._text in data:
                    self.cuts += 1
                    target.write_eof()
                    self._on_cut()
                    return
        except ConnectionError:
            return


@contextmanager
def cutting(port: int, request: bytes, on_cut: Callable[[], object], text: bytes = b'"chunk"') -> Iterator[Cutter]:
    """Run a ``Cutter`` in a thread until the block ends; ``on_cut`` is called there."""
    cutter = Cutter(port, request, on_cut, text)
    loop, started, ending = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    def run() -> None:
        try:
            loop.run_until_complete(cutter.serve(started, ending))
        finally:
            loop.run_until_complete(asyncio.sleep(0))  # a transport closes its socket in the loop's next round
            loop.close()

    thread = threading.Thread(target=run, name="cutter", daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield cutter
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(10)
