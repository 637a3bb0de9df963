"""What a client may send before any application sees it: sizes, times and forms, on real sockets."""

from __future__ import annotations

import base64
import re
import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import websockets

from chatproject.protocol import LINGER_SECONDS, MAX_FIELDS, MAX_HEAD_BYTES, MOST_WAITING

from .processes import Process, serving
from .raw import ask, connect, request, rest, send

pytestmark = pytest.mark.server

HEAD = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n"
HOST = b"Host: localhost"
HEALTH = b"GET /api/health HTTP/1.1"
CHUNKED = (
    b"POST /chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
)
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
MANY_LONG_FIELDS = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 2000) for number in range(40))
MEGABYTE = 1_048_576
HEAD_SECONDS = 2.0
BODY_SECONDS = 2.0


@pytest.fixture(scope="module")
def served(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, httpx.Client]]:
    """A server with short patience."""
    log = tmp_path_factory.mktemp("protocol") / "log"
    short = {"REQUEST_HEAD_SECONDS": str(HEAD_SECONDS), "REQUEST_BODY_SECONDS": str(BODY_SECONDS)}
    with serving(log, DATABASE_URL=database_url, **short) as (process, client):
        yield process, client


@pytest.fixture
def port(served: tuple[Process, httpx.Client]) -> int:
    return served[1].base_url.port or 0


