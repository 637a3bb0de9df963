"""How a connection is made: of several addresses, over TLS, and through a proxy. Real sockets, all on loopback.

Names are looked up in a table of the test's own; an address may be made not to answer, as one behind a firewall.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import socket
import ssl
import struct
import threading
import time
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmproviders.exceptions import AnswerCut, ProviderError, UpstreamTimeout, UpstreamUnavailable
from llmproviders.failures import BAD_CERTIFICATE, CONNECTION_REFUSED, NO_TLS, UNKNOWN_NAME, UNREACHABLE
from llmproviders.net import dial, pool
from llmproviders.net.deadline import Deadline
from llmproviders.net.dial import MAX_PROXY_BYTES, Origin, connect
from llmproviders.net.errors import NotConnectedError
from llmproviders.net.http import client_for, close_client, post_stream
from llmproviders.net.policy import Policy, policy_for
from llmproviders.types import SetBy
from tests.ports import free_port

from .certificates import self_signed, signed
from .conftest import Limits
from .listening import SECONDS, listening, until

OPERATOR = policy_for("operator")
V4, V6 = "127.0.0.1", "::1"
# Where nobody is: dialling these is refused here, and never tried.
NOWHERE = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1", "192.0.2.2"]
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"


# The wire -------------------------------------------------------------------------------------------------------
@dataclass
class Wire:
    """What names stand for, what does not answer, and what was dialled."""

    names: dict[str, list[str]] = field(default_factory=dict)
    # Addresses that answer once the event is set, if ever.
    late: dict[str, asyncio.Event] = field(default_factory=dict)
    failing: dict[str, OSError] = field(default_factory=dict)
    dialled: list[str] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)

    @property
    def open(self) -> int:
        """How many of the sockets that were dialled are not closed."""
        return sum(sock.fileno() != -1 for sock in self.sockets)

    def getaddrinfo(self, host: str, port: int, *_details: Any, **_options: Any) -> Any:
        self.looked_up.append(host)
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in self.names[host]
        ]


@pytest.fixture(autouse=True)
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    wire = Wire()
    real_connect, real_lookup = BaseSelectorEventLoop.sock_connect, socket.getaddrinfo

    async def sock_connect(loop: Any, sock: socket.socket, address: Any) -> None:
        wire.dialled.append(address[0])
        wire.sockets.append(sock)
        if address[0] in wire.late:
            await wire.late[address[0]].wait()
        if address[0] in wire.failing:
            raise wire.failing[address[0]]
        if address[0] not in (V4, V6):
            raise ConnectionRefusedError(111, "refused")
        await real_connect(loop, sock, address)

    def lookup(host: Any, *details: Any, **options: Any) -> Any:
        if host in (V4, V6):  # a test's own server, and what asyncio asks of an address
            return real_lookup(host, *details, **options)
        return wire.getaddrinfo(host, *details, **options)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr(BaseSelectorEventLoop, "sock_connect", sock_connect)
    return wire


@pytest.fixture(autouse=True)
async def whole_loop(wire: Wire) -> AsyncIterator[None]:
    """Each test leaves neither a socket nor a task of ours; the servers' half of a failed handshake is not heard."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    yield
    await close_client()
    await until(lambda: not wire.open)


# The other side -------------------------------------------------------------------------------------------------
async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer requests with a body of ``{}``, one after the other."""
    while True:
        await reader.readuntil(b"{}")
        writer.write(ANSWER)
        await writer.drain()


class Made(asyncio.Protocol):
    """A connection of a test's."""

    transport: asyncio.BaseTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


async def dialled(host: str, port: int, policy: Policy = OPERATOR) -> str:
    """Connect, close, and return the address that accepted."""
    made = await connect(Origin("http", host, port), policy, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), Made)
    peer: str = made.transport.get_extra_info("peername")[0]
    made.transport.close()
    return peer


async def post(url: str, *, set_by: SetBy = "operator") -> bytes:
    with Deadline(SECONDS) as deadline:
        async with post_stream(
            url, policy=policy_for(set_by), body=b"{}", headers={}, model="m", deadline=deadline
        ) as reply:
            return await reply.read_all(100_000)


async def failure(url: str) -> tuple[type[ProviderError], str]:
    with pytest.raises(ProviderError) as caught:
        await post(url)
    return type(caught.value), str(caught.value)


