"""P9: SIGTERM: ready turns 503, chats are taken until the listener closes, running answers get the grace period.

The rest is stored as interrupted. Readers get their end, over SSE and WebSocket alike, and the process ends in time.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.conversations.helpers import Stream
from tests.entry import HEADERS
from tests.processes.server import ServerProcess
from tests.upstream import ScriptedUpstream, answer

from .conftest import Serve
from .silent import SilentClient
from .sizes import is_full, size
from .test_p12_database_and_redis_faults import wait_for
from .truth import Part, consistent

STREAMS = 50
LISTEN_SECONDS = size(6.0, 4.0)
GRACE_SECONDS = size(6.0, 5.0)
# What may come on top of the grace period: the readers' last events, the server's own end, a busy machine.
END_SECONDS = 10.0
# Of four answers two end within the grace period and two do not, one of each over SSE and one over WebSocket.
ENDS_IN_TIME = '!script {"chunks": ["seen ", "rest"], "gate": "grace", "gate_at": 1}'
GOES_ON = '!script {"chunks": ["seen ", "rest"], "gate": "never", "gate_at": 1}'


@dataclass
class Reading:
    """A reader of one answer, until its end."""

    message: str
    began: asyncio.Event = field(default_factory=asyncio.Event)
    stream: Stream | None = None
    frames: list[dict[str, Any]] = field(default_factory=list)

    async def over_sse(self, server: ServerProcess) -> None:
        async with (
            httpx.AsyncClient(base_url=server.url, headers=HEADERS, timeout=60, trust_env=False) as http,
            http.stream("POST", "/chat", json={"message": self.message}) as response,
        ):
            self.stream = Stream(response.status_code, response.headers)
            rest = ""
            async for text in response.aiter_text():
                *blocks, rest = (rest + text).split("\n\n")
                for block in blocks:
                    self.stream.add(block)
                if self.stream.events:
                    self.began.set()

    async def over_websocket(self, server: ServerProcess) -> None:
        async with connect(server.ws_url, proxy=None, additional_headers=HEADERS) as socket:
            await socket.send(json.dumps({"type": "chat", "id": "x", "message": self.message}))
            async for frame in socket:
                self.frames.append(json.loads(frame))
                if "chunk" in self.frames[-1]:
                    self.began.set()

    @property
    def part(self) -> Part:
        return self.stream or self.frames


async def begun(server: ServerProcess, count: int) -> list[tuple[Reading, asyncio.Task[None]]]:
    """Open ``count`` streams and wait until each has shown its first text."""
    readings = []
    for index in range(count):
        reading = Reading(ENDS_IN_TIME if index % 4 < 2 else GOES_ON)
        follow: Callable[[ServerProcess], Awaitable[None]] = reading.over_sse if index % 2 else reading.over_websocket
        readings.append((reading, asyncio.ensure_future(follow(server))))
    async with asyncio.timeout(30):
        await asyncio.gather(*(reading.began.wait() for reading, _task in readings))
    return readings


async def refusal_of(http: httpx.AsyncClient, method: str, path: str, **options: Any) -> dict[str, Any]:
    """Repeat a call until it is refused as 503, and return the problem."""
    async with asyncio.timeout(5):
        while (response := await http.request(method, path, **options)).status_code != 503:
            pass
    problem: dict[str, Any] = response.json()
    return problem


async def refused_frame(socket: ClientConnection) -> dict[str, Any]:
    await socket.send(json.dumps({"type": "chat", "id": "late", "message": "hello"}))
    frame: dict[str, Any] = json.loads(await socket.recv())
    assert frame["type"] == "refused"
    return dict(frame["error"])


async def no_longer_listened(server: ServerProcess) -> None:
    async with asyncio.timeout(LISTEN_SECONDS + 5):
        while True:
            try:
                _reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            except ConnectionRefusedError:
                return
            writer.close()
            await asyncio.sleep(0.05)


@pytest.mark.alone
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_p9_sigterm_lets_answers_end_and_tells_every_reader(
    number: int, serve: Serve, scripted: ScriptedUpstream
) -> None:
    [server] = await asyncio.to_thread(
        serve, DRAIN_LISTEN_SECONDS=str(LISTEN_SECONDS), DRAIN_SECONDS=str(GRACE_SECONDS)
    )
    readings = await begun(server, STREAMS)
    async with connect(server.ws_url, proxy=None, additional_headers=HEADERS) as socket:
        told_at = time.monotonic()
        server.signal(number)
        async with httpx.AsyncClient(base_url=server.url, headers=HEADERS, timeout=10, trust_env=False) as http:
            assert (await refusal_of(http, "GET", "/api/health/ready"))["errors"] == {"process": ["shutting down"]}
            assert (await http.get("/api/health")).headers["connection"] == "close", "elsewhere, next time"
        readings += await begun(server, 2)  # no balancer has looked away yet
        assert time.monotonic() - told_at < LISTEN_SECONDS, "too slow a machine for this time of listening"
        server.signal(number)  # an impatient supervisor; the grace period stays
        await no_longer_listened(server)
        await asyncio.to_thread(wait_for, lambda: "answers may go on for" in server.log.read_text())
        calls = len(scripted.completions)
        refused = await refused_frame(socket)
        assert (refused["code"], refused["retry_after"]) == ("shutting_down", 5)
    scripted.gate("grace").open()
    await asyncio.gather(*(task for reading, task in readings if reading.message == ENDS_IN_TIME and reading.stream))
    assert time.monotonic() - told_at < LISTEN_SECONDS + GRACE_SECONDS, "too slow a machine for this grace period"
    code = await asyncio.to_thread(server.wait, GRACE_SECONDS + END_SECONDS)
    took = time.monotonic() - told_at - LISTEN_SECONDS
    assert code == 0
    assert GRACE_SECONDS <= took < GRACE_SECONDS + END_SECONDS
    assert calls == len(scripted.completions) == STREAMS + 2
    await every_reader_was_told(server, readings)


@pytest.mark.alone
@pytest.mark.skipif(not is_full(), reason="daphne is for development: at full size only")
async def test_p9_a_server_that_listens_on_refuses_chats(serve: Serve, scripted: ScriptedUpstream) -> None:
    [server] = await asyncio.to_thread(serve, kind="daphne", DRAIN_SECONDS=str(GRACE_SECONDS))
    readings = await begun(server, STREAMS)
    server.signal(signal.SIGTERM)
    async with httpx.AsyncClient(base_url=server.url, headers=HEADERS, timeout=10, trust_env=False) as http:
        assert (await refusal_of(http, "GET", "/api/health/ready"))["errors"] == {"process": ["shutting down"]}
        assert (await refusal_of(http, "POST", "/chat", json={"message": "hello"}))["code"] == "shutting_down"
        refused = await http.post("/chat", json={"message": "hello"})
        assert (refused.headers["retry-after"], refused.headers["connection"]) == ("5", "close")
        async with connect(server.ws_url, proxy=None, additional_headers=HEADERS) as socket:
            assert (await refused_frame(socket))["code"] == "shutting_down"
        assert (await http.get("/conversations")).status_code == 200, "what is stored can still be read"
    scripted.gate("grace").open()
    assert await asyncio.to_thread(server.wait, GRACE_SECONDS + END_SECONDS) == 0
    await every_reader_was_told(server, readings)


async def every_reader_was_told(server: ServerProcess, readings: list[tuple[Reading, asyncio.Task[None]]]) -> None:
    """Compare what each was told with what is stored, after a restart."""
    await asyncio.gather(*(task for _reading, task in readings), return_exceptions=True)
    expected = {ENDS_IN_TIME: ("completed", "seen rest"), GOES_ON: ("interrupted", "seen ")}
    with server, server.client() as client:
        for reading, _task in readings:
            told = consistent(client, reading.part, within=0.0)
            assert (told.status, told.text) == expected[reading.message]


@pytest.mark.skipif(not is_full(), reason="waits for the time-outs of such readers: at full size only")
def test_p9_a_reader_that_never_reads_does_not_hold_up_the_end(serve: Serve, scripted: ScriptedUpstream) -> None:
    [server] = serve(DRAIN_SECONDS="0.5", providers={"MAX_ANSWER_BYTES": 1_000_000_000})
    with SilentClient(server) as over_sse, SilentClient(server) as over_websocket:
        scripted.default = answer("x" * 10_000, endless=True, delay=0.005)
        message = "hello"
        over_sse.post("/chat", {"message": message})
        over_websocket.open_socket()
        over_websocket.send_frame(type="chat", id="x", message=message)
        scripted.wait_until(lambda: scripted.calls == 2)
        server.signal(signal.SIGTERM)
        assert server.wait(0.5 + END_SECONDS) == 0
