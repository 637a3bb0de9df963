"""Connections: made, reused, refused, timed out and closed, over real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from llmproviders.exceptions import (
    AnswerCut,
    AnswerTooLarge,
    ProviderError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from llmproviders.net import http
from llmproviders.net.deadline import Deadline
from llmproviders.net.http import close_client, post_stream
from llmproviders.net.policy import policy_for
from tests.llmproviders.certificates import self_signed
from tests.llmproviders.conftest import KEY, Ask
from tests.ports import free_port
from tests.upstream import ScriptedUpstream, answer, raw, status

Limits = Callable[..., None]
OPERATOR = policy_for("operator")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


async def post(url: str, *, seconds: float = 10.0, limit: int = 10_000) -> bytes:
    with Deadline(seconds) as deadline:
        async with post_stream(url, policy=OPERATOR, body=b"{}", headers={}, model="m", deadline=deadline) as reply:
            return await reply.read_all(limit)


async def failure(url: str, *, seconds: float = 10.0) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await post(url, seconds=seconds)
    return caught.value


@pytest.fixture(autouse=True)
async def closed_client() -> AsyncIterator[None]:
    """Each test has a loop of its own, and closes that loop's client."""
    yield
    await close_client()


# No connection ------------------------------------------------------------------------------------------------
async def test_a_refused_connection() -> None:
    error = await failure(f"http://127.0.0.1:{free_port()}/")
    assert (type(error), str(error)) == (UpstreamUnavailable, "The model's server refused the connection.")


async def test_a_name_that_is_not_known() -> None:
    error = await failure("http://no-such-host.invalid/")
    assert (type(error), str(error)) == (UpstreamUnavailable, "The name of the model's server is not known.")


@pytest.mark.parametrize(
    "url", ["http://a..b/", f"http://{'a' * 64}.example/", "http://2130706433/", "http://h:99999/"]
)
async def test_urls_that_only_the_client_refuses_are_typed_too(url: str) -> None:
    assert type(await failure(url)) is UpstreamUnavailable


async def test_a_server_that_does_not_accept(limits: Limits) -> None:
    limits(CONNECT_TIMEOUT=0.2)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        queue = [socket.socket() for _ in range(4)]
        try:
            for waiting in queue:
                waiting.setblocking(False)
                waiting.connect_ex(listening.getsockname())
            error = await failure(f"http://127.0.0.1:{listening.getsockname()[1]}/")
        finally:
            for waiting in queue:
                waiting.close()
    assert type(error) is UpstreamTimeout
    assert str(error) == "The model's server did not accept a connection in time."


