"""Bodies over the limit of text: where they are taken, of whom, and of how many at a time. Over real sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from threading import Event, current_thread
from typing import Any

import httpx
import pytest

from chatproject import handler
from conversations.models import Attachment, Conversation
from conversations.web import bodies, parsers
from tests.conftest import Server
from tests.upstream import ScriptedUpstream, answer

from . import pictures
from .accounts import bearer, key_of, make_key, make_user, require_login
from .attaching import send
from .helpers import JSON

TEXT, LARGE = 1_048_576, 20_971_520


def form(content: bytes) -> bytes:
    head = b'Content-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    return b"--limit\r\n" + head + content + b"\r\n--limit--\r\n"


def padded(size: int) -> bytes:
    """An image that is so large as a form: what stands behind it is dropped."""
    image = pictures.picture("JPEG")
    return form(image + b"\0" * (size - len(form(image))))


def pieces(content: bytes) -> Iterator[bytes]:
    for begin in range(0, len(content), 100_000):
        yield content[begin : begin + 100_000]


HEADERS = {"Content-Type": "multipart/form-data; boundary=limit"}


def test_a_slash_at_the_end_does_no_harm(client: httpx.Client) -> None:
    assert client.post("/attachments/", content=padded(2 * TEXT), headers=HEADERS).status_code == 201


@pytest.mark.parametrize("in_pieces", [False, True], ids=["content-length", "chunked"])
def test_an_upload_may_have_twenty_megabytes_and_no_byte_more(client: httpx.Client, in_pieces: bool) -> None:
    def outcome(size: int) -> tuple[int, Any]:
        body: Any = pieces(padded(size)) if in_pieces else padded(size)
        answered = client.post("/attachments", content=body, headers=HEADERS)
        return answered.status_code, answered.json().get("code")

    assert outcome(LARGE) == (201, None)
    assert outcome(LARGE + 1) == (413, "body_too_large")
    assert outcome(LARGE + TEXT) == (413, "body_too_large")
    assert Attachment.objects.count() == 1


def test_the_answer_says_which_limit_it_was(client: httpx.Client) -> None:
    large = client.post("/attachments", content=padded(LARGE + 1), headers=HEADERS)
    text = client.post("/conversations", content=b" " * (TEXT + 1), headers=JSON)
    assert str(LARGE) in large.json()["detail"]
    assert str(TEXT) in text.json()["detail"]


@pytest.mark.parametrize(("path", "size"), [("/attachments", LARGE), ("/chat", TEXT)])
def test_the_limit_is_told_in_the_language_that_was_asked_for(client: httpx.Client, path: str, size: int) -> None:
    headers = {**HEADERS, "Accept-Language": "zh-hans"}
    answered = client.post(path, content=b" " * (size + 1), headers=headers)
    assert answered.json()["detail"] == f"请求体超过 {size} 字节。"


@pytest.mark.parametrize(
    "path",
    ["/chat", "/conversations", "/conversations/x/attachments", "/xattachments", "/api/config", "/nothing", "/"],
)
def test_all_else_takes_text_only(client: httpx.Client, path: str) -> None:
    answered = client.post(path, content=b" " * (TEXT + 1), headers=JSON)
    assert (answered.status_code, answered.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/chat/completions/"])
def test_openai_takes_whole_histories(client: httpx.Client, model: ScriptedUpstream, path: str) -> None:
    model.script = [answer("ok")]
    said = {"messages": [{"role": "user", "content": "x"}], "input": "x", "model": "default", "metadata": {"a": "b"}}
    body = json.dumps({**said, "pad": "x" * 2 * TEXT}).encode()
    answered = client.post(path, content=body, headers=JSON)
    assert answered.status_code == 200, answered.text


def test_openai_refuses_more_in_its_own_form(client: httpx.Client) -> None:
    answered = client.post("/v1/chat/completions", content=b" " * (LARGE + 1), headers=JSON)
    assert answered.status_code == 413
    assert answered.json()["error"]["code"] == "body_too_large"
    assert answered.headers["x-should-retry"] == "false"


def test_below_a_path_prefix_too(client: httpx.Client, settings: Any) -> None:
    settings.FORCE_SCRIPT_NAME = "/chat-api"
    sent = client.post("/attachments", content=padded(2 * TEXT), headers=HEADERS)
    assert sent.status_code == 201
    assert sent.json()["url"].startswith("/chat-api/attachments/")


def test_a_history_that_is_parsed_holds_up_nobody_elses_call(
    client: httpx.Client, model: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.script = [answer("ok")]
    begun, go, loads = Event(), Event(), parsers.loads
    threads = []

    def slow(body: Any, **options: Any) -> Any:
        if len(body) > TEXT:
            threads.append(current_thread().name)
            begun.set()
            go.wait(20)
        return loads(body, **options)

    monkeypatch.setattr(parsers, "loads", slow)
    path, body = asked("response stored")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.post, path, json={**body, "pad": "x" * 2 * TEXT})
        try:
            assert begun.wait(20)
            assert client.post("/conversations", json={}, timeout=10).status_code == 201
        finally:
            go.set()
        assert waiting.result().status_code == 200
    assert [name.startswith("db-files") for name in threads] == [True]


@pytest.mark.parametrize(
    ("kind", "content", "refused"),
    [
        ("application/json", b"[" * 100, (400, "malformed_json")),
        ("application/json", b"{" * 3, (400, "malformed_json")),
        ("application/json", b"[]", (400, "invalid")),
        ("application/json", b"", (400, "malformed_json")),
        ("text/plain", b"{}", (415, "unsupported_media_type")),
    ],
)
def test_what_is_wrong_with_a_large_one_is_told_as_ever(
    client: httpx.Client, kind: str, content: bytes, refused: tuple[int, str]
) -> None:
    body = content + b" " * (TEXT + 1)
    answered = client.post("/v1/responses", content=body, headers={"Content-Type": kind})
    assert (answered.status_code, answered.json()["error"]["code"]) == refused


# Of whom ------------------------------------------------------------------------------------------------------
def test_of_who_shows_nothing_no_large_body_is_read(server: Server, settings: Any) -> None:
    require_login(settings)
    for extra in (b"", b"Authorization: Bearer chatkey_wrong\r\n"):
        head = (
            b"POST /attachments HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=limit\r\n"
        )
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=10)) as connection:
            connection.sendall(head + extra + b"Content-Length: %d\r\n\r\n" % (2 * TEXT))
            assert connection.recv(12) == b"HTTP/1.1 401", "before a byte of it was sent"


def test_what_was_not_read_is_never_taken_for_empty(
    client: httpx.Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the first look finds nobody, and the view's own finds somebody after all."""
    require_login(settings)
    who = key_of(make_user("kim"))

    def nobody(_connection: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(bodies, "identify", nobody)
    refused = client.post("/v1/responses", content=b" " * (TEXT + 1), headers={**who, **JSON})
    assert refused.status_code == 503
    assert not Conversation.objects.exists()


# How many at a time -------------------------------------------------------------------------------------------
class Slow:
    """An upload that stops in the middle."""

    def __init__(self, server: Server, token: str | None = None) -> None:
        self._body = padded(2 * TEXT)
        head = "POST /attachments HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=limit\r\n"
        if token:
            head += f"Authorization: Bearer {token}\r\n"
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        self._socket.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(self._body))
        self._socket.sendall(self._body[: TEXT + 100_000])

    def finish(self) -> bytes:
        self._socket.sendall(self._body[TEXT + 100_000 :])
        status = self._socket.recv(12)
        self.leave()
        return status

    def answer(self) -> bytes:
        """What it is told before it is through."""
        answered = b""
        while b"\r\n\r\n" not in answered or not answered.endswith(b"}"):
            answered += self._socket.recv(4096)
        return answered

    def leave(self) -> None:
        self._socket.close()