def resident(process: Process) -> int:
    """Bytes that the process has in memory, and had at most."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found
    return int(found[1]) * 1024


# Sizes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(HEAD + b"X-Long: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n", id="one long field"),
        pytest.param(HEAD + b"X-" + b"a" * MAX_HEAD_BYTES + b": 1\r\n\r\n", id="one long name"),
        pytest.param(HEAD + MANY_LONG_FIELDS + b"\r\n", id="many long fields"),
        pytest.param(HEAD + b"".join(b"X-%d: 1\r\n" % n for n in range(MAX_FIELDS)) + b"\r\n", id="many fields"),
        pytest.param(b"GET /" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", id="a long path"),
        pytest.param(b"GET /?" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", id="a long query"),
        pytest.param(HEAD + b"X-Long: " + b"a" * MAX_HEAD_BYTES, id="a field without end"),
        pytest.param(HEAD + UPGRADE + b"X-Long: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n", id="a handshake"),
        pytest.param(b"\r\n" * MAX_HEAD_BYTES, id="blank lines"),
    ],
)  # fmt: skip
def test_a_head_that_is_too_large_is_refused(port: int, head: bytes) -> None:
    answer = ask(port, head)
    assert answer.status == 431
    assert b"connection: close" in answer.head
    assert answer.problem["code"] == "head_too_large"
    assert answer.problem["request_id"].encode() in answer.head


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(b"X-Long: " + b"a" * (MAX_HEAD_BYTES - 200), id="bytes"),
        pytest.param(b"\r\n".join(b"X-%d: 1" % n for n in range(MAX_FIELDS - 2)), id="fields"),
    ],
)
def test_a_head_within_the_bounds_is_answered(port: int, fields: bytes) -> None:
    assert ask(port, request(HEALTH, HOST, fields)).status == 200


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        pytest.param(HEAD + b"X-Long: ", b"a" * 65_536, id="one field"),
        pytest.param(HEAD, b"".join(b"X-%d: %s\r\n" % (n, b"a" * 60) for n in range(1000)), id="fields"),
        pytest.param(b"GET /", b"a" * 65_536, id="a path"),
        pytest.param(CHUNKED + b"2\r\n{}\r\n0\r\nX-Long: ", b"a" * 65_536, id="a field after the body"),
        pytest.param(CHUNKED + b"2;", b"a" * 65_536, id="an extension of a chunk"),
    ],
)
def test_a_flood_ends_soon_and_leaves_no_memory_behind(
    served: tuple[Process, httpx.Client], port: int, begin: bytes, piece: bytes
) -> None:
    before = resident(served[0])
    with connect(port) as connection:
        began = time.monotonic()
        send(connection, begin, *[piece] * 900)
        answer = rest(connection)
    assert answer.status in (431, None)  # None: the system dropped it, as we had closed meanwhile
    assert time.monotonic() - began < 10
    assert resident(served[0]) - before < 8 * MEGABYTE


def test_fields_after_a_chunked_body_are_none_of_the_head(port: int) -> None:
    """A proxy judged the head alone: what comes later must not say who is calling, or from where."""
    late = (
        b"Authorization: Bearer x\r\nX-Forwarded-For: 192.0.2.1\r\nHost: evil.example\r\nContent-Type: text/plain\r\n"
    )
    head = CHUNKED.replace(b"/chat", b"/conversations").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    answer = ask(port, head + b"2\r\n{}\r\n0\r\n" + late + b"\r\n")
    assert answer.status == 201, answer.raw


def test_a_second_request_on_the_connection_is_bounded_too(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(HEAD + b"\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        send(connection, HEAD, b"X-Long: " + b"a" * 2 * MAX_HEAD_BYTES + b"\r\n\r\n")
        assert rest(connection).status == 431


async def test_a_handshake_with_a_head_of_some_size_is_taken(port: int) -> None:
    """Browsers send every cookie of the host."""
    async with websockets.connect(
        f"ws://127.0.0.1:{port}/ws/chat", additional_headers={"Cookie": "a=" + "b" * 6000}
    ) as connection:
        await connection.send('{"type": "ping"}')
        assert "pong" in str(await connection.recv())


# Times ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "seconds"),
    [
        pytest.param(b"G", HEAD_SECONDS, id="a request line"),
        pytest.param(HEAD + b"X-Long: a", HEAD_SECONDS, id="a field"),
        pytest.param(HEAD + UPGRADE, HEAD_SECONDS, id="a handshake"),
        pytest.param(HEAD.replace(b"GET", b"POST") + b"Content-Length: 5\r\n\r\n{", BODY_SECONDS, id="a body"),
        pytest.param(CHUNKED + b"1\r\n{\r\n", BODY_SECONDS, id="a chunked body"),
    ],
)
def test_a_request_that_does_not_come_whole_is_ended(port: int, begin: bytes, seconds: float) -> None:
    began = time.monotonic()
    answer = ask(port, begin)
    assert answer.status == 408
    assert answer.problem["code"] == "request_timeout"
    assert seconds <= time.monotonic() - began < seconds + 10


def trickle(connection: socket.socket, piece: bytes) -> None:
    """Send a byte now and then, until the server has enough of it."""
    connection.settimeout(0.2)
    while True:
        send(connection, piece)
        try:
            if not connection.recv(65_536):
                return
        except TimeoutError:
            continue
        except ConnectionError:
            return


@pytest.mark.parametrize("begin", [HEAD + b"X-Long: ", CHUNKED])
def test_a_byte_now_and_then_gains_no_time(port: int, begin: bytes) -> None:
    with connect(port) as connection:
        began = time.monotonic()
        send(connection, begin)
        trickle(connection, b"1\r\n1\r\n" if begin is CHUNKED else b"a")
        assert time.monotonic() - began < BODY_SECONDS + 10


def test_a_large_body_has_the_time_anew_after_each_megabyte(port: int) -> None:
    head = b"POST /attachments HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    with connect(port) as connection:
        began = time.monotonic()
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % (3 * MEGABYTE))
        for _part in range(3):
            assert not select.select([connection], [], [], 0.6 * BODY_SECONDS)[0]
            connection.sendall(b" " * MEGABYTE)
        answer = rest(connection)
    assert answer.statuses == [400]
    assert time.monotonic() - began > BODY_SECONDS


def test_a_connection_that_says_nothing_is_closed_without_a_word(port: int) -> None:
    assert ask(port).raw == b""


def test_idle_connections_are_closed(tmp_path: Path, database_url: str) -> None:
    with (
        serving(tmp_path / "log", DATABASE_URL=database_url, KEEP_ALIVE_SECONDS="1") as (_process, client),
        connect(client.base_url.port or 0) as connection,
    ):
        connection.sendall(HEAD + b"\r\n")
        answer = rest(connection)
        assert answer.statuses == [200]


def test_many_slow_heads_hold_nobody_up(port: int) -> None:
    connections = [connect(port) for _ in range(100)]
    try:
        for connection in connections:
            send(connection, HEAD)
        assert ask(port, request(HEALTH, HOST)).status == 200
        with ThreadPoolExecutor(20) as pool:
            assert {answer.status for answer in pool.map(rest, connections)} == {408}
    finally:
        for connection in connections:
            connection.close()


def test_who_was_refused_is_read_slowly(port: int) -> None:
    """It may go on sending for a while, so that it can read why; not as fast as it can, at the others' cost."""
    taken = 0
    with connect(port) as connection, suppress(OSError):
        connection.settimeout(LINGER_SECONDS)
        connection.sendall(HEAD + b"X-Long: " + b"a" * MAX_HEAD_BYTES)
        until = time.monotonic() + LINGER_SECONDS / 2
        while time.monotonic() < until:
            taken += connection.send(b"a" * MEGABYTE)
    assert taken < 40 * MEGABYTE  # a quarter of one in each pause, and what the system keeps