async def test_a_server_without_tls() -> None:
    def handler(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"this is no TLS\r\n")
        writer.close()

    async with await asyncio.start_server(handler, "127.0.0.1", 0) as server:
        error = await failure(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert (type(error), str(error)) == (
        UpstreamUnavailable,
        "No secure connection to the model's server could be made.",
    )


async def test_a_certificate_that_nobody_trusts(tmp_path: Path) -> None:
    context, _ = self_signed(tmp_path)
    async with await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0, ssl=context) as server:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the server's half of the handshake
        error = await failure(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert (type(error), str(error)) == (UpstreamUnavailable, "The certificate of the model's server is not valid.")


# No answer ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_connection_closed_before_the_answer(upstream: ScriptedUpstream, how: str) -> None:
    upstream.script = [answer("a", cut="headers", how=how)]
    error = await failure(upstream.url)
    assert type(error) is UpstreamUnavailable
    assert str(error) == "The model's server closed the connection without an answer."


@pytest.mark.parametrize(
    "head", [b"what?\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000 + b"\r\n\r\n"]
)
async def test_an_answer_that_is_no_http(upstream: ScriptedUpstream, head: bytes) -> None:
    upstream.script = [raw(head)]
    assert type(await failure(upstream.url)) is UpstreamProtocolError


async def test_a_stall_before_the_head_ends_at_the_deadline_and_closes(upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("a", stall="headers")]
    assert type(await failure(upstream.url, seconds=0.2)) is UpstreamTimeout
    await upstream.until(lambda: upstream.open_connections == 0)


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_body_that_is_broken_off(upstream: ScriptedUpstream, how: str) -> None:
    upstream.script = [raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b"12345")]
    assert type(await failure(upstream.url)) is AnswerCut


async def test_a_compressed_answer_is_refused(upstream: ScriptedUpstream) -> None:
    upstream.script = [status(200, "x", {"Content-Encoding": "gzip"})]
    assert type(await failure(upstream.url)) is UpstreamProtocolError
    assert upstream.requests[0].headers["accept-encoding"] == "identity"


async def test_a_body_larger_than_its_limit(upstream: ScriptedUpstream) -> None:
    upstream.script = [status(200, "x" * 10_001)]
    assert type(await failure(upstream.url)) is AnswerTooLarge


async def test_a_redirect_is_not_followed(upstream: ScriptedUpstream) -> None:
    upstream.script = [status(302, "here", {"Location": upstream.url})]
    assert await post(upstream.url) == b"here"
    assert upstream.calls == 1


# Reuse --------------------------------------------------------------------------------------------------------
async def test_a_connection_is_used_again(upstream: ScriptedUpstream) -> None:
    upstream.script = [status(200, "one"), status(200, "two")]
    assert [await post(upstream.url), await post(upstream.url)] == [b"one", b"two"]
    assert upstream.connections == 1


async def test_leaving_early_closes_the_connection(upstream: ScriptedUpstream) -> None:
    upstream.script = [answer("a", endless=True)]
    with Deadline(10) as deadline:
        async with post_stream(
            upstream.url,
            policy=OPERATOR,
            body=b'{"stream": true}',
            headers={"Content-Type": "application/json"},
            model="m",
            deadline=deadline,
        ) as reply:
            assert await reply.read()
    await upstream.closed_by_client()
    await upstream.until(lambda: upstream.open_connections == 0)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"


def read_request(connection: socket.socket) -> bytes:
    request = b""
    while not request.endswith(b"{}") and (part := connection.recv(65_536)):
        request += part
    return request


@contextmanager
def poisoning_server(junk: bytes) -> Iterator[tuple[str, Callable[[], None], list[int]]]:
    """A server in a thread, and a function that has it send ``junk`` unasked on its first connection."""
    poison, poisoned = threading.Event(), threading.Event()
    served: list[int] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def serve_one(connection: socket.socket, number: int) -> None:
        with connection, suppress(ConnectionError):  # a connection with unread bytes is closed by a reset
            while read_request(connection):
                served.append(number)
                connection.sendall(OK + b"good")
                if len(served) == 1:
                    poison.wait(5)
                    connection.sendall(junk)
                    poisoned.set()

    def serve() -> None:
        for number in range(2):
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve_one, args=(connection, number), daemon=True).start()

    def send_junk() -> None:
        poison.set()
        assert poisoned.wait(5)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/", send_junk, served
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


@pytest.mark.parametrize("noticed", [True, False], ids=["read while idle", "still in the socket"])
@pytest.mark.parametrize("junk", [OK + b"evil", OK[:20], b"junk\r\n\r\n"], ids=["an answer", "part of one", "junk"])
async def test_bytes_on_an_idle_connection_never_become_an_answer(junk: bytes, noticed: bool) -> None:
    with poisoning_server(junk) as (url, send_junk, served):
        assert await post(url) == b"good"
        send_junk()  # blocks the loop, which has read nothing of it yet
        if noticed:
            for _ in range(10):
                await asyncio.sleep(0)
        assert await post(url) == b"good"
    if not noticed or junk == OK + b"evil":
        assert served == [0, 1]


