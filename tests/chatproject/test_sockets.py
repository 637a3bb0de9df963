"""A socket that floods holds nobody else up, and what is sent in one go is answered all the same."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_socket

from chatproject.sockets import MOST_FRAGMENTS, SocketProtocol
from tests.conftest import Server

FLOODS = {
    "pings": Frame(Opcode.PING, b"x"),
    "unasked pongs": Frame(Opcode.PONG, b""),
    "pings of ours": Frame(Opcode.TEXT, b'{"type": "ping"}'),
    "what is refused": Frame(Opcode.TEXT, b"{}"),
}


@pytest.fixture
def socket(server: Server) -> Iterator[ClientConnection]:
    with open_socket(server.ws_url, proxy=None, compression=None) as connection:
        yield connection


@contextmanager
def flooding(socket: ClientConnection, frame: Frame) -> Iterator[None]:
    """Send a frame again and again, as fast as the server takes it, and read nothing but what must be."""
    piece = frame.serialize(mask=True, extensions=[]) * 20_000
    ended = threading.Event()

    def flood() -> None:
        with suppress(OSError):
            while not ended.is_set():
                socket.socket.sendall(piece)

    def read() -> None:
        with suppress(ConnectionClosed):
            for _frame in socket:
                pass

    threads = [threading.Thread(target=task, daemon=True) for task in (flood, read)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        socket.socket.shutdown(2)
        for thread in threads:
            thread.join(20)


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_frames_holds_nobody_up(client: httpx.Client, socket: ClientConnection, kind: str) -> None:
    assert client.get("/api/health").status_code == 200
    with flooding(socket, FLOODS[kind]):
        time.sleep(0.5)
        begun = time.monotonic()
        for _number in range(10):
            assert client.get("/api/health").status_code == 200
        assert time.monotonic() - begun < 5


def test_frames_that_come_in_one_go_are_all_answered(socket: ClientConnection) -> None:
    frames = [json.dumps({"type": "ping", "id": number}).encode() for number in range(2_000)]
    socket.socket.sendall(b"".join(Frame(Opcode.TEXT, frame).serialize(mask=True, extensions=[]) for frame in frames))
    assert [json.loads(socket.recv(timeout=20))["id"] for _frame in frames] == list(range(2_000))


def test_a_large_frame_comes_whole(socket: ClientConnection) -> None:
    for size in (1, 2_047, 2_048, 2_049, 900_000):
        socket.send(json.dumps({"type": "ping", "id": "last"}) + " " * size)
        assert json.loads(socket.recv(timeout=20)) == {"type": "pong", "id": "last"}


def test_a_message_in_pieces_without_a_byte_ends_the_socket(socket: ClientConnection) -> None:
    first, more = (Frame(opcode, b"", fin=False) for opcode in (Opcode.TEXT, Opcode.CONT))
    socket.socket.sendall(first.serialize(mask=True, extensions=[]))
    socket.socket.sendall(more.serialize(mask=True, extensions=[]) * (MOST_FRAGMENTS + 1))
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=30)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


def test_a_message_in_a_few_pieces_is_one(socket: ClientConnection) -> None:
    socket.send(iter(['{"type": ', '"ping", ', '"id": 1}']))
    assert json.loads(socket.recv(timeout=20)) == {"type": "pong", "id": 1}


# What no client of the network can be made to do at the right moment: a transport that is none. ----------------------

HANDSHAKE = (
    b"GET /ws/chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
LARGE = b"b" * 3_000


class Transport(asyncio.Transport):
    """Remembers whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = asyncio.Event()

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def close(self) -> None:
        self.closed.set()

    abort = close

    def write(self, data: Any) -> None:
        """Nobody reads it."""

    def pause_reading(self) -> None:
        """Nothing is read."""

    resume_reading = pause_reading


class Application:
    """Accepts a socket, and closes it or takes what comes once it may."""

    def __init__(self, *, closes: bool) -> None:
        self.may_go_on = asyncio.Event()
        self.accepted, self.ended = asyncio.Event(), asyncio.Event()
        self.taken: list[str] = []
        self._closes = closes

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        self.accepted.set()
        await self.may_go_on.wait()
        if self._closes:
            await send({"type": "websocket.close", "code": 4000})
        while self.taken[-1:] != ["websocket.disconnect"]:
            self.taken.append((await receive())["type"])
        self.ended.set()


async def opened(application: Application) -> tuple[SocketProtocol, Transport]:
    settings: dict[str, Any] = {"lifespan": "off", "log_config": None, "ws_ping_interval": None}
    config = Config(application, ws=SocketProtocol, ws_per_message_deflate=False, **settings)
    config.load()
    protocol, transport = SocketProtocol(config, ServerState(), {}), Transport()
    protocol.connection_made(transport)
    protocol.data_received(HANDSHAKE)
    await application.accepted.wait()
    return protocol, transport


def framed(opcode: Opcode, data: bytes) -> bytes:
    return Frame(opcode, data).serialize(mask=True, extensions=[])


CLOSE = framed(Opcode.CLOSE, b"\x03\xe8")


async def test_a_close_that_waits_behind_a_frame_is_seen_after_our_own() -> None:
    application = Application(closes=True)
    protocol, transport = await opened(application)
    protocol.data_received(framed(Opcode.TEXT, b"a") + framed(Opcode.TEXT, LARGE) + CLOSE)
    application.may_go_on.set()
    async with asyncio.timeout(5):  # uvicorn closes after ten, whatever comes
        await transport.closed.wait()
    protocol.connection_lost(None)
    await asyncio.gather(*protocol.tasks)


async def test_a_frame_that_breaks_what_takes_it_ends_the_connection() -> None:
    application = Application(closes=False)
    application.may_go_on.set()
    protocol, transport = await opened(application)
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    # Behind the first piece: after both closes uvicorn is told of text that is none.
    protocol.data_received(framed(Opcode.PING, b"x" * 100) * 25 + framed(Opcode.TEXT, b"\xff") + CLOSE)
    async with asyncio.timeout(5):
        await transport.closed.wait()
    protocol.connection_lost(None)
    await asyncio.gather(*protocol.tasks)
    assert errors
    assert application.taken[-1] == "websocket.disconnect"


async def test_what_came_whole_counts_though_the_connection_is_lost() -> None:
    application = Application(closes=False)
    protocol, _transport = await opened(application)
    protocol.data_received(framed(Opcode.TEXT, LARGE) + CLOSE)
    protocol.connection_lost(ConnectionResetError())
    application.may_go_on.set()
    async with asyncio.timeout(5):
        await application.ended.wait()
    assert application.taken[0] == "websocket.receive"
