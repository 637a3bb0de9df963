"""One answer as bytes, and the connections that carry them: over real sockets, from a server that sends what it is
told, in the slices it is told.

What a test gets is the right answer or a named error, never a wait without end and never a byte of another answer.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import cast

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmproviders.net import http, pool
from llmproviders.net.connection import BUFFER_BYTES, Connection, PlainConnection
from llmproviders.net.dial import Origin
from llmproviders.net.errors import ConnectionClosedError, MalformedAnswerError
from llmproviders.net.exchange import HIGH_WATER, MAX_HEAD_BYTES, Answer
from llmproviders.net.http import client_for, close_client
from llmproviders.net.policy import policy_for
from llmproviders.net.pool import Pool
from tests.ports import free_port

from .conftest import Limits
from .listening import SECONDS, listening, until

OPERATOR = policy_for("operator")
# What a test may take at the worst: whatever waits longer, hangs.
OK = b"HTTP/1.1 200 OK\r\n"
FOUR = OK + b"Content-Length: 4\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


# The server -----------------------------------------------------------------------------------------------------
class Conversation:
    """One connection as its server sees it."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = len(server.conversations)
        self.server = server
        self.reader, self.writer = reader, writer
        self.requests: list[bytes] = []

    async def request(self) -> bytes:
        """Read one request. Raises ``IncompleteReadError`` where the client sends no more."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
        body = await self.reader.readexactly(int(length.partition(b":")[2]))
        self.requests.append(head + body)
        self.server.requests.append(head + body)
        return head + body

    async def send(self, *slices: bytes) -> None:
        """Send each slice by itself, with a look of the loop at its sockets in between."""
        for part in slices:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def reset(self) -> None:
        """End it with a RST in place of a FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def left(self) -> None:
        """Wait until the client closes it."""
        while await self.reader.read(65_536):
            pass


Script = Callable[[Conversation], Awaitable[None]]


@dataclass
class Server:
    """Does on each of its connections what a script says, and counts them."""

    script: Script
    port: int = 0
    conversations: list[Conversation] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    open: int = 0
    tasks: set[asyncio.Task[None] | None] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def origin(self) -> Origin:
        return Origin("http", "127.0.0.1", self.port)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self.tasks.add(task)
        self.open += 1
        conversation = Conversation(self, reader, writer)
        self.conversations.append(conversation)
        try:
            await self.script(conversation)
        finally:
            self.open -= 1
            self.tasks.discard(task)


@asynccontextmanager
async def serving(script: Script, seconds: float = SECONDS) -> AsyncIterator[Server]:
    """A server on loopback, for so long at most. What the client has open is closed before it ends."""
    server = Server(script)
    async with listening(server.serve, seconds=seconds) as server.port:
        yield server


