"""The server itself, and the bookkeeping that tests look at."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Self

from .behaviours import Behaviour, Raw, Status, directed, echo
from .streamed import Gate, Streamed
from .wire import Cut, Request, read_request, send_raw, send_status

PATH = "/v1/chat/completions"
MESSAGES = "/v1/messages"
WAIT_SECONDS = 10.0


class ScriptedUpstream:
    """The server; see the package's docstring. An async context manager in a loop, or ``start`` and ``stop``."""

    def __init__(self, *, port: int = 0, default: Behaviour | None = None) -> None:
        self.script: list[Behaviour | Callable[[Request], Behaviour]] = []
        self.default: Behaviour | Callable[[Request], Behaviour] = default or echo()
        self.requests: list[Request] = []
        self.connections = 0
        self.open_connections = 0
        self.base_url = ""
        self._port = port
        self._gates: dict[str, Gate] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiters: set[asyncio.Event] = set()
        self._condition = threading.Condition()

    # What tests use ---------------------------------------------------------------------------------------
    @property
    def url(self) -> str:
        """The URL of the chat completions call."""
        return self.base_url + PATH

    @property
    def calls(self) -> int:
        """How many chat completions were asked for."""
        return len(self.completions)

    @property
    def completions(self) -> list[Request]:
        return [request for request in self.requests if request.path.partition("?")[0] == PATH]

    def gate(self, name: str = "gate") -> Gate:
        return self._gates.setdefault(name, Gate(self._changed))

    async def until(self, predicate: Callable[[], object], timeout: float = WAIT_SECONDS) -> None:
        """Wait, in the server's own loop, until ``predicate()`` is true; it is asked whenever something happens."""
        event = asyncio.Event()
        self._waiters.add(event)
        try:
            async with asyncio.timeout(timeout):
                while not predicate():
                    event.clear()
                    await event.wait()
        finally:
            self._waiters.discard(event)

    async def closed_by_client(self, count: int = 1, timeout: float = WAIT_SECONDS) -> None:
        """Wait until the client has hung up on ``count`` answers before they were complete."""
        await self.until(lambda: sum(request.closed_by_client for request in self.requests) >= count, timeout)

    def wait_until(self, predicate: Callable[[], object], timeout: float = WAIT_SECONDS) -> None:
        """Wait from another thread than the server's."""
        with self._condition:
            if not self._condition.wait_for(predicate, timeout):
                raise TimeoutError("the upstream did not see what was expected of it")

    # Life -------------------------------------------------------------------------------------------------
    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_details: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port, limit=2**26, backlog=1024)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        await _some_steps()  # what was accepted right before that becomes a task only some steps of the loop later
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await _some_steps()  # and a transport is closed one step after it was told to
        if self._server is not None:
            await self._server.wait_closed()

    # One connection ---------------------------------------------------------------------------------------
    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open_connections += 1
        self._changed()
        first = b""
        try:
            while (request := await read_request(reader, first)) is not None:
                first = await self._serve(request, reader, writer)
        except (Cut, ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)
            self.open_connections -= 1
            self._changed()

    async def _serve(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Answer one request. Returns what the client sent of its next one, raises ``Cut`` at the last."""
        self.requests.append(request)
        self._changed()
        answering = asyncio.ensure_future(self._answer(request, writer))
        coming = asyncio.ensure_future(reader.read(1))  # b"": the client has hung up
        try:
            await asyncio.wait({answering, coming}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and not coming.exception() and coming.result():
                await asyncio.wait({answering})
            if not answering.done():
                request.closed_by_client = True
                raise Cut
            answering.result()
            request.answered = True
        except ConnectionError:
            request.closed_by_client = True
            raise
        finally:
            answering.cancel()
            coming.cancel()
            _, first = await asyncio.gather(answering, coming, return_exceptions=True)
            self._changed()
        return first if isinstance(first, bytes) else b""

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        behaviour = self._behaviour(request)
        if isinstance(behaviour, Raw):
            await send_raw(behaviour, writer)
        elif isinstance(behaviour, Status):
            await send_status(behaviour, writer)
        else:
            await Streamed(self.gate, request, behaviour, writer).send()

    def _behaviour(self, request: Request) -> Behaviour:
        path = request.path.partition("?")[0]
        if path == MESSAGES and self.script:
            chosen = self.script.pop(0)
            return chosen(request) if callable(chosen) else chosen
        if path != PATH:
            return self._other(request.method, path)
        if not isinstance(request.body, dict):
            return Status(
                status=400, body={"error": {"message": "not a JSON object", "type": "invalid_request_error"}}
            )
        chosen = self.script.pop(0) if self.script else directed(request.body) or self.default
        return chosen(request) if callable(chosen) else chosen

    def _other(self, method: str, path: str) -> Status:
        if method == "GET" and path == "/v1/models":
            return Status(status=200, body={"object": "list", "data": [{"id": "scripted", "object": "model"}]})
        if method == "GET" and path == "/control":
            counts = {"connections": self.connections, "open_connections": self.open_connections, "calls": self.calls}
            gates = {name: gate.reached for name, gate in self._gates.items()}
            return Status(
                status=200, body={**counts, "gates": gates, "requests": [r.as_json() for r in self.completions]}
            )
        if method == "POST" and path.startswith("/control/gates/"):
            self.gate(path.rpartition("/")[2]).open()
            return Status(status=200, body={})
        return Status(status=404, body={"error": {"message": "no such path", "type": "not_found_error"}})

    def _changed(self) -> None:
        for event in self._waiters:
            event.set()
        with self._condition:
            self._condition.notify_all()


async def _some_steps() -> None:
    for _step in range(5):
        await asyncio.sleep(0)
