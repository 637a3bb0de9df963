"""A server that sends without end beside its answer: it is given up, in bounds, and others do not notice it."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from llmproviders import exceptions as e
from tests.llmproviders.conftest import Ask, Limits
from tests.upstream import ScriptedUpstream, answer, raw

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
PAYS = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
FLOODS = {
    "informational responses": (b"", CONTINUE),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    "a head without end": (b"HTTP/1.1 200 OK\r\n", b"X-%d: y\r\n" % 7),
    "comments": (HEAD, b":\n\n"),
    "comments of some length": (HEAD, b": " + b"x" * 500 + b"\n\n"),
    "blank lines": (HEAD, b"\n"),
    "fields without data": (HEAD, b"id: 1\n\n"),
    "events without a meaning": (HEAD, b"event: ping\ndata: x\n\n"),
    "empty events": (HEAD, b"data: {}\n\n"),
    "comments behind some text": (HEAD + PAYS, b":\n\n"),
}


@asynccontextmanager
async def flooding(first: bytes, again: bytes) -> AsyncIterator[str]:
    """A server that answers every request with ``first``, and ``again`` for as long as somebody listens."""
    block = again * (65_536 // len(again))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(first)
            while True:
                writer.write(block)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions"


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_given_up(ask: Ask, limits: Limits, name: str) -> None:
    limits(MAX_ANSWER_BYTES=100_000, TOTAL_TIMEOUT=30)
    async with flooding(*FLOODS[name]) as url, asyncio.timeout(20):
        outcome = await ask(url=url)
    assert outcome.error is not None
    assert outcome.error.code == "upstream_protocol"
    assert outcome.content == ("a" if name == "comments behind some text" else "")


async def longest_stand(until: Awaitable[object]) -> float:
    """How long the event loop stood still at the worst, in seconds of the processor."""
    worst = 0.0
    task = asyncio.ensure_future(until)
    while not task.done():
        before = time.thread_time()
        await asyncio.sleep(0)
        worst = max(worst, time.thread_time() - before)
    await task
    return worst


@pytest.mark.parametrize("name", ["informational responses", "comments", "blank lines", "empty events"])
async def test_a_flood_keeps_nobody_waiting(ask: Ask, limits: Limits, name: str) -> None:
    limits(MAX_ANSWER_BYTES=400_000)
    stands = []
    while len(stands) < 3 and (not stands or stands[-1] >= 0.1):  # a machine's pause does not come each time
        async with flooding(*FLOODS[name]) as url:
            stands.append(await longest_stand(ask(url=url)))
    assert min(stands) < 0.1, stands


async def test_a_flood_takes_no_memory(ask: Ask) -> None:
    async with flooding(b"", CONTINUE) as url:
        tracemalloc.start()
        try:
            assert type((await ask(url=url)).error) is e.UpstreamProtocolError
            assert tracemalloc.get_traced_memory()[1] < 4_000_000
        finally:
            tracemalloc.stop()


async def test_a_few_informational_responses_are_passed_over(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [raw(CONTINUE * 3 + HEAD + PAYS + b"data: [DONE]\n\n")]
    assert (await ask()).content == "a"


async def test_a_model_that_thinks_in_empty_events_is_not_a_flood(ask: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script = [answer(*[""] * 3_000, "a")]
    assert (await ask()).content == "a"


Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]
WHOLE = b'{"choices": [{"message": {"content": "%s"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1,' + (
    b' "completion_tokens": 1}}'
)


def response(text: bytes, *, more: bytes = b"") -> bytes:
    body = WHOLE % text
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b%b" % (
        len(body),
        body,
        more,
    )


class Kept:
    """A server that keeps its connections: answers each, and sends ``after`` on an idle one when told."""

    def __init__(self, *, more: bytes = b"", after: bytes = b"", instead: bytes | None = None) -> None:
        self.more, self.after, self.instead = more, after, instead
        self.connections = self.requests = 0
        self.idle = asyncio.Event()
        self.spoil = asyncio.Event()
        self.spoilt = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        first = self.connections == 1
        try:
            await self._one(reader)
            writer.write(response(b"first" if first else b"new", more=self.more if first else b""))
            await writer.drain()
            if not first:
                return
            if self.instead is not None:  # what meets the next request
                await self._one(reader)
                writer.write(self.instead)
                return
            self.idle.set()
            await self.spoil.wait()
            writer.write(self.after)
            await writer.drain()
            self.spoilt.set()
            await self._one(reader)
            writer.write(response(b"second"))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.partition(b":")[2]))
        self.requests += 1


POISON = response(b"poison")
TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def kept(**options: bytes) -> AsyncIterator[tuple[Kept, str]]:
    server = Kept(**options)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        yield server, f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1/chat/completions"


@pytest.mark.usefixtures("upstream")
@pytest.mark.parametrize("junk", [POISON, POISON[:20], b"x", b"HT", TIMEOUT, CONTINUE, b"\r\n"])
async def test_a_connection_that_held_anything_unasked_is_not_used_again(ask: Ask, junk: bytes) -> None:
    async with kept(after=junk) as (server, url):
        assert (await ask(url=url)).content == "first"
        await server.idle.wait()
        server.spoil.set()
        await server.spoilt.wait()
        await asyncio.sleep(0.02)  # the client's loop reads it
        assert (await ask(url=url)).content == "new"
        assert server.requests == 2


@pytest.mark.usefixtures("upstream")
@pytest.mark.parametrize(
    "junk",
    [POISON, b"HT", b"HTTP/1.1 2", b"x"],
)
async def test_a_body_that_is_longer_than_announced_spoils_its_connection(ask: Ask, junk: bytes) -> None:
    async with kept(more=junk) as (server, url):
        server.spoil.set()
        assert (await ask(url=url)).content == "first"
        assert (await ask(url=url)).content in ("new", "second")
        assert (await ask(url=url)).content == "new"


@pytest.mark.usefixtures("upstream")
@pytest.mark.parametrize("instead", [b"", TIMEOUT], ids=["closed", "408"])
async def test_a_request_that_met_a_dead_idle_connection_is_sent_once_more(ask: Ask, instead: bytes) -> None:
    async with kept(instead=instead) as (server, url):
        assert (await ask(url=url)).content == "first"
        assert (await ask(url=url)).content == "new"
        assert server.connections == 2


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_new_connection_that_is_closed_is_not_tried_again(
    ask: Ask, upstream: ScriptedUpstream, how: str
) -> None:
    upstream.script = [answer("a", cut="headers", how=how)]
    assert type((await ask()).error) is e.UpstreamUnavailable
    assert upstream.calls == 1