def test_so_many_at_a_time_and_the_next_waits_or_is_told_to(
    server: Server, client: httpx.Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "LARGE_BODIES_AT_ONCE": 2}
    monkeypatch.setattr(bodies, "TURN_SECONDS", 0.2)
    slow = [Slow(server), Slow(server)]
    assert client.get("/conversations").status_code == 200
    assert send(client, pictures.picture()).status_code == 201, "small ones need no turn"
    refused = client.post("/attachments", content=padded(2 * TEXT), headers=HEADERS)
    assert (refused.status_code, refused.json()["code"]) == (503, "server_busy")
    assert refused.headers["Retry-After"]
    monkeypatch.setattr(bodies, "TURN_SECONDS", 20)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(client.post, "/attachments", content=padded(2 * TEXT), headers=HEADERS)
        assert slow[0].finish() == b"HTTP/1.1 201"
        assert waiting.result().status_code == 201
    for leaving in (slow[1], Slow(server)):
        leaving.leave()
    sent = client.post("/attachments", content=padded(2 * TEXT), headers=HEADERS)
    assert sent.status_code == 201, "the turns of those who left are free"


def test_nobody_takes_the_turns_of_all(server: Server, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "LARGE_BODIES_PER_CALLER": 1}
    monkeypatch.setattr(bodies, "TURN_SECONDS", 0.2)
    require_login(settings)
    kim, lee = make_key(make_user("kim")), make_key(make_user("lee"))
    slow = Slow(server, kim)
    with httpx.Client(base_url=server.url, trust_env=False, timeout=20) as client:
        for token, status in ((kim, 503), (lee, 201)):
            sent = client.post("/attachments", content=padded(2 * TEXT), headers={**HEADERS, **bearer(token)})
            assert sent.status_code == status
    assert slow.finish() == b"HTTP/1.1 201"


