"""What every ASGI part is written with: the types, what a scope and its messages hold, a request's id and its body.

How bodies come in: ``web.bodies``.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from django.core.handlers.asgi import get_script_prefix
from django.http import HttpResponse
from django.utils.translation import gettext as _

from .. import conf
from ..exceptions import request_id
from .errors import problem_response

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

# An id that somebody gives: whatever else it is, it would be a forged line in a log.
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def header(scope: Message, name: bytes) -> bytes:
    """Return a header's value, ``b""`` where there is none, as one where it came twice. ``name`` is in lower case."""
    return b",".join(value for key, value in scope["headers"] if key == name)


def path_in(scope: Message) -> str:
    """Return the path as the URL configuration has it: without what stands before the whole site."""
    path: str = scope["path"]
    return path.removeprefix(get_script_prefix(scope))


def adding(send: Send, headers: Iterable[tuple[bytes, bytes]]) -> Send:
    """Return a ``send`` that adds headers to the answer."""

    def send_with_headers(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        return send(message)

    return send_with_headers


def identify(scope: Message, send: Send) -> Send:
    """Set the request's id, to the one that is given, else to a new one; return a ``send`` that tells it.

    Errors, the log and the answer's ``X-Request-Id`` have it.
    """
    given = header(scope, b"x-request-id")
    chosen = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex.encode()
    request_id.set(chosen.decode())
    return adding(send, [(b"x-request-id", chosen)])


# Bodies -------------------------------------------------------------------------------------------------------

# Key of the ASGI scope: the body passed the limit of text and was not read.
TOO_LARGE = "conversations.body_too_large"
# How long a client that was refused may go on sending.
LINGER_SECONDS = 2


class ClientLeftError(Exception):
    """The client left before its request was complete."""


def too_large() -> HttpResponse:
    """Return the answer to a body over the limit."""
    detail = _("The body is larger than {limit} bytes.").format(limit=conf.get().MAX_BODY_BYTES)
    return problem_response(status=413, code="body_too_large", detail=detail)


async def refuse(_scope: Message, _receive: Receive, send: Send) -> None:
    """An ASGI application that answers with ``too_large``."""
    answer = too_large()
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.items()]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": answer.content})


def with_body(scope: Message, receive: Receive, body: bytes) -> tuple[Message, Receive]:
    """Return what a request is answered with that came whole: the body in one message, its length in the headers."""
    if body and not header(scope, b"content-length"):
        # Of chunks nobody said a length, and what reads forms takes that for none.
        scope = {**scope, "headers": [*scope["headers"], (b"content-length", b"%d" % len(body))]}
    return scope, _replaying(body, receive)


def without_body(scope: Message, receive: Receive, send: Send, **said: object) -> tuple[Message, Receive, Send]:
    """Return what a request is answered with whose body was not read: ``said`` in the scope, and no body."""
    return {**scope, **said}, _replaying(b"", nothing_more), reading_on(receive, send)


def _replaying(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body, and then what else comes."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay


async def nothing_more() -> Message:
    """An ASGI ``receive`` that waits until it is cancelled."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("nothing ends this wait")


def reading_on(receive: Receive, send: Send) -> Send:
    """Return a ``send`` that reads, for a while, what the client goes on sending before it lets the answer end.

    Closed with bytes of the client's unread, the connection would be reset, and the answer lost on its way.
    """

    async def send_and_read(message: Message) -> None:
        if message["type"] != "http.response.body" or message.get("more_body", False):
            await send(message)
            return
        await send({**message, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while (await receive()).get("more_body", False):
                    pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return send_and_read
