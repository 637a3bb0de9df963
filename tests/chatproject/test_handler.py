"""The HTTP handler, driven as a server does: threads, signals, bodies, and clients that leave."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any

import pytest
from asgiref.sync import SyncToAsync
from django.core.signals import request_finished, request_started
from django.db import close_old_connections

from chatproject import handler as handler_module
from chatproject.handler import ApiHandler
from conversations.asgi import Application

from . import pages


@pytest.fixture(autouse=True)
def urls(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.chatproject.pages"
    settings.ALLOWED_HOSTS = ["testserver"]


@pytest.fixture(autouse=True)
def queues(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this test's event loop, and empty."""
    monkeypatch.setattr(pages, "waiting_begun", asyncio.Queue())
    monkeypatch.setattr(pages, "waiting_ended", asyncio.Queue())


class Connection:
    """A client's side of one request, and the task in which the server has it answered."""

    def __init__(
        self,
        path: str,
        *pieces: bytes,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        query: bytes = b"",
    ) -> None:
        self.sent: list[Mapping[str, Any]] = []
        self.begun = asyncio.Event()
        self._coming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for number, piece in enumerate(pieces or (b"",), 1):
            self.come({"type": "http.request", "body": piece, "more_body": number < len(pieces)})
        named = {"host": "testserver", **(headers or {})}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query,
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        }
        handler: Any = ApiHandler()
        self.task = asyncio.ensure_future(
            Application(handler, refuse=handler).answer(scope, self._coming.get, self._send)
        )

    def come(self, message: dict[str, Any]) -> None:
        self._coming.put_nowait(message)

    def leave(self) -> None:
        self.come({"type": "http.disconnect"})

    async def _send(self, message: Mapping[str, Any]) -> None:
        self.sent.append(message)
        if message.get("body"):
            self.begun.set()
        await asyncio.sleep(0)  # as a server whose client reads slowly

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


def access_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "chatproject.access"]


