"""The one gate: each API url is an async view that runs its DRF view on the database threads.

The DRF view authenticates, validates and does the database's part. What has to wait (an answer, a stop) it
returns as a ``Deferred``, which goes on in the event loop and holds no thread.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import wraps
from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from rest_framework.response import Response

from ..database import db
from ..database.in_tests import UnreachableTransaction
from ..engine import engines
from ..limits.rates import Window
from . import bodies
from .errors import problem_from, problem_response
from .parsers import BODY, parse_ahead

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
View = Callable[..., HttpResponseBase]
ErrorRenderer = Callable[[Exception], HttpResponseBase]
# The key in a request's `META` under which authentication leaves the caller's count.
RATE = "conversations.rate"
AsyncView = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


def json_response(data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Return JSON from a ``Deferred``, as the DRF views return theirs."""
    content = json.dumps(data, ensure_ascii=False).encode()
    return HttpResponse(content, status=status, headers=headers, content_type="application/json")


def no_content() -> HttpResponse:
    """Return the answer that has nothing in it, hence of no type."""
    response = HttpResponse(status=204)
    del response["Content-Type"]
    return response


class Deferred(HttpResponse):
    """A DRF view's promise of an answer: ``resolve`` makes it, or the next promise, in the event loop.

    With ``needs_body`` a large body has its turn until then. It is for what takes moments: others wait for that turn.
    """

    def __init__(self, resolve: Callable[[], Awaitable[HttpResponseBase]], *, needs_body: bool = False) -> None:
        super().__init__()
        self.resolve = resolve
        self.needs_body = needs_body


def is_wsgi(request: HttpRequest) -> bool:
    """Whether a WSGI server serves this: it makes an event loop a request, in which nothing lives on.

    Django's test client speaks WSGI too, and waits for what it asks.
    """
    if not isinstance(request, WSGIRequest):
        return False
    from django.test.client import FakePayload  # not for who serves

    return not isinstance(request.environ.get("wsgi.input"), FakePayload)


def needs_asgi() -> HttpResponse:
    """Refuse at once what would hang."""
    detail = _("This server speaks WSGI, under which no answer can be streamed; serve asgi.py with an ASGI server.")
    return problem_response(status=501, code="needs_asgi", detail=detail)


def on_pool(view: View) -> AsyncView:
    """Return the async view that runs ``view`` on our threads: safe methods on `read`, others on `write`.

    An exception becomes what the view's class renders, if it says: each door has its own form of errors. What a class
    that ``joins`` writes may be one transaction with what others do.
    """
    of_class = getattr(view, "cls", None)
    write = db.write_together if getattr(of_class, "joins", False) else db.write
    render_error: ErrorRenderer = getattr(of_class, "render_error", problem_from)
    parsers = getattr(of_class, "parser_classes", ())

    @wraps(view)
    async def gate(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if is_wsgi(request):
            return needs_asgi()
        run = db.read if request.method in SAFE_METHODS else write
        try:
            if bodies.intake_of(request) is not None:
                await db.files(parse_ahead, request, parsers)
            response = await run(_rendered, view, request, *args, **kwargs)
            request.META.pop(BODY, None)  # a stream may take minutes
            while isinstance(response, Deferred):
                if not response.needs_body:
                    bodies.let_go(request)
                response = await response.resolve()
        except UnreachableTransaction:
            raise
        except Exception as error:
            response = render_error(error)
        bodies.let_go(request)
        if isinstance(window := request.META.get(RATE), Window):
            for name, value in window.headers.items():
                response[name] = value
        return await _whole(response) if isinstance(request, WSGIRequest) else response

    return gate


async def _whole(response: HttpResponseBase) -> HttpResponseBase:
    """Django's sync test client makes an event loop a call: what lives there has to come to its end."""
    if isinstance(response, StreamingHttpResponse):
        response.streaming_content = [part async for part in response]
    await engines.end_with_call()
    return response


def read_only(view: AsyncView) -> AsyncView:
    """Let GET and HEAD pass to a view that is no DRF view."""

    @wraps(view)
    async def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if is_wsgi(request):
            return needs_asgi()
        if request.method in ("GET", "HEAD"):
            return await view(request, *args, **kwargs)
        detail = _("This page can only be read.")
        headers = {"Allow": "GET, HEAD"}
        return problem_response(status=405, code="method_not_allowed", detail=detail, headers=headers)

    return checked


def _rendered(view: View, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
    """Run the view and render what it returns here: Django would take another thread for that."""
    response = view(request, *args, **kwargs)
    if not isinstance(response, Response):
        return response
    response.render()
    plain = HttpResponse(response.content, status=response.status_code)
    plain.headers = response.headers
    return plain
