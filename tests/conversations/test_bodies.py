"""Bodies under a host project's own ASGI handler, which is Django's: with chunks, and as HTTP/2 sends them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import httpx
import pytest
from django.core.handlers.asgi import ASGIHandler

from conversations.engine.supervisor import Supervisor

pytestmark = pytest.mark.usefixtures("engine", "model")

Application = Callable[[Any, Any, Any], Awaitable[None]]


def without(names: Iterable[bytes], application: Application) -> Application:
    """Take headers away, as HTTP/2 and 3 have none about the length of what comes in frames."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name not in names]
        await application({**scope, "headers": headers}, receive, send)

    return wrapped


SENT_AS = {"chunked": (), "HTTP/2": (b"transfer-encoding",)}


@pytest.fixture(params=SENT_AS)
async def caller(
    request: pytest.FixtureRequest, settings: Any, engine: Supervisor
) -> AsyncIterator[httpx.AsyncClient]:
    settings.MIDDLEWARE = []
    application = without(SENT_AS[request.param], ASGIHandler())
    transport = httpx.ASGITransport(application, client=("127.0.0.1", 1))
    headers = {"Content-Type": "application/json"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield client


async def in_pieces(body: dict[str, Any] | bytes) -> AsyncIterator[bytes]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    yield content[:5]
    yield b""
    yield content[5:]


async def test_a_body_counts_without_its_length(caller: httpx.AsyncClient) -> None:
    made = (await caller.post("/conversations", content=in_pieces({"title": "Kept?"}))).json()
    path = f"/conversations/{made['session_id']}"
    changed = await caller.patch(path, content=in_pieces({"system_prompt": "Short."}))
    assert (changed.json()["title"], changed.json()["system_prompt"]) == ("Kept?", "Short.")
    answered = await caller.post("/chat", content=in_pieces({"message": "hi", "stream": False}))
    assert answered.json()["user_message"] == "hi"
    again = f"/messages/{answered.json()['message_id']}/regenerate"
    assert (await caller.post(again, content=in_pieces({"stream": False}))).json()["user_message"] == "hi"


REFUSED = {
    "another type": (b"{}", "text/plain", 415, "unsupported_media_type"),
    "no type": (b"{}", "", 415, "unsupported_media_type"),
    "half": (b'{"title"', "application/json", 400, "malformed_json"),
    "too large": (b'{"title": "' + b"x" * 1_048_576 + b'"}', "application/json", 413, "body_too_large"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_the_rules_hold(caller: httpx.AsyncClient, case: str) -> None:
    body, content_type, status, code = REFUSED[case]
    refused = await caller.post("/conversations", content=in_pieces(body), headers={"Content-Type": content_type})
    assert (refused.status_code, refused.json()["code"]) == (status, code)


async def test_a_body_with_a_length_is_limited_too(caller: httpx.AsyncClient, settings: Any) -> None:
    for limit in (None, 2_621_440, 100):
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = limit  # Django's own, which a host may have set otherwise
        refused = await caller.post("/conversations", content=REFUSED["too large"][0])
        assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")


async def test_an_empty_body_is_none(caller: httpx.AsyncClient) -> None:
    assert (await caller.post("/conversations", content=in_pieces(b""))).status_code == 201