# Forms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"OPTIONS * HTTP/1.1", 400),
        (b"GET * HTTP/1.1", 400),
        (b"CONNECT localhost:443 HTTP/1.1", 400),
        (b"CONNECT / HTTP/1.1", 400),
        (b"GET api/health HTTP/1.1", 400),
        (b"GET ?x HTTP/1.1", 400),
        (b"GET ftp://localhost/api/health HTTP/1.1", 400),
        (b"GET http://[::1/ HTTP/1.1", 400),
        (b"GET http:/// HTTP/1.1", 400),
        (b"PRI * HTTP/2.0", 400),
        (b"BREW /chat HTTP/1.1", 400),
        (b"TRACE / HTTP/1.1", 405),
        (b"GET /\xff HTTP/1.1", 400),
        (b"GET /%ff%00 HTTP/1.1", 404),
        (b"GET //localhost HTTP/1.1", 404),
        (b"GET http://localhost HTTP/1.1", 200),
        (b"GET http://localhost?a=b HTTP/1.1", 200),
        (b"GET http://localhost/api/health HTTP/1.1", 200),
        (b"GET HTTP://localhost:8000/conversations?limit=1 HTTP/1.1", 200),
        (b"GET http://[::1]:8000/conversations HTTP/1.1", 200),
        (b"GET http://evil.example/conversations HTTP/1.1", 400),
    ],
)
def test_no_request_line_is_a_fault_of_ours(
    served: tuple[Process, httpx.Client], port: int, line: bytes, status: int
) -> None:
    before = len(served[0].output())
    assert ask(port, request(line, HOST)).status == status
    told = served[0].output()[before:]
    assert "Traceback" not in told
    assert told.count("\n") <= 2, told


def test_the_target_s_host_counts_where_it_has_one(port: int) -> None:
    """RFC 9112, 3.2.2."""
    assert ask(port, request(b"GET http://localhost/conversations HTTP/1.1", b"Host: evil.example")).status == 200


@pytest.mark.parametrize(
    ("line", "more", "status"),
    [
        (b"GET * HTTP/1.1", b"", 400),
        (b"GET ws/chat HTTP/1.1", b"", 400),
        (b"GET /ws/chat HTTP/1.1", b"Cookie: a=" + b"b" * 9000, 431),
        (b"GET /ws/chat?" + b"b" * 9000 + b" HTTP/1.1", b"", 431),
    ],
)
def test_a_handshake_that_cannot_be_read_is_refused(port: int, line: bytes, more: bytes, status: int) -> None:
    """Nobody waits for an answer that never comes."""
    key = base64.b64encode(b"0" * 16)
    fields = [HOST, b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + key]
    fields += [b"Connection: Upgrade", more or b"X-More: 1"]
    answer = ask(port, b"\r\n".join([line, *fields, b"", b""]))
    assert answer.status == status
    assert answer.problem["status"] == status


def test_of_too_many_requests_in_one_go_the_last_are_not_answered(port: int) -> None:
    """All that came at once would be taken in before anybody else had a turn, and kept."""
    one = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    received = ask(port, one * 20_000)
    assert received.statuses
    assert set(received.statuses) == {200}
    assert len(received.statuses) <= 1_000
    assert received.raw.count(b"\r\n\r\n") == len(received.statuses)


def test_a_few_requests_in_one_go_are_all_answered(port: int) -> None:
    one = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert (
        ask(port, one * (MOST_WAITING - 1) + request(one.splitlines()[0], b"Host: localhost")).statuses
        == [200] * MOST_WAITING
    )


# What Java's client adds to whatever it asks without TLS.
WANTS_HTTP_2 = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
CREATE = b"POST /conversations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + WANTS_HTTP_2
TITLE = b'{"title": "Kept"}'
OF_A_LENGTH = (CREATE + b"Content-Length: %d\r\n\r\n" % len(TITLE), TITLE)
IN_CHUNKS = (CREATE + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(TITLE), TITLE))


@pytest.mark.parametrize("pause", [0.0, 0.2])
@pytest.mark.parametrize(("head", "body"), [OF_A_LENGTH, IN_CHUNKS])
def test_who_asks_for_http_2_in_passing_is_understood(
    served: tuple[Process, httpx.Client], port: int, head: bytes, body: bytes, pause: float
) -> None:
    """The body counts, in the same packet or behind it, and so does the next request on the connection."""
    with connect(port) as connection:
        send(connection, head if pause else head + body)
        if pause:
            time.sleep(pause)
            send(connection, body)
        send(connection, request(b"GET /conversations?limit=1 HTTP/1.1", HOST))
        received = rest(connection)
    assert received.statuses == [201, 200]
    assert received.raw.count(b'"title":"Kept"') == 1
    assert "upgrade" not in served[0].output()


def test_many_who_ask_for_http_2_are_counted_like_others(port: int) -> None:
    one = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n" + WANTS_HTTP_2 + b"\r\n"
    assert ask(port, one * 3 + request(HEALTH, HOST)).statuses == [200] * 4
    received = ask(port, one * 5_000)
    assert set(received.statuses) == {200}
    assert len(received.statuses) <= 1_000
