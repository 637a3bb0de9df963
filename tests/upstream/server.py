"""The server itself: a little HTTP/1.1 on asyncio streams, and the bookkeeping that tests look at."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from .behaviours import Answer, Behaviour, Place, Raw, Status, directed, echo, echoed

PATH = "/v1/chat/completions"
WAIT_SECONDS = 10.0


@dataclass
class Request:
    """One HTTP request as it arrived; header names are in lower case, ``body`` is the parsed JSON or None."""

    method: str
    path: str
    headers: Mapping[str, str]
    content: bytes = field(repr=False)
    body: Any = None
    closed_by_client: bool = False  # before the answer was complete
    answered: bool = False

    def as_json(self) -> dict[str, Any]:
        names = ("method", "path", "headers", "body", "closed_by_client", "answered")
        return {name: getattr(self, name) for name in names}


class Gate:
    """A place where an answer waits until ``open`` is called, from any thread. ``reached`` counts arrivals."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event = asyncio.Event()
        self._changed = changed
        self.is_open = False
        self.reached = 0

    def open(self) -> None:
        self.is_open = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)

    async def passed(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.reached += 1
        self._changed()
        if not self.is_open:
            await self._event.wait()


class Cut(Exception):
    """The script says that the connection ends here."""


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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
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
            await _send_raw(behaviour, writer)
        elif isinstance(behaviour, Status):
            await _send_status(behaviour, writer)
        else:
            await _Streamed(self, request, behaviour, writer).send()

    def _behaviour(self, request: Request) -> Behaviour:
        path = request.path.partition("?")[0]
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


class _Streamed:
    """Sends an ``Answer``, as a stream or whole, with the faults that it names."""

    def __init__(
        self, upstream: ScriptedUpstream, request: Request, answer: Answer, writer: asyncio.StreamWriter
    ) -> None:
        self._upstream = upstream
        self._body: dict[str, Any] = request.body
        self._answer = answer
        self._writer = writer
        self._chunks = list(echoed(self._body) if answer.chunks is None else answer.chunks)
        self._model = answer.model if answer.model is not None else self._body.get("model", "")

    async def send(self) -> None:
        await self._at("headers")
        if not self._body.get("stream"):
            await _send_status(Status(status=200, body=self._whole()), self._writer)
            return
        await self._packets(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        await self._at(0)
        await self._text()
        await self._at("finish")
        if self._answer.finish is not None:
            await self._chunk(delta={}, finish=self._answer.finish)
        if self._usage() is not None and self._body.get("stream_options", {}).get("include_usage"):
            await self._event(json.dumps({**self._head(), "choices": [], "usage": self._usage()}))
        await self._at("done")
        for _ in range(self._answer.done):
            await self._event("[DONE]")
        await self._packets(b"0\r\n\r\n")

    async def _text(self) -> None:
        answer = self._answer
        sent = 0
        pieces = [(answer.reasoning_field, piece) for piece in answer.reasoning]
        times = answer.repeat
        while times > 0 or answer.endless:
            times -= 1
            for name, piece in [*pieces, *(("content", piece) for piece in self._chunks)]:
                if answer.delay:
                    await asyncio.sleep(answer.delay)
                await self._chunk(delta={name: piece})
                sent += 1
                await self._at(sent)
            pieces = []

    async def _at(self, place: Place) -> None:
        """Do what the script says for this place."""
        answer = self._answer
        if answer.gate is not None and answer.gate_at == place:
            await self._upstream.gate(answer.gate).passed()
        if answer.stall is not None and answer.stall == place:
            await asyncio.Event().wait()
        if answer.cut is not None and answer.cut == place:
            await self._writer.drain()
            if answer.how == "rst":
                reset(self._writer)
            raise Cut

    def _head(self) -> dict[str, Any]:
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1_694_268_190,
            "model": self._model,
            **self._answer.extra,
        }

    async def _chunk(self, *, delta: Mapping[str, str], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        await self._event(json.dumps({**self._head(), "choices": [choice], "usage": None}))

    async def _event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        await self._packets(b"%x\r\n%s\r\n" % (len(event), event))

    async def _packets(self, content: bytes) -> None:
        if self._answer.slice is None:
            self._writer.write(content)
            await self._writer.drain()
            return
        for start in range(0, len(content), self._answer.slice):
            self._writer.write(content[start : start + self._answer.slice])
            await self._writer.drain()
            await asyncio.sleep(0)

    def _usage(self) -> Mapping[str, Any] | None:
        if self._answer.usage is True:
            prompt = sum(len(str(message.get("content", "")).split()) for message in self._body.get("messages", []))
            completion = (len(self._chunks) + len(self._answer.reasoning)) * self._answer.repeat
            return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        return self._answer.usage or None

    def _whole(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": "".join(self._chunks) * self._answer.repeat}
        if self._answer.reasoning:
            message[self._answer.reasoning_field] = "".join(self._answer.reasoning)
        choice = {"index": 0, "message": message, "finish_reason": self._answer.finish}
        return {**self._head(), "object": "chat.completion", "choices": [choice], "usage": self._usage()}


async def read_request(reader: asyncio.StreamReader, begin: bytes = b"") -> Request | None:
    """The next request of a connection, of which ``begin`` was read before; None at the connection's end."""
    try:
        head = begin + await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, path, _version = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    content = await reader.readexactly(int(headers.get("content-length", "0")))
    try:
        body = json.loads(content) if content else None
    except ValueError:
        body = None
    return Request(method=method, path=path, headers=headers, content=content, body=body)


def reset(writer: asyncio.StreamWriter) -> None:
    """Break the connection with RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _send_raw(behaviour: Raw, writer: asyncio.StreamWriter) -> None:
    for piece in behaviour.pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(behaviour.delay)
    if not behaviour.close:
        await asyncio.Event().wait()
    raise Cut


async def _send_status(behaviour: Status, writer: asyncio.StreamWriter) -> None:
    body = behaviour.body if isinstance(behaviour.body, str) else json.dumps(behaviour.body)
    content = body.encode("utf-8", "surrogatepass")
    headers = {"Content-Type": behaviour.content_type, "Content-Length": str(len(content)), **behaviour.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {behaviour.status} Scripted\r\n{head}\r\n".encode() + content)
    await writer.drain()
