"""Django's ASGI handler, with no thread and only one more task for a request that needs no thread itself.

Django's own starts a thread for each request, only to send its signals and to close the answer there, and a second
one to end that thread. Sync code of a request (pages, sync views, database work with ``DB_THREADS=0``) still gets
a thread of the request's own, and what Django does at the end of a request is then done in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from io import BytesIO
from typing import Any, cast

from asgiref.sync import SyncToAsync, sync_to_async
from django.conf import settings
from django.core.cache import close_caches
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.base import reset_urlconf
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries
from django.dispatch import Signal
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix, set_urlconf
from django.utils.log import log_response

# As Django's handler has them.
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Key of the ASGI scope: the body passed the limit and was not read.
BODY_TOO_LARGE = "chatproject.body_too_large"
# Receivers that tidy up what sync code left in the request's thread, or in the context of its task, which ends anyway.
DJANGOS_OWN = frozenset(map(id, (reset_queries, close_old_connections, close_caches, reset_urlconf)))


class Handler(ASGIHandler):
    """Answers HTTP requests whose bodies have at most ``settings.MAX_BODY_BYTES``.

    No server limits bodies, and Django reads all of one before any view runs. ``SecurityMiddleware`` answers a request
    whose scope is marked ``BODY_TOO_LARGE``, so that the refusal is like every other answer.
    """

    async def handle(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, in the task that the server made for it."""
        try:
            body = await read_body(scope, receive, limit=settings.MAX_BODY_BYTES)
        except RequestAborted:
            return
        set_script_prefix(get_script_prefix(scope))
        if others_listen(request_started):
            await request_started.asend(sender=self.__class__, scope=scope)
        with body:
            request, refusal = self.create_request(scope, body)
            if refusal is not None:
                await self.send_response(refusal, send)
                await self._finish(refusal)
            elif request is not None:
                # After a body that was not read to its end comes the rest of it.
                await self._serve(request, nothing_more if BODY_TOO_LARGE in scope else receive, send)

    async def _serve(self, request: HttpRequest, receive: Receive, send: Send) -> None:
        response: HttpResponseBase | None = None
        client = Client(receive)
        try:
            response = await self.run_get_response(request)
            await self.send_response(response, send)
        except asyncio.CancelledError:
            if not client.has_left:
                raise
            client.accept_leave()
        finally:
            client.ignore()
            await self._finish(response)

    async def _finish(self, response: HttpResponseBase | None) -> None:
        """Close the answer, and tell whom it concerns that the request has ended."""
        as_django = used_a_thread() or others_listen(request_finished)
        if response is None:
            if as_django:
                await request_finished.asend(sender=self.__class__)
        elif as_django or not closes_as_ever(response):
            await sync_to_async(response.close)()
        else:
            close_here(response)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        """Return the answer. As Django's, but a refusal takes no thread to be logged: that is logged like all else."""
        set_urlconf(settings.ROOT_URLCONF)
        response = await self._middleware_chain(request)  # type: ignore[attr-defined]
        response._resource_closers.append(request.close)
        if response.status_code >= 400:
            log_response("%s: %s", response.reason_phrase, request.path, response=response, request=request)
        return cast(HttpResponseBase, response)


class Client:
    """Listens whether the client leaves, and then cancels the task that serves it.

    Django has the request served by a second task. Here that is the server's own one, so a cancellation by the server
    reaches the view, too.
    """

    def __init__(self, receive: Receive) -> None:
        self._serving = cast("asyncio.Task[None]", asyncio.current_task())
        self._listening = asyncio.ensure_future(receive())
        self._listening.add_done_callback(self._leave)
        self.has_left = False

    def _leave(self, _listening: asyncio.Future[Message]) -> None:
        self.has_left = True
        self._serving.cancel()

    def accept_leave(self) -> None:
        """The cancellation was ours and ends here. Raises what ``receive`` raised, or for a message that is no end."""
        self._serving.uncancel()
        message = self._listening.result()
        if message["type"] != "http.disconnect":
            raise AssertionError(f"Invalid ASGI message after request body: {message['type']}")

    def ignore(self) -> None:
        """Listen no longer: the answer is complete."""
        self._listening.remove_done_callback(self._leave)
        self._listening.cancel()


async def nothing_more() -> Message:
    """An ASGI ``receive`` that waits until it is cancelled."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("nothing ends this wait")


async def read_body(scope: dict[str, Any], receive: Receive, *, limit: int) -> BytesIO:
    """Return the request's body; an empty one, with the scope marked, for one of more than ``limit`` bytes.

    What is left of that is not read. Raises ``RequestAborted`` if the client leaves meanwhile.
    """
    body = BytesIO()
    size, more = declared_length(scope), True
    while more and size <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestAborted
        body.write(message.get("body", b""))
        size = max(size, body.tell())
        more = message.get("more_body", False)
    if size > limit:
        scope[BODY_TOO_LARGE] = True
        return BytesIO()
    body.seek(0)
    return body


def declared_length(scope: Message) -> int:
    """Return the request's Content-Length, 0 where there is none or it is no number."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 20 else 0
    return 0


def used_a_thread() -> bool:
    """Whether sync code of the request ran: in a thread, of which Django's receivers know what to tidy up."""
    return SyncToAsync.thread_sensitive_context.get(None) in SyncToAsync.context_to_thread_executor


def others_listen(signal: Signal) -> bool:
    """Whether anybody but Django itself listens, such as another package that was installed.

    They get the signal as Django sends it, sync ones in the request's thread.
    """
    return any(key[0] not in DJANGOS_OWN for key, *_receiver in signal.receivers)


def closes_as_ever(response: HttpResponseBase) -> bool:
    """Whether the answer's class and whoever made it left ``close`` alone."""
    return getattr(response.close, "__func__", None) is HttpResponseBase.close


def close_here(response: HttpResponseBase) -> None:
    """Do what ``response.close`` does, but for the signal: Django's receivers would look for work in this thread."""
    closers: list[Callable[[], object]] = response._resource_closers  # type: ignore[attr-defined]
    for close in closers:
        with suppress(Exception):
            close()
    closers.clear()
    response.closed = True