# Threads and signals ----------------------------------------------------------------------------------------


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the functions that were handed to a thread."""
    handed: list[str] = []
    call = SyncToAsync.__call__

    async def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        handed.append(self.func.__name__)
        return await call(self, *args, **kwargs)

    monkeypatch.setattr(SyncToAsync, "__call__", counted)
    return handed


@pytest.mark.parametrize("path", ["/chat", "/chat/", "/stream", "/nothing"])
async def test_the_api_starts_no_thread(hops: list[str], path: str) -> None:
    threads = threading.active_count()
    connection = Connection(path)
    await connection.task
    assert connection.body
    assert hops == []
    assert threading.active_count() == threads


async def test_what_a_sync_view_left_in_its_thread_is_tidied_up_there(monkeypatch: pytest.MonkeyPatch) -> None:
    tidied: list[int] = []
    # Django's receiver looks at the connections of the thread that it is called in.
    monkeypatch.setattr("django.db.connections.all", lambda **_options: tidied.append(threading.get_ident()) or [])
    connection = Connection("/sync")
    await connection.task
    assert connection.body == str(tidied[-1]).encode()
    assert tidied[-1] != threading.get_ident()


@pytest.fixture
def heard() -> Iterator[list[tuple[str, Any, int]]]:
    """What a receiver of another package heard: begin or end, of whom, and in which thread."""
    heard: list[tuple[str, Any, int]] = []

    def begun(sender: Any, **_signal: Any) -> None:
        heard.append(("begun", sender, threading.get_ident()))

    def ended(sender: Any, **_signal: Any) -> None:
        heard.append(("ended", sender, threading.get_ident()))

    request_started.connect(begun)
    request_finished.connect(ended)
    yield heard
    request_started.disconnect(begun)
    request_finished.disconnect(ended)


@pytest.mark.parametrize("path", ["/chat", "/stream", "/nothing", "/sync"])
async def test_other_receivers_hear_of_each_request_as_ever(heard: list[tuple[str, Any, int]], path: str) -> None:
    await Connection(path).task
    assert [(what, sender) for what, sender, _thread in heard] == [("begun", ApiHandler), ("ended", ApiHandler)]
    assert threading.get_ident() not in {thread for _what, _sender, thread in heard}


async def test_other_receivers_hear_of_a_client_that_left(heard: list[tuple[str, Any, int]]) -> None:
    connection = Connection("/waiting")
    await pages.waiting_begun.get()
    connection.leave()
    await connection.task
    assert [what for what, _sender, _thread in heard] == ["begun", "ended"]


async def test_connections_of_the_event_loops_thread_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert close_old_connections in [receiver for _key, ref, *_ in request_finished.receivers if (receiver := ref())]
    monkeypatch.setattr("django.db.connections.all", lambda **_options: pytest.fail("somebody looked"))
    await Connection("/chat").task


# Clients that leave -----------------------------------------------------------------------------------------


async def test_a_view_is_cancelled_at_once_when_its_client_leaves(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chatproject.access")
    connection = Connection("/waiting")
    await pages.waiting_begun.get()
    connection.leave()
    await connection.task
    assert await pages.waiting_ended.get() == "cancelled"
    assert connection.sent == []
    assert connection.task.cancelling() == 0
    (line,) = access_lines(caplog)
    assert line.startswith("GET /waiting 499 ")


async def test_a_stream_is_closed_at_once_when_its_client_leaves(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chatproject.access")
    connection = Connection("/endless")
    await connection.begun.wait()
    connection.leave()
    await connection.task
    assert await pages.waiting_ended.get() == "cancelled"
    assert connection.sent[-1]["more_body"]
    (line,) = access_lines(caplog)
    assert line.startswith("GET /endless 200 ")


async def test_who_leaves_within_the_body_asks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chatproject.access")
    connection = Connection("/chat", b"{", b"", method="POST")
    connection._coming.get_nowait()
    connection._coming.get_nowait()
    connection.come({"type": "http.request", "body": b"{", "more_body": True})
    connection.leave()
    await connection.task
    assert connection.sent == access_lines(caplog) == []


async def test_a_server_that_gives_up_a_request_reaches_the_view() -> None:
    connection = Connection("/waiting")
    await pages.waiting_begun.get()
    connection.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connection.task
    assert await pages.waiting_ended.get() == "cancelled"


async def test_a_server_that_breaks_the_protocol_is_told() -> None:
    connection = Connection("/waiting")
    await pages.waiting_begun.get()
    connection.come({"type": "http.request", "body": b"more", "more_body": False})
    with pytest.raises(AssertionError, match=r"http\.request"):
        await connection.task


async def test_a_stream_that_fails_is_logged_and_told_to_the_server(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chatproject.access")
    connection = Connection("/failing")
    with pytest.raises(RuntimeError, match="a secret of the stream"):
        await connection.task
    (line,) = access_lines(caplog)
    assert line.startswith("GET /failing 200 ")


async def test_nothing_is_left_of_requests_that_ended() -> None:
    before = asyncio.all_tasks()
    for path in ("/chat", "/stream", "/nothing", "/sync"):
        await Connection(path).task
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


# Bodies -----------------------------------------------------------------------------------------------------


async def test_a_body_in_pieces_is_one(settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "MAX_BODY_BYTES": 6}
    connection = Connection("/body", b"ab", b"", b"cd", b"ef", method="POST")
    await connection.task
    assert connection.body == b"abcdef"


async def test_a_stream_does_not_keep_its_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may have 20 MB, for as long as a model talks."""
    kept: list[Any] = []

    class Kept(BytesIO):
        def __init__(self, content: bytes) -> None:
            super().__init__(content)
            kept.append(self)

    monkeypatch.setattr(handler_module, "BytesIO", Kept)
    connection = Connection("/endless", b"abc", method="POST")
    await connection.begun.wait()
    assert [body.closed for body in kept] == [True]
    connection.leave()
    await connection.task


@pytest.mark.parametrize("headers", [{}, {"content-length": "7"}, {"content-length": "2"}, {"content-length": "x"}])
async def test_a_body_over_the_limit_is_refused_and_its_rest_dropped(settings: Any, headers: dict[str, str]) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "MAX_BODY_BYTES": 6}
    connection = Connection("/body", b"abcd", b"efg", b"rest", method="POST", headers=headers)
    await connection.task
    assert connection.status == 413
    assert b"body_too_large" in connection.body
    assert connection._coming.empty(), "or a client that is still sending would be reset before it reads that"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"name=kim"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nkim\r\n--x--\r\n',
        ),
    ],
)
async def test_a_form_in_chunks_is_read(content_type: str, body: bytes) -> None:
    """Nobody said its length, which what reads forms takes for none."""
    headers = {"content-type": content_type, "transfer-encoding": "chunked"}
    connection = Connection("/form", body[:5], body[5:], method="POST", headers=headers)
    await connection.task
    assert connection.body == b"kim"


async def test_a_query_that_is_no_text_is_refused() -> None:
    connection = Connection("/chat", query=b"\xff")
    await connection.task
    assert connection.status == 400