# Several addresses ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("addresses", [[V6, V4], ["192.0.2.1", V4], [*NOWHERE, V4]])
async def test_a_refused_address_is_passed_over_at_once(
    addresses: list[str], wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "STAGGER_SECONDS", SECONDS)
    wire.names["many.test"] = addresses
    async with listening(answering) as port:
        before = asyncio.get_running_loop().time()
        assert await dialled("many.test", port) == V4
        assert asyncio.get_running_loop().time() - before < SECONDS / 2
    assert sorted(wire.dialled) == sorted(addresses)
    assert wire.looked_up == ["many.test"]


@pytest.mark.parametrize(("dead", "alive"), [(V6, V4), (V4, V6), ("192.0.2.1", V4)])
async def test_an_address_that_does_not_answer_holds_up_the_next_for_a_moment(
    dead: str, alive: str, wire: Wire
) -> None:
    wire.names["two.test"] = [dead, alive]
    wire.late[dead] = asyncio.Event()
    async with listening(answering, alive) as port:
        before = asyncio.get_running_loop().time()
        assert await dialled("two.test", port) == alive
        assert 0.9 * dial.STAGGER_SECONDS < asyncio.get_running_loop().time() - before < SECONDS / 2
    assert wire.dialled == [dead, alive]
    await until(lambda: not wire.open)


async def test_the_first_may_still_win_when_the_next_was_tried(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "STAGGER_SECONDS", 0.01)
    wire.names["two.test"] = [V4, V6]
    wire.late = {V4: asyncio.Event(), V6: asyncio.Event()}
    async with listening(answering) as port:
        task = asyncio.create_task(dialled("two.test", port))
        await until(lambda: len(wire.dialled) == 2)
        wire.late[V4].set()
        assert await task == V4
        await until(lambda: not wire.open)


async def test_of_several_that_accept_in_the_same_moment_one_stays(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "STAGGER_SECONDS", 0)
    wire.names["three.test"] = [V4, V4, V4]
    wire.late[V4] = asyncio.Event()
    async with listening(answering) as port:
        task = asyncio.create_task(dialled("three.test", port))
        await until(lambda: len(wire.dialled) == 3)
        wire.late[V4].set()
        assert await task == V4
        await until(lambda: not wire.open)


async def test_both_families_are_dialled_in_turn(wire: Wire) -> None:
    wire.names["many.test"] = NOWHERE
    with pytest.raises(NotConnectedError):
        await dialled("many.test", 1)
    assert wire.dialled == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3"]


@pytest.mark.parametrize(
    ("failing", "reason"),
    [
        ({}, CONNECTION_REFUSED),
        (dict.fromkeys(NOWHERE, OSError(113, "No route to host")), UNREACHABLE),
        (dict.fromkeys(NOWHERE[1:], OSError(101, "Network is unreachable")), CONNECTION_REFUSED),
        (dict.fromkeys(NOWHERE[:1], TimeoutError(110, "Connection timed out")), CONNECTION_REFUSED),
    ],
)
async def test_when_all_fail_there_is_one_error(failing: dict[str, OSError], reason: str, wire: Wire) -> None:
    wire.names["many.test"], wire.failing = NOWHERE, failing
    with pytest.raises(NotConnectedError) as caught:
        await dialled("many.test", 1)
    assert caught.value.reason == reason
    assert isinstance(caught.value.__cause__, OSError)
    assert len(wire.dialled) == len(NOWHERE)
    assert not wire.open


async def test_when_none_answers_the_time_ends_it(wire: Wire, limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "STAGGER_SECONDS", 0)
    limits(CONNECT_TIMEOUT=2.0)
    wire.names["many.test"] = NOWHERE
    wire.late = {address: asyncio.Event() for address in NOWHERE}
    assert (await failure("http://many.test/"))[0] is UpstreamTimeout
    assert len(wire.dialled) == len(NOWHERE)
    await until(lambda: not wire.open)


async def test_being_cancelled_closes_all_that_are_tried(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "STAGGER_SECONDS", 0)
    wire.names["many.test"] = NOWHERE
    wire.late = {address: asyncio.Event() for address in NOWHERE}
    tasks = asyncio.all_tasks()
    task = asyncio.create_task(dialled("many.test", 1))
    await until(lambda: len(wire.dialled) == len(NOWHERE))
    assert wire.open == len(NOWHERE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not wire.open)
    assert asyncio.all_tasks() == tasks


