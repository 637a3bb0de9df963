"""Django's ASGI handler, with no thread and only one more task for a request that needs no thread itself.

Django's own starts a thread for each request, only to send its signals and to close the answer there, and a second
one to end that thread. Sync code of a request (pages, sync views, database work with ``DB_THREADS=0``) still gets
a thread of the request's own, and what Django does at the end of a request is then done in it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any, cast

from asgiref.sync import SyncToAsync, sync_to_async
from django.conf import settings
from django.core.cache import close_caches
from django.core.exceptions import BadRequest, MiddlewareNotUsed
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.core.handlers.base import reset_urlconf
from django.core.handlers.exception import convert_exception_to_response
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries
from django.dispatch import Signal
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix, set_urlconf
from django.utils.log import log_response
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from conversations.web.asgi import Message, Receive, Send
from conversations.web.bodies import INTAKE
from conversations.web.errors import problem_response

logger = logging.getLogger(__name__)

# Receivers that tidy up what sync code left in the request's thread, or in the context of its task, which ends anyway.
DJANGOS_OWN = frozenset(map(id, (reset_queries, close_old_connections, close_caches, reset_urlconf)))


class FormRequest(ASGIRequest):
    """Django's request, which has a form that cannot be read answered with 400."""

    def _load_post_and_files(self) -> None:
        try:
            super()._load_post_and_files()
        except TypeError as error:  # Python cannot sort some parameters of a part's head
            raise BadRequest("odd parameters in a part of the form") from error


class Handler(ASGIHandler):
    """Answers HTTP requests, whose bodies come whole in one message: ``conversations.asgi`` has read them."""

    request_class = FormRequest

    async def handle(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, in the task that the server made for it."""
        body = BytesIO((await receive())["body"])
        if intake := scope.get(INTAKE):
            intake.stream = body
        set_script_prefix(get_script_prefix(scope))
        if others_listen(request_started):
            await request_started.asend(sender=self.__class__, scope=scope)
        with body:
            request, refusal = self.create_request(scope, body)
            if refusal is not None:
                await self.send_response(refusal, send)
                await self._finish(refusal)
            elif request is not None:
                await self._serve(request, body, receive, send)

    async def _serve(self, request: HttpRequest, body: BytesIO, receive: Receive, send: Send) -> None:
        response: HttpResponseBase | None = None
        client = Client(receive)
        try:
            response = await self.run_get_response(request)
            body.close()  # a stream may take minutes, and the body may be large
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


class ApiHandler(Handler):
    """Answers what needs no session: layers that stay on the event loop, and errors as problem+json."""

    def load_middleware(self, is_async: bool = False) -> None:
        """Make one chain of ``settings.API_MIDDLEWARE``: async layers, with no hook but their call."""
        hooks: list[Any] = []
        self._view_middleware = self._template_response_middleware = self._exception_middleware = hooks
        chain: Any = convert_exception_to_response(self._get_response_async)  # type: ignore[attr-defined]
        for path in reversed(settings.API_MIDDLEWARE):
            with suppress(MiddlewareNotUsed):
                chain = convert_exception_to_response(import_string(path)(chain))
        self._middleware_chain: Any = chain

    def process_exception_by_middleware(self, exception: Exception, request: HttpRequest) -> Any:
        """With DEBUG, where Django would show a page with a traceback, log it and answer as ever."""
        if not settings.DEBUG:
            return None
        logger.error("%s %s failed", request.method, request.path, exc_info=exception)
        return problem_response(status=500, code="internal_error", detail=_("Something went wrong on our side."))


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