def sends(*slices: bytes, end: str = "") -> Script:
    """A script: read a request, send this, and end as told, or wait for the client to."""

    async def script(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(*slices)
        if end == "rst":
            conversation.reset()
        elif not end:
            await conversation.left()

    return script


def always(*slices: bytes) -> Script:
    """A script: answer every request with this."""

    async def script(conversation: Conversation) -> None:
        while await conversation.request():
            await conversation.send(*slices)

    return script


# The client -----------------------------------------------------------------------------------------------------
@dataclass
class Got:
    """All that came of one request on a connection of its own."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    error: type[Exception] | None = None
    # Whether the connection may carry another answer, as the client sees it.
    is_free: bool = False


async def connected(
    origin: Origin, *, on_free: Callable[[Connection], None] = lambda _: None, buffer: int = BUFFER_BYTES
) -> Connection:
    loop = asyncio.get_running_loop()
    closed = loop.create_future()

    def make() -> Connection:
        return PlainConnection(bytearray(buffer), origin, on_free=on_free, on_close=lambda _: closed.set_result(None))

    _transport, connection = await loop.create_connection(make, origin.host, origin.port)
    return connection


async def exchanged(*slices: bytes, end: str = "", has_body: bool = True) -> Got:
    """What a client makes of these bytes."""
    got = Got()
    freed: list[Connection] = []
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    async with serving(sends(*slices, end=end)) as server:
        connection = await connected(server.origin, on_free=freed.append)
        try:
            answer = await connection.ask(b"GET / HTTP/1.1\r\n\r\n", has_body=has_body)
        except (ConnectionClosedError, MalformedAnswerError) as error:
            got.error = type(error)
        else:
            got.status, got.headers = answer.status, answer.headers
            try:
                while part := await answer.read():
                    got.body += part
            except (ConnectionClosedError, MalformedAnswerError) as error:
                got.error = type(error)
            answer.release()
        got.is_free = freed == [connection]
        connection.abort()
        await asyncio.sleep(0)
    assert errors == []  # nothing that only the loop's log would tell of
    return got


async def all_of(connection: Connection) -> bytes:
    """Ask, and return the whole body."""
    answer = await connection.ask(b"GET / HTTP/1.1\r\n\r\n")
    try:
        body = b""
        while part := await answer.read():
            body += part
        return body
    finally:
        answer.release()


def each_byte(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


# Right answers: bytes, how they end, status, body, and whether the connection may carry another ---------------------
Right = tuple[bytes, str, int, bytes, bool]
RIGHT: dict[str, Right] = {
    "content-length": (FOUR + b"body", "", 200, b"body", True),
    "of no bytes": (OK + b"Content-Length: 0\r\n\r\n", "", 200, b"", True),
    "content-length with zeros in front": (OK + b"Content-Length: 0004\r\n\r\nbody", "", 200, b"body", True),
    "content-length with white space": (OK + b"Content-Length:  \t4 \t\r\n\r\nbody", "", 200, b"body", True),
    "content-length, whole before a FIN": (FOUR + b"body", "fin", 200, b"body", True),
    "names in any case": (OK + b"cOnTeNt-LENGTH: 4\r\n\r\nbody", "", 200, b"body", True),
    "a body that looks like an answer": (
        OK + b"Content-Length: %d\r\n\r\n%b" % (len(FOUR), FOUR),
        "",
        200,
        FOUR,
        True,
    ),
    "chunked": (CHUNKED + b"2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n", "", 200, b"body", True),
    "chunked, nothing in it": (CHUNKED + b"0\r\n\r\n", "", 200, b"", True),
    "sizes in capitals": (CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n", "", 200, b"0123456789", True),
    "sizes in small letters": (CHUNKED + b"b\r\n0123456789a\r\n0\r\n\r\n", "", 200, b"0123456789a", True),
    "sizes with zeros in front": (CHUNKED + b"0" * 30 + b"4\r\nbody\r\n000\r\n\r\n", "", 200, b"body", True),
    "extensions": (CHUNKED + b"4;a;b=c\r\nbody\r\n0;end\r\n\r\n", "", 200, b"body", True),
    "quoted extensions": (CHUNKED + b'4;a="; 9 \\" ";b="c"\r\nbody\r\n0\r\n\r\n', "", 200, b"body", True),
    "trailers": (CHUNKED + b"4\r\nbody\r\n0\r\nX: y\r\nZ:\r\n\r\n", "", 200, b"body", True),
    "chunks that look like the end": (
        CHUNKED + b"5\r\n0\r\n\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "",
        200,
        b"0\r\n\r\nbody",
        True,
    ),
    "transfer codings in capitals": (
        OK + b"Transfer-Encoding: CHUNKED\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "",
        200,
        b"body",
        True,
    ),
    "another coding, then chunked": (
        OK + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "",
        200,
        b"body",
        True,
    ),
    "until the end": (OK + b"\r\nbody", "fin", 200, b"body", False),
    "until the end, nothing": (OK + b"\r\n", "fin", 200, b"", False),
    "a coding that is not chunked": (OK + b"Transfer-Encoding: gzip\r\n\r\nbody", "fin", 200, b"body", False),
    "chunked, then another coding": (
        OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "fin",
        200,
        b"0\r\n\r\n",
        False,
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", "", 204, b"", True),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "", 304, b"", True),
    "304 that is chunked": (b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", "", 304, b"", True),
    "an error's status": (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbody", "", 503, b"body", True),
    "a status nobody knows": (b"HTTP/1.1 599 ?\r\nContent-Length: 4\r\n\r\nbody", "", 599, b"body", True),
    "no reason": (b"HTTP/1.1 200 \r\nContent-Length: 4\r\n\r\nbody", "", 200, b"body", True),
    "no reason, and no space for it": (b"HTTP/1.1 200\r\nContent-Length: 4\r\n\r\nbody", "", 200, b"body", True),
    "a reason of many words": (
        b"HTTP/1.1 200 \xe2\x9c\x93 All  is: well\r\nContent-Length: 4\r\n\r\nbody",
        "",
        200,
        b"body",
        True,
    ),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody", "", 200, b"body", False),
    "HTTP/1.0 until the end": (b"HTTP/1.0 200 OK\r\n\r\nbody", "fin", 200, b"body", False),
    "HTTP/1.0 that says it stays": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nbody",
        "",
        200,
        b"body",
        True,
    ),
    "Connection: close": (OK + b"Connection: close\r\nContent-Length: 4\r\n\r\nbody", "", 200, b"body", False),
    "Connection: close among others": (
        OK + b"Connection: x, Close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "",
        200,
        b"body",
        False,
    ),
    "100 before it": (CONTINUE + FOUR + b"body", "", 200, b"body", True),
    "hints before it": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nX: y\r\n\r\n" + FOUR + b"body",
        "",
        200,
        b"body",
        True,
    ),
    "100 with a length of none": (
        b"HTTP/1.1 100 Go\r\nContent-Length: 0\r\n\r\n" + FOUR + b"body",
        "",
        200,
        b"body",
        True,
    ),
    "sixteen before it": (CONTINUE * 16 + FOUR + b"body", "", 200, b"body", True),
    "informational, then nothing": (CONTINUE + b"HTTP/1.1 204 No Content\r\n\r\n", "", 204, b"", True),
    "empty lines in front": (b"\r\n\r\n" + FOUR + b"body", "", 200, b"body", True),
    "an offer of another protocol": (
        OK + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\nbody",
        "",
        200,
        b"body",
        True,
    ),
}
# No answers: bytes, how they end, what came of the body before, and the error ----------------------------------------
Wrong = tuple[bytes, str, bytes, type[Exception]]


def _wrong_heads() -> Iterator[tuple[str, bytes]]:
    for value in (
        b"-1",
        b"+4",
        b"0x4",
        b"4, 4",
        b"4 4",
        b"4;",
        b"four",
        b"",
        b"4.0",
        b"\xb2",
        b"1e1",
        b"9" * 30,
        b"1" * 4000,
    ):
        yield f"Content-Length: {value[:9].decode('latin-1')}", OK + b"Content-Length: " + value + b"\r\n\r\nbody"
    yield "a length of 2**64", OK + b"Content-Length: 18446744073709551616\r\n\r\nbody"
    yield "two lengths", OK + b"Content-Length: 4\r\nContent-Length: 2\r\n\r\nbody"
    yield "a length twice", OK + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody"
    yield "length, then chunked", OK + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    yield "chunked, then length", OK + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
    yield "no coding", OK + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n"
    yield "a folded header", OK + b"X: a\r\n b\r\nContent-Length: 4\r\n\r\nbody"
    yield "a folded length", OK + b"Content-Length: 1\r\n 0\r\n\r\nbodybodybo"
    yield "a folded first header", OK + b" X: a\r\nContent-Length: 4\r\n\r\nbody"
    yield "NUL in a value", OK + b"X: a\0b\r\nContent-Length: 4\r\n\r\nbody"
    yield "NUL in a name", OK + b"X\0: a\r\nContent-Length: 4\r\n\r\nbody"
    yield "CR in a value", OK + b"X: a\rContent-Length: 2\r\nContent-Length: 4\r\n\r\nbody"
    yield "LF in a value", OK + b"X: a\nContent-Length: 4\r\n\r\nbody"
    yield "a control character in a value", OK + b"X: a\x01\r\nContent-Length: 4\r\n\r\nbody"
    yield "white space before a colon", OK + b"Content-Length : 4\r\n\r\nbody"
    yield "a header without a name", OK + b": a\r\nContent-Length: 4\r\n\r\nbody"
    yield "a header without a colon", OK + b"Content-Length\r\n\r\nbody"
    yield "letters beyond ASCII in a name", OK + b"X\xff: a\r\nContent-Length: 4\r\n\r\nbody"
    yield "lines that end in LF", FOUR.replace(b"\r\n", b"\n") + b"body"
    yield "lines that end in CR", FOUR.replace(b"\r\n", b"\r") + b"body"
    yield "an empty line of LF", OK + b"Content-Length: 4\r\n\nbody"
    for line in (
        b"HTTP/1.1 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1 2x0 OK",
        b"HTTP/1.1",
        b"HTTP/1.2 200 OK",
        b"HTTP/11 200 OK",
        b"http/1.1 200 OK",
        b"HTTP 200 OK",
        b"ICY 200 OK",
        b"200 OK",
        b" HTTP/1.1 200 OK",
        b"HTTP/1.1 200 O\rK",
        b"POST / HTTP/1.1",
        b"\x16\x03\x01\x02",
        b"SSH-2.0-OpenSSH",
        b"\xef\xbb\xbfHTTP/1.1 200 OK",
    ):
        yield repr(line), line + b"\r\nContent-Length: 4\r\n\r\nbody"
    yield "seventeen before it", CONTINUE * 17 + FOUR + b"body"
    yield "101", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + FOUR + b"body"
    yield "101 alone", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    for status in (100, 102, 103, 104, 199):
        head = b"HTTP/1.1 %d I\r\n" % status
        yield f"{status} with a body", head + b"Content-Length: 4\r\n\r\nevil" + FOUR + b"body"
        yield (
            f"{status} in chunks",
            head + b"Transfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n" + FOUR + b"body",
        )


def _wrong_chunks() -> Iterator[tuple[str, bytes]]:
    for size in (
        b"",
        b" 4",
        b"4 ",
        b"4\t",
        b"0x4",
        b"-4",
        b"+4",
        b"4.",
        b"g",
        b"4,",
        b"\xb2",
        b"4;",
        b"4; a",
        b"4 ;a",
        b'4;a="b',
        b'4;a="b\r\n"',
        b"4;a=\0",
        b"4;a\n",
        b"4\n",
        b"4\r",
        b"10000000000000000",
        b"f" * 17,
        b"1" + b"0" * 40,
    ):
        yield f"a chunk's size {size[:20]!r}", size + b"\r\nbody\r\n0\r\n\r\n"
    yield "a chunk that goes on behind its end", b"2\r\nbody\r\n0\r\n\r\n"
    yield "a chunk that ends in LF", b"4\r\nbody\n0\r\n\r\n"
    yield "NUL in a trailer", b"4\r\nbody\r\n0\r\nX: \0\r\n\r\n"
    yield "a length in a trailer", b"4\r\nbody\r\n0\r\nContent-Length: 9\r\n\r\n"
    yield "a folded trailer", b"4\r\nbody\r\n0\r\nX: a\r\n b\r\n\r\n"


WRONG: dict[str, Wrong] = {
    **{name: (data, "", b"", MalformedAnswerError) for name, data in _wrong_heads()},
    **{name: (CHUNKED + b"3\r\nfor\r\n" + data, "", b"for", MalformedAnswerError) for name, data in _wrong_chunks()},
    **{
        f"{name}, {end}": (data, end, body, ConnectionClosedError)
        for end in ("fin", "rst")
        for name, data, body in (
            ("nothing", b"", b""),
            ("part of a status line", b"HTTP/1.1 2", b""),
            ("part of a head", OK + b"Content-Le", b""),
            ("a head but for its last byte", FOUR[:-1], b""),
            ("only an informational head", CONTINUE, b""),
            ("less than announced", FOUR + b"bod", b"bod"),
            ("none of what was announced", FOUR, b""),
            ("far less than announced", OK + b"Content-Length: 18446744073709551615\r\n\r\nbody", b"body"),
            ("part of a chunk", CHUNKED + b"4\r\nbo", b"bo"),
            ("a far larger chunk", CHUNKED + b"ffffffffffffffff\r\nbody", b"body"),
            ("a chunk without its end", CHUNKED + b"4\r\nbody", b"body"),
            ("no last chunk", CHUNKED + b"4\r\nbody\r\n", b"body"),
            ("part of the last chunk", CHUNKED + b"4\r\nbody\r\n0\r\n", b"body"),
            ("part of the trailers", CHUNKED + b"4\r\nbody\r\n0\r\nX: y\r\n", b"body"),
        )
    },
    "until the end, rst": (OK + b"\r\nbody", "rst", b"body", ConnectionClosedError),
    "a coding that is not chunked, rst": (
        OK + b"Transfer-Encoding: gzip\r\n\r\nbody",
        "rst",
        b"body",
        ConnectionClosedError,
    ),
}


@pytest.mark.parametrize("sliced", [lambda data: [data], each_byte], ids=["whole", "by bytes"])
@pytest.mark.parametrize("name", RIGHT)
async def test_a_right_answer_is_read_as_it_was_meant(name: str, sliced: Callable[[bytes], list[bytes]]) -> None:
    data, end, status, body, is_free = RIGHT[name]
    got = await exchanged(*sliced(data), end=end)
    assert (got.status, got.body, got.error) == (status, body, None)
    assert got.is_free is is_free or (end == "fin" and not got.is_free)


@pytest.mark.parametrize("sliced", [lambda data: [data], each_byte], ids=["whole", "by bytes"])
@pytest.mark.parametrize("name", WRONG)
async def test_what_is_no_answer_ends_in_an_error_behind_what_came_before(
    name: str, sliced: Callable[[bytes], list[bytes]]
) -> None:
    data, end, body, error = WRONG[name]
    got = await exchanged(*sliced(data), end=end)
    assert got.error is not None
    assert issubclass(got.error, error)
    assert not got.is_free
    # Of a chunk that is spoilt behind its bytes, they may have come.
    assert got.body == body or (got.body.startswith(b"for") and b"forbody".startswith(got.body))


@pytest.mark.parametrize("head", [FOUR, CHUNKED, OK + b"\r\n", OK + b"Content-Length: 99999999\r\n\r\n"])
async def test_the_answer_to_head_has_no_body(head: bytes) -> None:
    got = await exchanged(head, has_body=False)
    assert (got.status, got.body, got.error) == (200, b"", None)


async def test_what_comes_behind_the_answer_to_head_is_nobodys() -> None:
    got = await exchanged(FOUR + b"body", has_body=False)
    assert (got.status, got.body, got.is_free) == (200, b"", False)


async def test_headers_are_kept_as_they_came_and_those_of_informational_answers_are_not() -> None:
    got = await exchanged(
        b"HTTP/1.1 103 Hints\r\nX-Hint: 1\r\n\r\n"
        + OK
        + b"X-Two: a\r\nX-TWO:\t b, c \r\nX-Empty:\r\nX-Bytes: \xc3\xbc\xff\r\nX-Tab: a\tb\r\n"
        + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: 1\r\n\r\n"
    )
    assert [(name, value.rstrip(b" ")) for name, value in got.headers] == [
        (b"x-two", b"a"),
        (b"x-two", b"b, c"),
        (b"x-empty", b""),
        (b"x-bytes", b"\xc3\xbc\xff"),
        (b"x-tab", b"a\tb"),
        (b"transfer-encoding", b"chunked"),
    ]


async def test_a_header_that_came_twice_is_read_as_one() -> None:
    answer = fed([OK + b"X: a\r\nY: c\r\nx: b\r\nContent-Length: 0\r\n\r\n"])
    assert (answer.header(b"x"), answer.header(b"y"), answer.header(b"z")) == ("a, b", "c", "")


# Without end ----------------------------------------------------------------------------------------------------
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "status line": (b"HTTP/1.1 200 ", b"x"),
    "empty lines": (b"", b"\r\n"),
    "zeros of a length": (OK + b"Content-Length: ", b"0"),
    "header name": (OK, b"x"),
    "header value": (OK + b"X: ", b"x"),
    "spaces before a header value": (OK + b"X:", b" "),
    "headers": (OK, b"X: y\r\n"),
    "informational headers": (b"HTTP/1.1 103 Hints\r\n", b"X: y\r\n"),
    "informational answers": (b"", CONTINUE),
    "body of an informational answer": (b"HTTP/1.1 103 Hints\r\nContent-Length: 99999999\r\n\r\n", b"x"),
    "zeros of a chunk's size": (CHUNKED + b"3\r\nfor\r\n", b"0"),
    "chunk extension name": (CHUNKED + b"3\r\nfor\r\n4;", b"x"),
    "chunk extension value": (CHUNKED + b"3\r\nfor\r\n4;a=", b"x"),
    "quoted chunk extension value": (CHUNKED + b'3\r\nfor\r\n4;a="', b"x"),
    "chunk extensions": (CHUNKED + b"3\r\nfor\r\n4", b";a=b"),
    "trailer": (CHUNKED + b"3\r\nfor\r\n0\r\nX: ", b"x"),
    "trailers": (CHUNKED + b"3\r\nfor\r\n0\r\n", b"X: y\r\n"),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_what_has_no_end_is_given_up_in_bounds(name: str) -> None:
    first, again = ENDLESS[name]
    sent = 0

    async def script(conversation: Conversation) -> None:
        nonlocal sent
        await conversation.request()
        sock = conversation.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        conversation.writer.transport.set_write_buffer_limits(0)
        await conversation.send(first)
        while True:
            await conversation.send(again * (4096 // len(again)))
            sent += 4096

    async with serving(script) as server:
        connection = await connected(server.origin)
        with pytest.raises(MalformedAnswerError):
            await all_of(connection)
        await until(lambda: server.open == 0)
    assert sent < MAX_HEAD_BYTES + 1_000_000  # which the system may hold; as a rule it is two blocks


async def test_a_head_may_have_64_kilobytes_but_not_more() -> None:
    for size, error in ((60_000, None), (90_000, MalformedAnswerError)):
        head = OK + b"".join(b"X-%d: %b\r\n" % (number, b"x" * 992) for number in range(size // 1000))
        got = await exchanged(head + b"Content-Length: 4\r\n\r\nbody")
        assert got.error is error


async def test_an_answer_in_one_byte_chunks_is_no_flood() -> None:
    got = await exchanged(CHUNKED + b"1;x=123456789\r\na\r\n" * 20_000 + b"0\r\n\r\n")
    assert (got.body, got.error, got.is_free) == (b"a" * 20_000, None, True)


# Sliced at random -----------------------------------------------------------------------------------------------
class NoConnection:
    """What an ``Answer`` asks of its connection, without one."""

    def __init__(self) -> None:
        self.is_aborted = False

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def abort(self) -> None:
        self.is_aborted = True


def fed(slices: Iterable[bytes], end: str = "") -> Answer:
    connection = NoConnection()
    answer = Answer(cast(Connection, connection), has_body=True)
    for part in slices:
        if not connection.is_aborted:
            answer.feed(memoryview(part))
    if end and not connection.is_aborted:
        answer.end(None if end == "fin" else ConnectionResetError())
    return answer


def outcome(answer: Answer) -> tuple[object, ...]:
    error = None if answer.is_whole else answer._error
    return answer.status, answer.headers, b"".join(answer._parts), type(error), answer.has_head, answer.is_whole


@st.composite
def sliced(draw: st.DrawFn, data: bytes) -> list[bytes]:
    cuts = draw(st.sets(st.integers(1, len(data) - 1), max_size=8))
    return [data[start:end] for start, end in pairwise([0, *sorted(cuts), len(data)])]


RANDOM = settings(max_examples=50)


@RANDOM
@given(st.data(), st.sampled_from(sorted(RIGHT)))
def test_where_a_right_answer_is_cut_makes_no_difference(data: st.DataObject, name: str) -> None:
    whole, end, status, body, _is_free = RIGHT[name]
    expected = outcome(fed([whole], end))
    got = outcome(fed(data.draw(sliced(whole)), end))
    assert got == expected
    assert (got[0], got[2], got[-1]) == (status, body, True)


BEGINNINGS = [data for data in [*(case[0] for case in RIGHT.values()), *(case[0] for case in WRONG.values())] if data]
SPOILS = [b"", b"\r\n", b"\0", b" ", b"\n", b"\r", b"0", b"9", b":", b";", b",", b"\xff", b"1xx", FOUR, CONTINUE]


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """An answer, right or not, with a few bytes changed, left out or put in."""
    data = bytearray(draw(st.sampled_from([data for data in BEGINNINGS if len(data) < 1000])))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(data)))
        data[place : place + draw(st.integers(0, 2))] = draw(st.sampled_from(SPOILS))
    return bytes(data) + b"\r\n"


@settings(max_examples=200)
@given(st.data(), spoilt(), st.sampled_from(["", "fin", "rst"]))
def test_whatever_comes_is_an_answer_or_a_named_error_wherever_it_is_cut(
    data: st.DataObject, whole: bytes, end: str
) -> None:
    expected, got = fed([whole], end), fed(data.draw(sliced(whole)), end)
    for answer in (expected, got):
        assert (
            answer.is_whole
            or answer._error is None
            or type(answer._error) in (ConnectionClosedError, MalformedAnswerError)
        )
        assert answer.is_whole or answer._error is not None or not end
    assert (got.is_whole, type(got._error)) == (expected.is_whole, type(expected._error))
    if expected.is_whole:
        assert outcome(got) == outcome(expected)


# How much is taken ----------------------------------------------------------------------------------------------
LARGE = 32_000_000


@asynccontextmanager
async def sending_much(head: bytes) -> AsyncIterator[tuple[Server, list[int]]]:
    """A server of a body of ``LARGE`` bytes, and what it was rid of so far."""
    sent: list[int] = []

    async def script(conversation: Conversation) -> None:
        await conversation.request()
        conversation.writer.transport.set_write_buffer_limits(0)
        await conversation.send(head)
        block = bytes(range(250)) * 400
        for _ in range(LARGE // len(block)):
            conversation.writer.write(block)
            await conversation.writer.drain()
            sent.append(len(block))

    async with serving(script) as server:
        yield server, sent


@pytest.mark.parametrize("head", [OK + b"Content-Length: %d\r\n\r\n" % LARGE, OK + b"\r\n"], ids=["length", "end"])
async def test_a_reader_that_does_not_read_lets_the_server_wait_and_loses_nothing(head: bytes) -> None:
    async with sending_much(head) as (server, sent):
        connection = await connected(server.origin)
        answer = await connection.ask(b"GET / HTTP/1.1\r\n\r\n")
        before = -1
        while len(sent) > before:
            before = len(sent)
            for _ in range(1000):
                await asyncio.sleep(0)
        assert HIGH_WATER < answer._size <= HIGH_WATER + BUFFER_BYTES
        assert sum(sent) < LARGE / 2  # which the system keeps for the most part
        size = place = 0
        while part := await answer.read():
            assert len(part) <= HIGH_WATER + BUFFER_BYTES
            assert part[0] == place
            size += len(part)
            place = (part[-1] + 1) % 250
        assert size == LARGE
        answer.release()


async def test_what_was_not_read_is_kept_for_its_reader_when_the_connection_breaks() -> None:
    async with serving(sends(OK + b"Content-Length: 99\r\n\r\nsome", end="rst")) as server:
        connection = await connected(server.origin)
        answer = await connection.ask(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: answer._error)
        assert await answer.read() == b"some"
        for _ in range(2):
            with pytest.raises(ConnectionClosedError):
                await answer.read()
        answer.release()


@pytest.mark.parametrize("head", [OK, OK + b"Content-Length: 99\r\n", OK + b"Transfer-Encoding: chunked\r\n"])
async def test_an_answer_that_we_broke_off_is_not_whole(head: bytes) -> None:
    """Not even one that would be, had the server ended it there."""
    async with serving(sends(head + b"\r\n4\r\nbody")) as server:
        answer = await shared_pool().post(server.url, {}, b"{}")
        await until(lambda: answer._parts)
        await close_client()
        assert await answer.read()
        with pytest.raises(ConnectionClosedError):
            await answer.read()
        answer.release()


# Used again -----------------------------------------------------------------------------------------------------
def shared_pool() -> Pool:
    """The running loop's pool for what the operator set: that of ``post_stream`` and ``client_for``."""
    return http._pool(OPERATOR)


async def posted(server: Server, *, read: bool = True, body: bytes = b"{}") -> tuple[int, bytes]:
    """Status and body of one call; with ``read`` off it is left at its head."""
    answer = await shared_pool().post(server.url, {}, body)
    try:
        said = b""
        while read and (part := await answer.read()):
            said += part
        return answer.status, said
    finally:
        answer.release()


@pytest.mark.parametrize("name", RIGHT)
async def test_a_connection_is_used_again_after_a_whole_answer_that_lets_it(name: str) -> None:
    data, end, status, body, is_free = RIGHT[name]

    async def script(conversation: Conversation) -> None:
        while await conversation.request():
            await conversation.send(data)
            if end:
                return

    async with serving(script) as server:
        for _ in range(3):
            assert await posted(server) == (status, body)
            if end:
                await until(lambda: server.open == 0)
        assert len(server.conversations) == (1 if is_free and not end else 3)
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    "data",
    [
        FOUR + b"bodyx",
        FOUR + b"bodyH",
        FOUR + b"body" + FOUR + b"evil",
        FOUR + b"body" + FOUR + b"ev",
        CHUNKED + b"4\r\nbody\r\n0\r\n\r\n0\r\n\r\n",
        CHUNKED + b"4\r\nbody\r\n0\r\n\r\n" + CONTINUE,
        OK + b"Connection: close\r\nContent-Length: 4\r\n\r\nbody" + FOUR + b"evil",
    ],
)
@pytest.mark.parametrize("cut", [0, 1], ids=["at once", "a byte of it first"])
async def test_more_than_was_announced_is_nobodys_answer(data: bytes, cut: int) -> None:
    """Where any of it is here when the answer ends; what comes once the next was asked for, nobody can tell apart."""
    place = max(data.find(end) + len(end) for end in (b"\r\n\r\nbody", b"\r\n0\r\n\r\n") if end in data)
    slices = [data[: place + cut], data[place + cut :]] if cut else [data]

    async def script(conversation: Conversation) -> None:
        while await conversation.request():
            await conversation.send(*(slices if conversation.number == 0 else [FOUR + b"next"]))

    async with serving(script) as server:
        assert await posted(server) == (200, b"body")
        for _ in range(3):
            assert await posted(server) == (200, b"next")
        assert len(server.conversations) == 2


