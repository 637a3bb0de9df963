"""P17: two processes behind a proxy are renewed one after the other, and nobody loses anything.

A new chat comes every tenth of a second meanwhile, and long answers run. No new chat is refused; an answer that can
end within the grace period does; every other has its end and its text.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from tests.conversations.helpers import Stream
from tests.deploy.files import BEHIND_A_PROXY, haproxy, nginx
from tests.entry import LOGIN, MAKE_KEYS, TOKEN
from tests.processes.server import ServerProcess, manage
from tests.proxies import HAProxy, Nginx, Proxy
from tests.upstream import ScriptedUpstream

from .conftest import Serve
from .sizes import size
from .truth import consistent

ROUNDS = size(1, 5)
GRACE_SECONDS = 6.0
END_SECONDS = 15.0
# As by default: the proxy has to see a renewed process again before the other's listener closes.
LISTEN = "3"
EVERY_SECONDS = 0.1
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
ENDS_IN_TIME = '!script {"chunks": ["tick "], "repeat": 20, "delay": 0.1}'
ENDS_IN_TIME_TEXT = "tick " * 20
GOES_ON = '!script {"chunks": ["seen ", "rest"], "gate": "never", "gate_at": 1}'
MANY = {"CONVERSATIONS_KEEP_LATEST": "100000"}


class Caller:
    """One chat through the proxy: what it asked, and all it got."""

    def __init__(self, message: str) -> None:
        self.message = message
        self.stream = Stream(0, httpx.Headers())
        self.began = asyncio.Event()

    async def chat(self, http: httpx.AsyncClient) -> None:
        async with http.stream("POST", "/chat", json={"message": self.message, "stream": True}) as response:
            self.stream = Stream(response.status_code, response.headers)
            assert response.status_code == 200, (await response.aread(), dict(response.headers))
            rest = ""
            async for piece in response.aiter_text():
                *whole, rest = (rest + piece).split("\n\n")
                for block in whole:
                    self.stream.add(block)
                if self.stream.events:
                    self.began.set()


async def _new_chats(http: httpx.AsyncClient, callers: list[Caller], over: asyncio.Event) -> None:
    """Begin a short chat every tenth of a second until the deploy is over, then see each one end."""
    async with asyncio.TaskGroup() as group:
        while not over.is_set():
            callers.append(Caller("hello"))
            group.create_task(callers[-1].chat(http))
            await asyncio.sleep(EVERY_SECONDS)


async def _long_answers(http: httpx.AsyncClient, group: asyncio.TaskGroup, message: str, count: int) -> list[Caller]:
    callers = [Caller(message) for _number in range(count)]
    for caller in callers:
        group.create_task(caller.chat(http))
    await asyncio.gather(*(caller.began.wait() for caller in callers))
    return callers


async def _renew(server: ServerProcess) -> None:
    """SIGTERM, as a service manager sends it; then the new version, and the next one only once it answers."""
    server.signal(signal.SIGTERM)
    assert await asyncio.to_thread(server.wait, GRACE_SECONDS + END_SECONDS) == 0
    await asyncio.to_thread(server.start)


@pytest.fixture(params=["nginx", "haproxy"])
def proxied(
    request: pytest.FixtureRequest, serve: Serve, database: Path
) -> Iterator[tuple[Sequence[ServerProcess], Proxy]]:
    seconds = {"DRAIN_SECONDS": str(GRACE_SECONDS), "DRAIN_LISTEN_SECONDS": LISTEN}
    servers = serve(count=2, **seconds, **BEHIND_A_PROXY, **MANY)
    if not LOGIN:
        manage(servers[0].env, "shell", "--command", MAKE_KEYS)
    proxy: AbstractContextManager[Proxy]
    proxy = Nginx(nginx(servers)) if request.param == "nginx" else HAProxy(lambda port: haproxy(servers, port))
    with proxy as front:
        yield servers, front


@pytest.mark.alone
async def test_p17_two_processes_are_renewed_and_nobody_loses_anything(
    proxied: tuple[Sequence[ServerProcess], Proxy], scripted: ScriptedUpstream
) -> None:
    servers, front = proxied
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=front.url, headers=HEADERS, timeout=60, trust_env=False, limits=limits
    ) as http:
        new: list[Caller] = []
        in_time: list[Caller] = []
        going_on: list[Caller] = []
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            chats = group.create_task(_new_chats(http, new, over))
            for _round in range(ROUNDS):
                for server in servers:
                    going_on += await _long_answers(http, group, GOES_ON, 4)
                    in_time += await _long_answers(http, group, ENDS_IN_TIME, 4)
                    await _renew(server)
            over.set()
            await chats
            scripted.gate("never").open()  # those that the last round left running on the process renewed before
    assert {caller.stream.done["status"] for caller in new} == {"completed"}
    assert {(caller.stream.done["status"], caller.stream.text) for caller in in_time} == {
        ("completed", ENDS_IN_TIME_TEXT)
    }
    ends = {(caller.stream.done["status"], caller.stream.text) for caller in going_on}
    assert ends <= {("interrupted", "seen "), ("completed", "seen rest")}
    assert ("interrupted", "seen ") in ends, "some were cut by the grace period, or this test shows nothing"
    with httpx.Client(base_url=servers[0].url, headers=HEADERS, timeout=60, trust_env=False) as client:
        for caller in (*new, *in_time, *going_on):
            consistent(client, caller.stream)
