"""A socket that floods holds nobody else up, and what is sent in one go is answered all the same."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_socket

from chatproject.sockets import MOST_FRAGMENTS
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