def asked(kind: str) -> tuple[str, dict[str, Any]]:
    """The path and the body of a call that answers once its model has."""
    text: dict[str, Any] = {"type": "text", "text": "x"}
    url = pictures.data_url(pictures.picture())
    image = [text, {"type": "image_url", "image_url": {"url": url}}]
    content = image if "images" in kind else [text]
    if "response" in kind:
        names = {"text": "input_text", "image_url": "input_image"}
        content = [{**part, "type": names[part["type"]]} for part in content]
        content = [{**part, "image_url": url} if "image_url" in part else part for part in content]
        return "/v1/responses", {"input": [{"role": "user", "content": content}], "store": "passed on" not in kind}
    return "/v1/chat/completions", {
        "messages": [{"role": "user", "content": content}],
        "store": "passed on" not in kind,
    }


@pytest.mark.parametrize(
    "kind",
    [
        "completion passed on",
        "completion stored",
        "completion with images",
        "response passed on",
        "response stored",
        "response with images",
    ],
)
def test_while_a_model_answers_nobody_waits_for_a_turn(
    client: httpx.Client, model: ScriptedUpstream, settings: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "LARGE_BODIES_AT_ONCE": 1}
    monkeypatch.setattr(bodies, "TURN_SECONDS", 0.2)
    model.script = [answer("ok", gate="held")]
    path, body = asked(kind)
    streams: list[BytesIO] = []

    class Stream(BytesIO):
        def __init__(self, content: bytes) -> None:
            super().__init__(content)
            streams.append(self)

    monkeypatch.setattr(handler, "BytesIO", Stream)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(
            client.post, path, json={**body, "model": "default", "metadata": {}, "pad": "x" * 2 * TEXT}
        )
        try:
            model.wait_until(lambda: model.calls == 1)
            sent = client.post("/attachments", content=padded(2 * TEXT), headers=HEADERS)
            assert streams[0].closed, "nor is the body in memory"
        finally:
            model.gate("held").open()
        assert (sent.status_code, waiting.result().status_code) == (201, 200)


def test_a_slow_body_loses_its_turn(
    server: Server, client: httpx.Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "LARGE_BODIES_AT_ONCE": 1}
    monkeypatch.setattr(bodies, "INTAKE_SECONDS", 0.3)
    slow = Slow(server)
    answered = slow.answer()
    assert answered.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in answered
    sent = client.post("/attachments", content=padded(2 * TEXT), headers=HEADERS)
    assert sent.status_code == 201
    slow.leave()