@pytest.mark.parametrize("times", [1, 2])
async def test_at_whatever_step_it_is_cancelled_no_socket_stays(
    times: int, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one won, and the others are given up, is no moment in which the winner may be forgotten."""
    monkeypatch.setattr(dial, "STAGGER_SECONDS", 0)
    wire.names["many.test"] = [V6, V4, "192.0.2.1", V4]
    wire.late[V6] = asyncio.Event()
    won = steps = 0
    async with listening(answering, seconds=120) as port:
        while won < 3:
            steps += 1
            task = asyncio.create_task(dialled("many.test", port))
            for _ in range(steps):
                await asyncio.sleep(0)
            for _ in range(times):
                task.cancel()
                await asyncio.sleep(0)
            outcome = (await asyncio.gather(task, return_exceptions=True))[0]
            assert outcome == V4 or isinstance(outcome, asyncio.CancelledError)
            won += outcome == V4
            await until(lambda: not wire.open)
    assert steps > 3


async def test_a_name_is_looked_up_as_it_is_spelt(wire: Wire) -> None:
    """Not as what its xn-- stands for: by older rules that may be another name (fass for faß)."""
    name = "xn--fa-hia.test"
    wire.names[name] = [V4]
    heads: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"{}"))
        writer.write(ANSWER)
        await reader.read()

    async with listening(handler) as port:
        assert await post(f"http://{name}:{port}/") == b"body"
    assert wire.looked_up == [name]
    assert b"\r\nHost: %b:%d\r\n" % (name.encode(), port) in heads[0]


async def test_an_address_in_place_of_a_name_is_not_looked_up(wire: Wire) -> None:
    for host, in_url in ((V4, V4), (V6, f"[{V6}]")):
        async with listening(answering, host) as port:
            assert await post(f"http://{in_url}:{port}/") == b"body"
    assert wire.looked_up == []
    assert wire.dialled == [V4, V6]


# TLS ------------------------------------------------------------------------------------------------------------
@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Have an authority trusted as its operator would: by ``SSL_CERT_FILE``."""

    def trust(authority: Path) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        pool._tls.cache_clear()

    yield trust
    pool._tls.cache_clear()


Trust = Callable[[Path], None]


@pytest.fixture
def tls(wire: Wire, tmp_path: Path, trusted: Trust) -> ssl.SSLContext:
    """A server's context for ``tls.test``, whose authority is trusted."""
    wire.names["tls.test"] = wire.names["other.test"] = [V4]
    context, authority = signed(tmp_path, "tls.test")
    trusted(authority)
    return context


@contextmanager
def ending_tcp_alone(context: ssl.SSLContext, head: bytes, size: int) -> Iterator[int]:
    """A server over TLS that ends the connection beneath it, as many do, once its answer is sent; its port."""

    def serve() -> None:
        accepted, _address = listener.accept()
        with accepted, context.wrap_socket(accepted, server_side=True) as secure:
            secure.recv(65_536)
            secure.sendall(head + b"x" * size)
            with socket.socket(fileno=os.dup(secure.fileno())) as beneath:
                beneath.shutdown(socket.SHUT_WR)

    with socket.create_server((V4, 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(20)


@pytest.mark.parametrize("size", [50_000, 90_000])
@pytest.mark.parametrize("announced", [True, False])
async def test_an_answer_over_tls_is_whole_where_its_server_ends_tcp_alone(
    size: int, announced: bool, tls: ssl.SSLContext
) -> None:
    """Also where the loop is busy as it comes, and takes all of it at once."""
    length = b"Content-Length: %d\r\n" % size if announced else b""
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n%b\r\n" % length
    for busy in (0.0, 0.1):
        with ending_tcp_alone(tls, head, size) as port:
            asyncio.get_running_loop().call_later(0.002, time.sleep, busy)
            assert len(await post(f"https://tls.test:{port}/")) == size


async def test_an_authority_of_the_operators_own_is_trusted_and_a_connection_kept(
    tls: ssl.SSLContext, wire: Wire
) -> None:
    async with listening(answering, ssl=tls) as port:
        for _ in range(3):
            assert await post(f"https://tls.test:{port}/") == b"body"
        async with client_for(OPERATOR) as client:
            assert (await client.post(f"https://tls.test:{port}/", content=b"{}")).content == b"body"
    assert len(wire.dialled) == 1


async def test_a_certificate_of_another_host_is_not_valid(tls: ssl.SSLContext) -> None:
    async with listening(answering, ssl=tls) as port:
        for host in ("other.test", V4):
            assert await failure(f"https://{host}:{port}/") == (UpstreamUnavailable, BAD_CERTIFICATE)
        async with client_for(OPERATOR) as client:
            with pytest.raises(httpx.ConnectError, match="certificate"):
                await client.get(f"https://other.test:{port}/")


async def test_a_certificate_whose_time_has_passed_is_not_valid(wire: Wire, tmp_path: Path, trusted: Trust) -> None:
    wire.names["tls.test"] = [V4]
    context, authority = signed(tmp_path, "tls.test", days=-1)
    trusted(authority)
    async with listening(answering, ssl=context) as port:
        assert await failure(f"https://tls.test:{port}/") == (UpstreamUnavailable, BAD_CERTIFICATE)


async def test_a_certificate_that_signs_itself_is_not_valid_beside_an_authority_that_is_trusted(
    tls: ssl.SSLContext, tmp_path: Path
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    context, _ = self_signed(folder, "tls.test")
    async with listening(answering, ssl=context) as port:
        assert await failure(f"https://tls.test:{port}/") == (UpstreamUnavailable, BAD_CERTIFICATE)


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28", b"\x16\x03"]
)
@pytest.mark.parametrize("end", ["fin", "rst"])
async def test_a_server_that_speaks_no_tls_is_told_apart(said: bytes, end: str, tls: ssl.SSLContext) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(said)
        if end == "rst":
            reset(writer)

    async with listening(handler) as port:
        assert await failure(f"https://tls.test:{port}/") == (UpstreamUnavailable, NO_TLS)


async def test_a_server_that_is_silent_in_the_handshake_is_left_in_time(
    tls: ssl.SSLContext, wire: Wire, limits: Limits
) -> None:
    limits(CONNECT_TIMEOUT=0.1)

    async def handler(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass

    async with listening(handler) as port:
        assert (await failure(f"https://tls.test:{port}/"))[0] is UpstreamTimeout
        await until(lambda: not wire.open)


async def test_a_large_answer_over_tls_is_whole_and_waits_for_its_reader(tls: ssl.SSLContext) -> None:
    size, sent = 16_000_000, 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // 10_000):
            writer.write(bytes(range(250)) * 40)
            await writer.drain()
            sent += 10_000
        await reader.read()

    async with listening(handler, ssl=tls) as port:
        with Deadline(SECONDS) as deadline:
            async with post_stream(
                f"https://tls.test:{port}/", policy=OPERATOR, body=b"{}", headers={}, model="m", deadline=deadline
            ) as reply:
                before = -1
                while sent > before:
                    before = sent
                    for _ in range(500):
                        await asyncio.sleep(0)
                assert sent < size
                body = await reply.read_all(size)
    assert body == bytes(range(250)) * (size // 250)


@pytest.mark.parametrize("head", [b"Content-Length: 9\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n4\r\n"])
async def test_an_answer_over_tls_that_is_broken_off_is_not_whole(head: bytes, tls: ssl.SSLContext) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"body")

    async with listening(handler, ssl=tls) as port:
        assert (await failure(f"https://tls.test:{port}/"))[0] is AnswerCut


async def test_an_answer_over_tls_may_end_with_its_connection(tls: ssl.SSLContext) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nbody")

    async with listening(handler, ssl=tls) as port:
        assert await post(f"https://tls.test:{port}/") == b"body"


# A proxy --------------------------------------------------------------------------------------------------------
def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a RST in place of a FIN."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@dataclass
class Proxy:
    """Connects clients with ports of loopback, whatever host they name, once it has said ``reply``."""

    replies: list[bytes] = field(default_factory=lambda: [b"HTTP/1.1 200 Connection established\r\n\r\n"])
    end: str = ""
    port: int = 0
    heads: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        target = int(head.split(b" ")[1].rpartition(b":")[2])
        for part in self.replies:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        if self.end == "rst":
            reset(writer)
        elif self.end == "stays":
            await reader.read()
        elif not self.end:
            onward = await asyncio.open_connection(V6 if b"[" in head else V4, target)
            try:
                await asyncio.gather(carry(reader, onward[1]), carry(onward[0], writer))
            finally:
                onward[1].close()

    @property
    def asked(self) -> list[bytes]:
        """The first line of each request."""
        return [head.split(b"\r\n")[0] for head in self.heads]


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


SECRETS = ("p@ss", "p%40ss", base64.b64encode(b"user:p@ss").decode())
Proxied = Callable[..., Any]


@pytest.fixture
def proxied(limits: Limits) -> Proxied:
    @asynccontextmanager
    async def proxied(*replies: bytes, end: str = "") -> AsyncIterator[Proxy]:
        proxy = Proxy(list(replies), end) if replies or end else Proxy()
        async with listening(proxy.serve) as proxy.port:
            limits(UPSTREAM_PROXY=f"http://user:p%40ss@127.0.0.1:{proxy.port}")
            yield proxy

    return proxied


async def test_the_operators_calls_go_through_their_proxy_which_looks_the_name_up(
    proxied: Proxied, wire: Wire
) -> None:
    async with listening(answering) as port, proxied() as proxy:
        for _ in range(2):
            assert await post(f"http://only-the-proxy-knows.test:{port}/") == b"body"
    host = b"only-the-proxy-knows.test:%d" % port
    assert proxy.heads == [
        b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: Basic %b\r\n\r\n"
        % (host, host, base64.b64encode(b"user:p@ss"))
    ]
    assert wire.looked_up == []


async def test_tls_is_with_the_server_behind_the_proxy(proxied: Proxied, tls: ssl.SSLContext, wire: Wire) -> None:
    async with listening(answering, ssl=tls) as port, proxied() as proxy:
        assert await post(f"https://tls.test:{port}/") == b"body"
        assert await failure(f"https://other.test:{port}/") == (UpstreamUnavailable, BAD_CERTIFICATE)
    assert proxy.asked == [b"CONNECT tls.test:%d HTTP/1.1" % port, b"CONNECT other.test:%d HTTP/1.1" % port]
    assert wire.looked_up == []


async def test_an_ipv6_address_is_named_to_the_proxy_in_brackets(proxied: Proxied) -> None:
    async with listening(answering, V6) as port, proxied() as proxy:
        assert await post(f"http://[2606:2800:21f:cb07::1]:{port}/") == b"body"
    assert proxy.asked == [b"CONNECT [2606:2800:21f:cb07::1]:%d HTTP/1.1" % port]


async def test_a_proxy_without_a_password_is_sent_none(proxied: Proxied, limits: Limits, wire: Wire) -> None:
    wire.names["proxy.test"] = [V6, V4]
    async with listening(answering) as port, proxied() as proxy:
        limits(UPSTREAM_PROXY=f"http://proxy.test:{proxy.port}")
        assert await post(f"http://outside.test:{port}/") == b"body"
        limits(UPSTREAM_PROXY=f"http://:@proxy.test:{proxy.port}")
    assert b"authorization" not in proxy.heads[0].lower()
    assert wire.looked_up == ["proxy.test"]


@pytest.mark.parametrize("set_by", ["user", "program"])
async def test_nobody_elses_calls_go_through_the_operators_proxy(
    set_by: SetBy, proxied: Proxied, limits: Limits
) -> None:
    limits(ALLOWED_UPSTREAM_HOSTS=["127.0.0.1"])
    async with listening(answering) as port, proxied() as proxy:
        assert await post(f"http://127.0.0.1:{port}/", set_by=set_by) == b"body"
        async with client_for(policy_for(set_by)) as client:
            assert (await client.post(f"http://127.0.0.1:{port}/", content=b"{}")).content == b"body"
        assert proxy.heads == []
        assert await post(f"http://outside.test:{port}/") == b"body"
        assert len(proxy.heads) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "model", "model.internal", "listed.test"])
async def test_what_is_inside_or_listed_is_dialled_without_the_proxy(
    host: str, proxied: Proxied, limits: Limits, wire: Wire
) -> None:
    limits(ALLOWED_UPSTREAM_HOSTS=["listed.test"])
    wire.names |= {name: [V4] for name in ("localhost", "model", "model.internal", "listed.test")}
    async with listening(answering) as port, proxied() as proxy:
        assert await post(f"http://{host}:{port}/") == b"body"
        assert proxy.heads == []


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 Connection established\r\nProxy-Agent: x\r\nX: 407 \r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 \r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ],
)
async def test_what_a_proxy_says_when_it_has_connected_us(reply: bytes, proxied: Proxied) -> None:
    async with listening(answering) as port:
        for replies in ([reply], [reply[place : place + 1] for place in range(len(reply))]):
            async with proxied(*replies) as proxy:
                assert await post(f"http://outside.test:{port}/") == b"body"
                assert len(proxy.heads) == 1


