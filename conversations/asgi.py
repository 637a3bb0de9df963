"""What the app needs around it under ASGI: ``application = Application(get_asgi_application())``.

Imports models: to be imported once Django is set up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from channels.routing import URLRouter
from django.urls import re_path

from .socket.routing import PATH, websocket_urlpatterns
from .web import asgi, bodies, cookies, media_types
from .web.asgi import Message, Receive, Send
from .web.lifespan import of_the_engine


async def unknown_socket(scope: Message, receive: Receive, send: Send) -> None:
    """Refuse a WebSocket whose path nothing answers: servers make an HTTP 403 of a close before the handshake."""
    await receive()
    await send({"type": "websocket.close"})


class Application:
    """Serves ``/ws/chat``, starts and ends the engine with the server, and hands HTTP on to ``http``.

    Each HTTP request has an id and a body that came whole and is of at most ``MAX_BODY_BYTES``, or on some routes of
    ours ``MAX_LARGE_BODY_BYTES`` (``web.bodies``); ``refuse`` answers a larger one (``web.asgi``). ``sockets`` are URL
    patterns of further WebSockets.
    """

    def __init__(
        self, http: asgi.Application, *, refuse: asgi.Application = asgi.refuse, sockets: Sequence[Any] = ()
    ) -> None:
        self._http = http
        self._refuse = refuse
        unknown: Any = unknown_socket
        self._sockets = URLRouter([*websocket_urlpatterns, *sockets, re_path("", unknown)])
        self.lifespan = of_the_engine()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "lifespan":
            await self.lifespan(scope, receive, send)
            return
        await self.lifespan.ensure_started()
        if scope["type"] == "http":
            if self.lifespan.has_begun_to_end and scope["http_version"].startswith("1"):
                # Tells the client, or the proxy, to ask on another connection next time: this process ends.
                send = asgi.adding(send, [(b"connection", b"close")])
            await self.answer(scope, receive, send)
        else:
            await self._answer_socket(scope, receive, send)

    async def _answer_socket(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a WebSocket; our own path with a slash at its end too, as every path of the API."""
        scope = cookies.with_readable(scope)
        path = asgi.path_in(scope)
        if path == f"{PATH}/":
            path = PATH
        await self._sockets({**scope, "path": path, "root_path": ""}, receive, send)

    async def answer(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer an HTTP request, whose id is set from here on and whose body has come whole."""
        send = asgi.identify(scope, send)
        scope = cookies.with_readable(media_types.with_readable(scope))
        with bodies.Intake(scope) as intake:
            try:
                whole = await intake.read(receive)
            except asgi.ClientLeftError:
                return
            except bodies.TooLargeError:
                await self._refuse(*asgi.without_body(scope, receive, send, **{asgi.TOO_LARGE: True}))
            except bodies.UnreadError as unread:
                intake.let_go()
                await self._http(*asgi.without_body(scope, receive, send, **{bodies.UNREAD: unread.why}))
            else:
                await self._http(*whole, send)