async def test_cookies_are_not_kept(upstream: ScriptedUpstream) -> None:
    upstream.script = [status(200, "a", {"Set-Cookie": "who=me"}), status(200, "b")]
    await post(upstream.url)
    await post(upstream.url)
    assert "cookie" not in upstream.requests[1].headers


async def test_proxies_of_the_environment_are_not_used(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    upstream.script = [status(200, "direct")]
    assert await post(upstream.url) == b"direct"


def test_every_loop_has_its_client_and_those_of_closed_loops_are_forgotten() -> None:
    closed = asyncio.new_event_loop()
    closed.close()
    http._pools[closed] = {}

    async def use() -> None:
        async with ScriptedUpstream() as upstream:
            await post(upstream.url)
            assert asyncio.get_running_loop() in http._pools
            await close_client()
            assert asyncio.get_running_loop() not in http._pools
            await post(upstream.url)  # and works again
            await close_client()

    for _ in range(2):
        asyncio.run(use())
    assert closed not in http._pools


# The deadline -------------------------------------------------------------------------------------------------
async def test_a_deadline_ends_a_wait() -> None:
    with Deadline(10) as deadline:
        deadline.set(0.01, "too slow")
        with pytest.raises(UpstreamTimeout, match="too slow"):
            await deadline.wait(asyncio.Event().wait())
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_deadline_can_be_moved_both_ways() -> None:
    with Deadline(10) as deadline:
        deadline.set(0.5, "first")
        await deadline.wait(asyncio.sleep(0))
        deadline.set(5, "second")
        await deadline.wait(asyncio.sleep(0.6))
        deadline.set(0.01, "third")
        async with asyncio.timeout(2):
            with pytest.raises(UpstreamTimeout, match="third"):
                await deadline.wait(asyncio.Event().wait())


async def test_no_wait_outlasts_the_total() -> None:
    with Deadline(0.02) as deadline:
        deadline.set(5, "between")
        with pytest.raises(UpstreamTimeout, match="did not finish its answer in time"):
            await deadline.wait(asyncio.Event().wait())


async def test_the_callers_own_work_is_not_interrupted() -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    with Deadline(10) as deadline:
        deadline.set(0.01, "too slow")
        await deadline.wait(asyncio.sleep(0))
        await asyncio.sleep(0.03)
        deadline.set(1, "next")
        assert await deadline.wait(asyncio.sleep(0, "fine")) == "fine"
    assert errors == []


async def test_a_whole_body_is_not_read_past_the_deadline(upstream: ScriptedUpstream) -> None:
    upstream.script = [status(200, "x" * 4_000_000)]
    with Deadline(10) as deadline:
        async with post_stream(
            upstream.url, policy=OPERATOR, body=b"{}", headers={}, model="m", deadline=deadline
        ) as reply:
            assert await reply.read()
            deadline.set(0, "over")
            with pytest.raises(UpstreamTimeout):
                await reply.read_all(4_000_000)


async def test_being_cancelled_is_no_timeout() -> None:
    waiting = asyncio.Event()

    async def call() -> None:
        with Deadline(10) as deadline:
            waiting.set()
            await deadline.wait(asyncio.Event().wait())

    task = asyncio.create_task(call())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# The log ------------------------------------------------------------------------------------------------------
async def test_the_log_names_host_model_and_status_and_no_secret(
    ask: Ask, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    upstream.script = [answer("a secret answer"), status(401, {"error": {"message": "no"}})]
    await ask("a secret question", url=f"{upstream.url}?api-key=query-secret")
    await ask(url=upstream.url)
    calls = [record.getMessage() for record in caplog.records if record.name == "llmproviders"]
    assert [call.rpartition(" ms=")[0] for call in calls] == [
        "upstream call host=127.0.0.1 model=test-model status=200",
        "upstream call host=127.0.0.1 model=test-model status=401",
    ]
    for secret in ("secret", KEY):
        assert secret not in caplog.text