async def test_bytes_that_follow_later_end_an_idle_connection() -> None:
    more = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(FOUR + b"body")
        await more.wait()
        await conversation.send(FOUR + b"evil")
        await conversation.left()

    async with serving(script) as server:
        assert await posted(server) == (200, b"body")
        assert server.open == 1
        more.set()
        await until(lambda: server.open == 0)
        assert await posted(server) == (200, b"body")
        assert len(server.conversations) == 2


@pytest.mark.parametrize("more", [FOUR + b"evil", b"H", b"\r\n", b""])
async def test_bytes_that_nobody_has_read_yet_end_an_idle_connection_too(more: bytes) -> None:
    """Or its end: the loop has not looked since they came."""
    async with serving(always(FOUR + b"body")) as server:
        assert await posted(server) == (200, b"body")
        with socket.socket(fileno=os.dup(server.conversations[0].writer.get_extra_info("socket").fileno())) as behind:
            behind.sendall(more) if more else behind.shutdown(socket.SHUT_WR)
        assert await posted(server) == (200, b"body")
        assert (len(server.conversations), len(server.requests)) == (2, 2)


async def test_an_answer_that_is_not_read_to_its_end_ends_its_connection() -> None:
    async with serving(always(FOUR + b"bo", b"dy")) as server:
        assert await posted(server, read=False) == (200, b"")
        await until(lambda: server.open == 0)
        assert await posted(server) == (200, b"body")
        assert len(server.conversations) == 2


