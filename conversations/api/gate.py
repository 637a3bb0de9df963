"""The one gate: each API url is an async view that runs its DRF view on the database threads.

The DRF view authenticates, validates and does the database's part. What has to wait (an answer, a stop) it
returns as a ``Deferred``, which goes on in the event loop and holds no thread.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from rest_framework.response import Response

from .. import db
from ..limits import Window
from .errors import exception_handler, problem_response

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
View = Callable[..., HttpResponseBase]
# The key in a request's `META` under which authentication leaves the caller's count.
RATE = "conversations.rate"
AsyncView = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


def json_response(data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Return JSON from a ``Deferred``, as the DRF views return theirs."""
    content = json.dumps(data, ensure_ascii=False).encode()
    return HttpResponse(content, status=status, headers=headers, content_type="application/json")


class Deferred(HttpResponse):
    """A DRF view's promise of an answer: ``resolve`` makes it, in the event loop."""

    def __init__(self, resolve: Callable[[], Awaitable[HttpResponseBase]]) -> None:
        super().__init__()
        self.resolve = resolve


def on_pool(view: View) -> AsyncView:
    """Return the async view that runs ``view`` on our threads: safe methods on `read`, others on `write`."""

    @wraps(view)
    async def gate(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        run = db.read if request.method in SAFE_METHODS else db.write
        try:
            response = await run(_rendered, view, request, *args, **kwargs)
            response = await response.resolve() if isinstance(response, Deferred) else response
        except Exception as error:
            response = exception_handler(error)
        if isinstance(window := request.META.get(RATE), Window):
            for name, value in window.headers.items():
                response[name] = value
        return response

    return gate


def read_only(view: AsyncView) -> AsyncView:
    """Let GET and HEAD pass to a view that is no DRF view."""

    @wraps(view)
    async def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
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
