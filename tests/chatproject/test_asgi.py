"""Bodies, sockets and signals, over real connections."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from conversations.web.lifespan import Lifespan, Message
from tests.ports import free_port

from .processes import started, wait_until_it_answers

LIMIT = 1_048_576


def pieces(size: int) -> Iterator[bytes]:
    """A body of unknown length, sent in chunks."""
    while size > 0:
        yield b" " * min(size, 50_000)
        size -= 50_000


@pytest.mark.server
@pytest.mark.parametrize("body", [b" " * (LIMIT + 1), pieces(LIMIT + 1)], ids=["content-length", "chunked"])
def test_a_body_over_the_limit_is_refused(project: httpx.Client, body: Any) -> None:
    headers = {"Content-Type": "application/json", "X-Request-Id": "big"}
    answer = project.post("/chat", content=body, headers=headers)
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "body_too_large"
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"] == "big"


@pytest.mark.server
@pytest.mark.parametrize("body", [b" " * LIMIT, pieces(LIMIT)], ids=["content-length", "chunked"])
def test_a_body_at_the_limit_is_read(project: httpx.Client, body: Any) -> None:
    answer = project.post("/chat", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


@pytest.fixture
def connection(project: httpx.Client) -> Iterator[HTTPConnection]:
    """One connection, used for one request after the other."""
    with closing(HTTPConnection("127.0.0.1", project.base_url.port, timeout=10)) as connection:
        yield connection


@pytest.mark.server
def test_the_declared_length_is_refused_before_the_body_is_sent(connection: HTTPConnection) -> None:
    connection.putrequest("POST", "/chat")
    connection.putheader("Content-Length", "999999999")
    connection.endheaders()
    assert connection.getresponse().status == 413


@pytest.mark.server
def test_a_refusal_is_read_by_a_client_that_is_still_sending(project: httpx.Client) -> None:
    """As proxies do, which close each connection after its answer."""
    head = b"POST /chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (4 * LIMIT)
    with socket.create_connection(("127.0.0.1", project.base_url.port or 0), timeout=10) as sent:
        sent.sendall(head + b" " * LIMIT)
        assert sent.recv(12) == b"HTTP/1.1 413"
        sent.sendall(b" " * 3 * LIMIT)
        received = b""
        while piece := sent.recv(65_536):
            received += piece
    assert b"body_too_large" in received


@pytest.mark.server
def test_a_body_is_as_long_as_declared_whatever_follows(project: httpx.Client) -> None:
    """What a lying client sends beyond it is no body, and no request either."""
    head = b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
    with socket.create_connection(("127.0.0.1", project.base_url.port or 0), timeout=10) as sent:
        with suppress(ConnectionError):  # it may hang up while we send
            sent.sendall(head + b"{}" + b" " * (2 * LIMIT))
        received = b""
        with suppress(ConnectionError):
            while piece := sent.recv(65_536):
                received += piece
    statuses = re.findall(rb"HTTP/1.1 (\d+)", received)
    assert statuses[:1] == [b"400"]
    assert set(statuses) == {b"400"}


@pytest.mark.server
def test_the_connection_goes_on_after_a_refusal(connection: HTTPConnection) -> None:
    connection.request("POST", "/chat", b" " * (LIMIT + 1))
    refusal = connection.getresponse()
    assert refusal.status == 413
    refusal.read()
    socket = connection.sock
    connection.request("GET", "/api/health")
    assert connection.getresponse().status == 200
    assert connection.sock is socket


@pytest.mark.server
async def test_a_socket_on_an_unknown_path_is_refused(project: httpx.Client) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(f"ws://127.0.0.1:{project.base_url.port}/ws/nothing")
    assert refused.value.response.status_code == 403


@pytest.mark.server
async def test_a_socket_takes_a_trailing_slash(project: httpx.Client) -> None:
    async with websockets.connect(f"ws://127.0.0.1:{project.base_url.port}/ws/chat/") as socket:
        await socket.send('{"type": "ping"}')
        assert "pong" in str(await socket.recv())


@pytest.mark.server
def test_a_signal_lets_open_streams_end_before_the_server_goes(tmp_path: Path) -> None:
    port = free_port()
    with (
        started("-m", "tests.chatproject.toy_server", str(port), log=tmp_path / "log") as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client,
    ):
        wait_until_it_answers(process, client)
        with client.stream("GET", "/stream") as stream:
            parts = stream.iter_raw()
            assert next(parts) == b"begun;"
            process.process.send_signal(signal.SIGTERM)
            assert next(parts) == b"draining;"
            httpx.get(f"http://127.0.0.1:{port}/release", trust_env=False)
            assert b"".join(parts) == b"ended;"
        process.process.wait(20)
        assert process.output().split()[:2] == ["startup", "shutdown"]


@pytest.mark.server
def test_while_it_drains_the_server_still_answers(tmp_path: Path) -> None:
    port = free_port()
    with (
        started("-m", "tests.chatproject.toy_server", str(port), log=tmp_path / "log") as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client,
    ):
        wait_until_it_answers(process, client)
        with client.stream("GET", "/stream") as stream:
            parts = stream.iter_raw()
            next(parts)
            process.process.send_signal(signal.SIGTERM)
            assert next(parts) == b"draining;"
            assert httpx.get(f"http://127.0.0.1:{port}/release", trust_env=False).text == "draining"
            assert b"".join(parts) == b"ended;"
        process.process.wait(20)


class Server:
    """A server's side of the lifespan, and of signals."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.signals: list[int] = []
        self.up = asyncio.Event()
        self.ending = asyncio.Event()

    async def receive(self) -> Message:
        if not self.sent:
            return {"type": "lifespan.startup"}
        self.up.set()
        await self.ending.wait()
        return {"type": "lifespan.shutdown"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    def on_signal(self, number: int, _frame: object) -> None:
        self.signals.append(number)
        self.ending.set()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that handles signals, as all do before they start the lifespan."""
    server = Server()
    before = {number: signal.signal(number, server.on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    yield server
    for number, handler in before.items():
        signal.signal(number, handler)


async def nothing() -> None:
    pass


async def fail() -> None:
    raise RuntimeError("no engine")


async def test_a_second_sigterm_does_not_cut_the_drain(server: Server) -> None:
    draining, may_end = asyncio.Event(), asyncio.Event()

    async def drain() -> None:
        draining.set()
        await may_end.wait()

    running = asyncio.create_task(Lifespan(startup=nothing, shutdown=drain)({}, server.receive, server.send))
    await server.up.wait()
    signal.raise_signal(signal.SIGTERM)
    await draining.wait()
    signal.raise_signal(signal.SIGTERM)
    assert server.signals == []
    may_end.set()
    await running
    assert server.signals == [signal.SIGTERM]


async def test_a_second_ctrl_c_hurries_the_drain_and_a_third_reaches_the_server_at_once(server: Server) -> None:
    draining, hurried, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def drain() -> None:
        draining.set()
        await may_end.wait()

    lifespan = Lifespan(startup=nothing, shutdown=drain, hurry=hurried.set)
    running = asyncio.create_task(lifespan({}, server.receive, server.send))
    await server.up.wait()
    signal.raise_signal(signal.SIGINT)
    await draining.wait()
    signal.raise_signal(signal.SIGINT)
    await hurried.wait()
    assert server.signals == []
    signal.raise_signal(signal.SIGINT)
    await server.ending.wait()
    assert server.signals == [signal.SIGINT]
    may_end.set()
    await running


async def test_a_failing_shutdown_does_not_keep_the_server_alive(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.ending.set()
    await Lifespan(startup=nothing, shutdown=fail)({}, server.receive, server.send)
    assert [message["type"] for message in server.sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert "shutdown failed" in caplog.text


async def test_a_failing_startup_is_told_to_the_server(server: Server) -> None:
    await Lifespan(startup=fail, shutdown=nothing)({}, server.receive, server.send)
    assert server.sent == [{"type": "lifespan.startup.failed", "message": "no engine"}]