async def test_a_request_that_is_not_sent_whole_ends_its_connection() -> None:
    """The server answered before it had read all; what it has not read would be its next request."""

    async def script(conversation: Conversation) -> None:
        await conversation.reader.readuntil(b"\r\n\r\n")
        cast(asyncio.Transport, conversation.writer.transport).pause_reading()
        await conversation.send(FOUR + b"body")
        await asyncio.Event().wait()

    async with serving(script) as server:
        for _ in range(2):
            assert await posted(server, body=b"x" * 30_000_000) == (200, b"body")
            await until(lambda: not shared_pool()._used)
            assert shared_pool()._idle == {}
        assert len(server.conversations) == 2


@pytest.mark.parametrize(
    ("instead", "end"),
    [
        (b"", "fin"),
        (b"", "rst"),
        (b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", ""),
        (b"HTTP/1.1 408 Request Timeout\r\n\r\n", "fin"),
    ],
)
async def test_a_request_that_met_a_dying_idle_connection_is_sent_once_more_on_a_new_one(
    instead: bytes, end: str
) -> None:
    """Dying is one that ends before anything of an answer, or says that it has waited long enough."""

    async def script(conversation: Conversation) -> None:
        await conversation.request()
        if conversation.number < 2:
            await conversation.send(FOUR + b"idle")
            await conversation.request()
        await conversation.send(instead)
        if end == "rst":
            conversation.reset()
        elif not end:
            await conversation.left()

    async with serving(script) as server:
        asked = [asyncio.create_task(shared_pool().post(server.url, {}, b"{}")) for _ in range(2)]
        for answer in [await task for task in asked]:
            assert await answer.read() == b"idle"
            answer.release()
        assert (len(server.conversations), len(server.requests)) == (2, 2)
        if b" 408 " in instead:
            assert (await posted(server))[0] == 408
        else:
            with pytest.raises((ConnectionClosedError, MalformedAnswerError)):
                await posted(server)
        # The other idle one was not tried.
        assert (len(server.conversations), len(server.requests)) == (3, 4)


@pytest.mark.parametrize(
    "instead",
    [
        *(b"H", b"HTTP/1.1 2", b"junk\r\n\r\n", OK, OK + b"Content-Le", OK + b"no header\r\n\r\n", CONTINUE),
        *(CONTINUE + b"junk\r\n\r\n", FOUR, FOUR + b"bo", CHUNKED + b"4\r\nbo", CHUNKED + b"junk\r\n"),
    ],
)
async def test_a_request_whose_answer_had_begun_is_not_sent_again(instead: bytes) -> None:
    """It may have been asked for, and cost, something."""

    async def script(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(FOUR + b"idle")
        await conversation.request()
        await conversation.send(instead)

    async with serving(script) as server:
        assert await posted(server) == (200, b"idle")
        with pytest.raises((ConnectionClosedError, MalformedAnswerError)):
            await posted(server)
        assert (len(server.conversations), len(server.requests)) == (1, 2)


async def test_a_new_connection_that_dies_is_not_tried_again() -> None:
    async with serving(sends(end="fin")) as server:
        with pytest.raises(ConnectionClosedError):
            await posted(server)
        assert len(server.requests) == 1


async def test_idle_connections_are_closed_after_a_while_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "KEEP_ALIVE_SECONDS", 0.1)
    loop = asyncio.get_running_loop()
    async with serving(always(FOUR + b"body")) as server:
        for number in (1, 2):  # and again, once all are closed
            for _ in range(2):
                freed = loop.time()
                assert await posted(server) == (200, b"body")
            await until(lambda: server.open == 0)
            assert loop.time() - freed >= 0.1
            await until(lambda: not shared_pool()._idle)
            assert len(server.conversations) == number


# Room -----------------------------------------------------------------------------------------------------------
async def test_who_finds_no_room_waits_until_somebody_leaves(limits: Limits) -> None:
    limits(MAX_CONNECTIONS=2)
    async with serving(always(FOUR + b"body")) as server:
        first, second = [await shared_pool().post(server.url, {}, b"{}") for _ in range(2)]
        third = asyncio.create_task(posted(server))
        for _ in range(50):
            await asyncio.sleep(0)
        assert (third.done(), len(server.requests)) == (False, 2)
        first.release()  # unread: its connection is closed, and another takes its place
        assert await third == (200, b"body")
        assert len(server.conversations) == 3
        second.release()


async def test_who_finds_no_room_for_long_is_told_so(limits: Limits) -> None:
    limits(MAX_CONNECTIONS=1, CONNECT_TIMEOUT=SECONDS)
    async with serving(always(FOUR + b"body")) as server:
        first = await shared_pool().post(server.url, {}, b"{}")
        limits(MAX_CONNECTIONS=1, CONNECT_TIMEOUT=0.05)
        with pytest.raises(TimeoutError):
            await posted(server)
        async with client_for(OPERATOR) as client:
            with pytest.raises(httpx.TimeoutException):
                await client.get(server.url)
        limits(MAX_CONNECTIONS=1, CONNECT_TIMEOUT=SECONDS)
        first.release()
        assert await posted(server) == (200, b"body")


async def test_what_fails_gives_its_room_back(limits: Limits) -> None:
    limits(MAX_CONNECTIONS=1, CONNECT_TIMEOUT=2)
    nobody = f"http://127.0.0.1:{free_port()}/"

    async def script(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send([b"", b"junk\r\n", FOUR + b"bo", FOUR + b"body"][conversation.number % 4])

    async with serving(script) as server:
        for _ in range(3):
            with pytest.raises(OSError, match="refused the connection"):
                await shared_pool().post(nobody, {}, b"{}")
            for error in (ConnectionClosedError, MalformedAnswerError, ConnectionClosedError):
                with pytest.raises(error):
                    await posted(server)
            assert await posted(server) == (200, b"body")


async def test_ten_thousand_cancelled_requests_leave_nothing_behind(limits: Limits) -> None:
    """Each is cancelled at a step that chance chose: as it waits for room, dials, sends or reads."""
    limits(MAX_CONNECTIONS=40, CONNECT_TIMEOUT=SECONDS)
    chance = random.Random(1)
    async with serving(always(FOUR + b"bo", b"dy"), seconds=120) as server:
        assert await posted(server) == (200, b"body")
        finished = 0
        for _batch in range(100):
            tasks = [asyncio.create_task(posted(server, read=chance.random() < 0.9)) for _ in range(100)]
            waiting = list(tasks)
            chance.shuffle(waiting)
            while waiting:
                await asyncio.sleep(0)
                for _ in range(min(len(waiting), chance.randrange(4))):
                    waiting.pop().cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                assert outcome in ((200, b"body"), (200, b"")) or isinstance(outcome, asyncio.CancelledError)
                finished += isinstance(outcome, tuple)
        assert 50 < finished < 9_950  # or chance cancelled all at one place
        ours = shared_pool()
        await until(lambda: not ours._used)
        assert (ours._room.locked(), ours._room._value) == (False, 40)
        idle = sum(map(len, ours._idle.values()))
        assert idle <= 40
        await until(lambda: server.open == idle)
        assert asyncio.all_tasks() == {asyncio.current_task(), *server.tasks}
        assert await posted(server) == (200, b"body")


# As httpx has it ------------------------------------------------------------------------------------------------
async def test_httpx_asks_and_is_answered_over_connections_that_are_kept() -> None:
    head = OK + b"X: a\r\nX: b\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\n"
    async with serving(always(head + b"body")) as server:
        async with client_for(OPERATOR) as client:
            got = await client.get(f"{server.url}?a=b", headers={"X-Mine": "yes"})
            assert (got.status_code, got.text, got.headers.get_list("x")) == (200, "body", ["a", "b"])
            assert (await client.post(server.url, content=b"data")).text == "body"
            assert (await client.post(server.url)).text == "body"
        assert await posted(server) == (200, b"body")  # the client is closed, the pool is not
        assert len(server.conversations) == 1
    get, post, empty, _ours = [request.lower() for request in server.requests]
    assert get.startswith(b"get /v1?a=b http/1.1\r\nhost: 127.0.0.1:%d\r\n" % server.port)
    assert b"\r\nx-mine: yes\r\n" in get
    assert b"content-length" not in get
    assert b"\r\ncontent-length: 4\r\n" in post
    assert post.endswith(b"\r\n\r\ndata")
    assert b"\r\ncontent-length: 0\r\n" in empty
    for request in (get, post, empty):
        assert request.count(b"\r\nhost:") == request.count(b"\r\nconnection:") == 1
        assert b"transfer-encoding" not in request


async def test_httpx_asks_for_a_head_alone() -> None:
    async with serving(always(FOUR)) as server, client_for(OPERATOR) as client:
        for _ in range(2):
            got = await client.head(server.url)
            assert (got.status_code, got.content, got.headers["content-length"]) == (200, b"", "4")


async def test_httpx_reads_a_body_as_it_comes() -> None:
    more = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.request()
        await conversation.send(CHUNKED + b"3\r\none\r\n")
        await more.wait()
        await conversation.send(b"3\r\ntwo\r\n0\r\n\r\n")
        await conversation.left()

    async with serving(script) as server, client_for(OPERATOR) as client, client.stream("GET", server.url) as response:
        parts = response.aiter_raw()
        assert await anext(parts) == b"one"
        more.set()
        assert [part async for part in parts] == [b"two"]
        assert server.open == 1


async def test_httpx_that_leaves_a_body_ends_its_connection() -> None:
    async with serving(sends(CHUNKED + b"3\r\none\r\n")) as server, client_for(OPERATOR) as client:
        async with client.stream("GET", server.url) as response:
            assert response.status_code == 200
        await until(lambda: server.open == 0)


@pytest.mark.parametrize(
    ("data", "end", "error"),
    [
        (b"", "fin", httpx.ReadError),
        (b"", "rst", httpx.ReadError),
        (FOUR + b"bo", "fin", httpx.ReadError),
        (OK + b"\r\nbo", "rst", httpx.ReadError),
        (b"junk\r\n\r\n", "", httpx.RemoteProtocolError),
        (CHUNKED + b"junk\r\n", "", httpx.RemoteProtocolError),
        (b"", "", httpx.ReadTimeout),
        (FOUR + b"bo", "", httpx.ReadTimeout),
    ],
)
async def test_httpx_names_what_goes_wrong(data: bytes, end: str, error: type[httpx.RequestError]) -> None:
    async with serving(sends(data, end=end)) as server, client_for(OPERATOR) as client:
        with pytest.raises(error) as caught:
            await client.get(
                server.url, timeout=httpx.Timeout(SECONDS, read=0.05 if error is httpx.ReadTimeout else SECONDS)
            )
        assert str(caught.value.request.url) == server.url
        await until(lambda: server.open == 0 and not shared_pool()._used)
        assert shared_pool()._idle == {}


async def test_httpx_names_a_connection_that_cannot_be_made() -> None:
    async with client_for(OPERATOR) as client:
        with pytest.raises(httpx.ConnectError, match="refused the connection"):
            await client.get(f"http://127.0.0.1:{free_port()}/")


@pytest.mark.parametrize("head", [OK + b"Content-Length: 100000\r\n\r\n", OK + b"\r\n"])
async def test_httpx_reads_no_more_than_an_answer_may_have(head: bytes, limits: Limits) -> None:
    async with serving(sends(head + b"x" * 100_000, end="fin")) as server, client_for(OPERATOR) as client:
        limits(MAX_ANSWER_BYTES=99_999)
        with pytest.raises(httpx.RemoteProtocolError, match="MAX_ANSWER_BYTES"):
            await client.get(server.url)
        limits(MAX_ANSWER_BYTES=100_000)
        assert len((await client.get(server.url)).content) == 100_000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "a\r\nY: b"),
        ("X", "a\nb"),
        ("X", "a\rb"),
        ("X", "a\0b"),
        ("X", "a\x7f"),
        ("X\r\nY", "a"),
        ("X:", "a"),
        ("X Y", "a"),
        ("", "a"),
    ],
)
async def test_headers_that_would_be_others_are_not_sent(name: str, value: str) -> None:
    async with serving(always(FOUR + b"body")) as server, client_for(OPERATOR) as client:
        with pytest.raises(httpx.LocalProtocolError, match="header"):
            await client.get(server.url, headers={name: value})
        with pytest.raises(ValueError, match="header"):
            await shared_pool().post(server.url, {name: value}, b"{}")
        assert await posted(server) == (200, b"body")
        assert len(server.requests) == 1


