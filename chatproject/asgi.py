"""Where every connection comes in: HTTP, WebSockets, the lifespan."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, cast

import django
from channels.routing import URLRouter
from django.urls import re_path

from .handler import Handler
from .shutdown import Lifespan, Message, Receive, Send

Application = Callable[[Message, Receive, Send], Awaitable[None]]

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatproject.settings")
django.setup(set_prefix=False)
http = cast(Application, Handler())

# After the line above, because these import models.
from conversations.generation import supervisor  # noqa: E402
from conversations.streaming.routing import websocket_urlpatterns  # noqa: E402


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
        await http(scope, receive, send)
    elif scope["type"] == "websocket":
        await lifespan.ensure_started()
        await sockets({**scope, "path": scope["path"].removesuffix("/")}, receive, send)
    else:
        await lifespan(scope, receive, send)