PROXY_OK = b"HTTP/1.1 200 OK\r\n\r\n"
REFUSALS: dict[str, tuple[list[bytes], str]] = {
    "407": ([b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n"], "stays"),
    "502": ([b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\n", b"no!"], "stays"),
    "302": ([b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n"], "stays"),
    "403 that names a 200": ([b"HTTP/1.1 403 200 OK\r\nX: HTTP/1.1 200 OK\r\n\r\n"], "stays"),
    "a status of four digits": ([b"HTTP/1.1 2000 OK\r\n\r\n"], "stays"),
    "another protocol": ([b"SSH-2.0 200 OK\r\n\r\n"], "stays"),
    "an answer behind its own": ([PROXY_OK + ANSWER], "stays"),
    "a head behind its own": ([PROXY_OK + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], "stays"),
    "a byte behind its own": ([PROXY_OK + b"\n"], "stays"),
    "a head without end": ([PROXY_OK[:-2], *[b"X: %b\r\n" % (b"y" * 1000)] * (2 * MAX_PROXY_BYTES // 1000)], "stays"),
    "nothing, and it closes": ([], "fin"),
    "part of a head, and it closes": ([PROXY_OK[:-1]], "fin"),
    "nothing, and it resets": ([], "rst"),
    "part of a head, and it resets": ([PROXY_OK[:-1]], "rst"),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_proxy_that_does_not_connect_us_is_an_upstream_that_is_not_there(
    name: str, proxied: Proxied, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    replies, end = REFUSALS[name]
    async with listening(answering) as port, proxied(*replies, end=end) as proxy:
        for scheme in ("http", "https"):
            assert await failure(f"{scheme}://tls.test:{port}/") == (UpstreamUnavailable, UNREACHABLE)
        async with client_for(OPERATOR) as client:
            with pytest.raises(httpx.ConnectError, match="cannot be reached"):
                await client.get(f"http://tls.test:{port}/")
        await until(lambda: not wire.open)
        assert len(proxy.heads) == 3
    assert "upstream call host=tls.test" in caplog.text
    for secret in SECRETS:
        assert secret not in caplog.text


@pytest.mark.parametrize(
    ("host", "reason"),
    [("127.0.0.1", CONNECTION_REFUSED), ("unknown.test", UNKNOWN_NAME), ("192.0.2.1", CONNECTION_REFUSED)],
)
async def test_a_proxy_that_is_not_there(
    host: str, reason: str, limits: Limits, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    limits(UPSTREAM_PROXY=f"http://user:p%40ss@{host}:{free_port()}")
    assert await failure("http://tls.test/") == (UpstreamUnavailable, reason)
    for secret in SECRETS:
        assert secret not in caplog.text


async def test_a_proxy_that_says_nothing_is_left_in_time(proxied: Proxied, wire: Wire, limits: Limits) -> None:
    limits(CONNECT_TIMEOUT=0.1)
    async with proxied(end="stays"):
        assert (await failure("http://tls.test/"))[0] is UpstreamTimeout
        await until(lambda: not wire.open)


async def test_at_whatever_step_a_call_is_cancelled_it_leaves_no_socket_and_takes_no_room(
    proxied: Proxied, tls: ssl.SSLContext, wire: Wire, limits: Limits
) -> None:
    """As the proxy is dialled and asked, in the handshake, and in the call itself."""
    limits(MAX_CONNECTIONS=1)
    finished = steps = 0
    async with listening(answering, ssl=tls, seconds=120) as port, proxied() as proxy:
        while finished < 5:
            task = asyncio.create_task(post(f"https://tls.test:{port}/"))
            for _ in range(steps := steps + 1):
                await asyncio.sleep(0)
            task.cancel()
            outcome = (await asyncio.gather(task, return_exceptions=True))[0]
            assert outcome == b"body" or isinstance(outcome, asyncio.CancelledError)
            finished += outcome == b"body"
            await close_client()
            await until(lambda: not wire.open)
        assert await post(f"https://tls.test:{port}/") == b"body"
    assert steps > 20
    assert len(proxy.heads) > 10
