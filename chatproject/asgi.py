"""Where every connection comes in: HTTP with a limit on bodies, WebSockets, the lifespan."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, cast

from channels.routing import URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import re_path

from .shutdown import Lifespan, Message, Receive, Send

Application = Callable[[Message, Receive, Send], Awaitable[None]]

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatproject.settings")
http = cast(Application, get_asgi_application())

# After the line above, because these import models.
from conversations.generation import supervisor  # noqa: E402
from conversations.streaming.routing import websocket_urlpatterns  # noqa: E402

from .middleware import BODY_TOO_LARGE  # noqa: E402


class LimitedBody:
    """An ASGI ``receive`` that ends a request's body where it passes ``limit`` bytes, and marks the scope.

    No server limits bodies, and Django reads all of one before any view runs. ``SecurityMiddleware`` answers the
    marked request, so that the refusal is like every other answer; what is left of the body is not read.
    """

    def __init__(self, scope: Message, receive: Receive, *, limit: int) -> None:
        self._scope = scope
        self._receive = receive
        self._left = limit
        self._too_large = declared_length(scope) > limit
        self._ended = False

    async def __call__(self) -> Message:
        if self._ended:
            await asyncio.get_running_loop().create_future()  # until Django, having answered, cancels it
        if self._too_large:
            return self._end()
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
        return self._end() if self._left < 0 else message

    def _end(self) -> Message:
        self._ended = True
        self._scope[BODY_TOO_LARGE] = True
        return {"type": "http.request", "body": b"", "more_body": False}


def declared_length(scope: Message) -> int:
    """Return the request's Content-Length, 0 where there is none or it is no number."""
    value: bytes = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(value) if value.isdigit() and len(value) < 20 else 0


async def unknown_socket(scope: Message, receive: Receive, send: Send) -> None:
    """Refuse a WebSocket whose path nothing answers: servers make an HTTP 403 of a close before the handshake."""
    await receive()
    await send({"type": "websocket.close"})


sockets = URLRouter([*websocket_urlpatterns, re_path("", cast(Any, unknown_socket))])
lifespan = Lifespan(startup=supervisor.startup, shutdown=supervisor.shutdown)


async def application(scope: Message, receive: Receive, send: Send) -> None:
    """Answer one connection."""
    if scope["type"] == "http":
        await lifespan.ensure_started()
        await http(scope, LimitedBody(scope, receive, limit=settings.MAX_BODY_BYTES), send)
    elif scope["type"] == "websocket":
        await lifespan.ensure_started()
        await sockets({**scope, "path": scope["path"].removesuffix("/")}, receive, send)
    else:
        await lifespan(scope, receive, send)