async def test_headers_of_framing_are_ours() -> None:
    headers = {"Host": "evil.test", "Content-Length": "9", "Transfer-Encoding": "chunked", "accept": "text/plain"}
    async with serving(always(FOUR + b"body")) as server:
        (await shared_pool().post(server.url, headers, b"{}")).release()
    head = server.requests[0].lower()
    assert [head.count(b"\r\n" + name) for name in (b"host:", b"content-length:", b"accept:")] == [1, 1, 1]
    assert b"\r\nhost: 127.0.0.1:%d\r\n" % server.port in head
    assert b"\r\ncontent-length: 2\r\n" in head
    assert b"\r\naccept: text/plain\r\n" in head
    assert b"transfer-encoding" not in head


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "file:///etc/passwd", "/v1"])
async def test_a_url_of_another_scheme_is_refused_by_name(url: str) -> None:
    with pytest.raises(ValueError, match="scheme"):
        await shared_pool().post(url, {}, b"{}")


def test_each_loop_has_connections_of_its_own() -> None:
    async def use() -> int:
        async with serving(always(FOUR + b"body")) as server:
            async with client_for(OPERATOR) as client:
                assert [(await client.get(server.url)).text for _ in range(2)] == ["body", "body"]
            assert await posted(server) == (200, b"body")
            return len(server.conversations)

    assert [asyncio.run(use()) for _ in range(3)] == [1, 1, 1]
