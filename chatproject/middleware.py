"""What every HTTP request passes, with no thread hop for the API and its streams.

Each of Django's own middleware hands its hooks to a thread, once or twice a request. Here those whose hooks only
compute run them on the event loop, and those that only pages for people need step aside for everything else.
They are subclasses because the admin's system checks look for these classes.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from corsheaders import middleware as cors
from django.conf import settings
from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.core.exceptions import DisallowedHost, MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware import common, csrf, security
from django.utils import translation
from django.utils.deprecation import MiddlewareMixin
from django.utils.translation import gettext as _
from servestatic.middleware import ServeStaticMiddleware

from conversations.api.errors import problem_response
from conversations.problems import request_id

from .handler import BODY_TOO_LARGE
from .headers import STATIC_HEADERS, Headers, add_headers, add_vary, encoded, headers_in, language_of

Answer = HttpResponseBase | Awaitable[HttpResponseBase]
GetResponse = Callable[[HttpRequest], Any]

# Pages with forms, sessions and logins. The API's documentation tries calls with the session's CSRF token.
PAGES = ("/admin/", "/accounts/")
SINGLE_PAGES = frozenset({"/accounts", "/docs"})
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
CLIENT_LEFT = 499
access = logging.getLogger("chatproject.access")
logger = logging.getLogger(__name__)


def is_page(request: HttpRequest) -> bool:
    """Whether the path belongs to the pages that have sessions."""
    return request.path_info.startswith(PAGES) or request.path_info in SINGLE_PAGES


def is_static(request: HttpRequest) -> bool:
    """Whether the path is one of a static file."""
    return request.path_info.startswith(str(settings.STATIC_URL))


class RequestMiddleware:
    """Outermost: request id, language, trailing slash, security headers and the access log."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Answer:
        if self.is_async:
            return self._answer(request)
        visit = Visit(request)
        token = request_id.set(visit.id)
        try:
            with translation.override(visit.language):
                return visit.end(self.get_response(request))
        finally:
            request_id.reset(token)

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        visit = Visit(request)
        # Both stay for what is left of the request's own task: a stream is sent after this returns.
        request_id.set(visit.id)
        translation.activate(visit.language)
        try:
            return visit.end(await self.get_response(request))
        except asyncio.CancelledError:
            visit.log(CLIENT_LEFT)
            raise

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        """With DEBUG, where Django would show a page with a traceback, log it and let the API answer as ever."""
        if not settings.DEBUG or is_page(request):
            return None
        logger.error("%s %s failed", request.method, request.path, exc_info=exception)
        return problem_response(status=500, code="internal_error", detail=_("Something went wrong on our side."))


class Visit:
    """One request from the moment it came in until its answer is sent."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.path = request.path
        self.started = time.perf_counter()
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        self.id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self.language = language_of(request)
        _drop_trailing_slash(request)

    def end(self, response: HttpResponseBase) -> HttpResponseBase:
        """Complete the headers, and log the request: a stream when it ends."""
        response.headers["X-Request-Id"] = self.id
        if is_static(self.request):
            add_headers(response, STATIC_HEADERS)
        else:
            add_headers(response, headers_in(self.language))
            add_vary(response, "Accept-Language")
        if response.streaming:
            # What Django closes once the last part is sent, or the client has left.
            response._resource_closers.append(lambda: self.log(response.status_code))  # type: ignore[attr-defined]
        else:
            self.log(response.status_code)
        return response

    def log(self, status: int) -> None:
        """Write the access line; never the query string, which may hold a secret."""
        if not access.isEnabledFor(logging.INFO):
            return
        fields = {
            "method": self.request.method,
            "path": self.path,
            "status": status,
            "ms": round((time.perf_counter() - self.started) * 1000, 1),
        }
        access.info(
            "%(method)s %(path)s %(status)d %(ms).1f ms", fields, extra={"fields": fields, "request_id": self.id}
        )


def _drop_trailing_slash(request: HttpRequest) -> None:
    # Every path answers with and without one, for every method: no redirect, which would lose a body.
    path = request.path_info
    if path.endswith("/") and path != "/" and not path.startswith("/admin/") and not is_static(request):
        request.path_info = request.path_info[:-1]
        request.path = request.path[:-1]


def _refusal(request: HttpRequest) -> HttpResponse | None:
    scope: dict[str, Any] = getattr(request, "scope", {})
    if scope.get(BODY_TOO_LARGE):
        detail = _("The body is larger than %(limit)d bytes.") % {"limit": settings.MAX_BODY_BYTES}
        return problem_response(status=413, code="body_too_large", detail=detail)
    try:
        request.get_host()
    except DisallowedHost:
        detail = _("This server does not answer to that Host; see ALLOWED_HOSTS.")
        return problem_response(status=400, code="invalid_host", detail=detail)
    return None


# Django's own -----------------------------------------------------------------------------------------------


class OnLoop(MiddlewareMixin):
    """For middleware whose hooks only compute: they run on the event loop instead of in a thread."""

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        before = getattr(self, "process_request", None)
        after = getattr(self, "process_response", None)
        response = before(request) if before else None
        if response is None:
            response = await cast(Awaitable[HttpResponseBase], self.get_response(request))
        return after(request, response) if after else response


class PagesOnly(MiddlewareMixin):
    """For middleware that only pages for people need: every other path passes by."""

    def __init__(self, get_response: GetResponse) -> None:
        super().__init__(get_response)
        # Django puts a function that turns exceptions into answers around each middleware, also around those that
        # step aside. A row of these is passed in one step.
        following = getattr(get_response, "__wrapped__", None)
        self.past: GetResponse = following.past if isinstance(following, PagesOnly) else get_response

    def __call__(self, request: HttpRequest) -> Answer:
        return super().__call__(request) if is_page(request) else cast(Answer, self.past(request))


class CorsMiddleware(cors.CorsMiddleware):
    """Answers for programs of other origins. Most requests name none."""

    def add_response_headers(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Add what a browser asks for."""
        if "HTTP_ORIGIN" in request.META:
            return super().add_response_headers(request, response)
        if request._cors_enabled:  # type: ignore[attr-defined]
            add_vary(response, "origin")
        return response


class SecurityMiddleware(OnLoop, security.SecurityMiddleware):
    """HTTPS redirect, HSTS, no framing and Content-Length for every path; refuses what no view should see."""

    def __init__(self, get_response: GetResponse) -> None:
        super().__init__(get_response)
        self._plain, self._secure = self._headers(secure=False), self._headers(secure=True)

    def _headers(self, *, secure: bool) -> Headers:
        """What Django adds to each answer, the header of its `XFrameOptionsMiddleware` too."""
        request, response = HttpRequest(), HttpResponse()
        request.is_secure = lambda: secure  # type: ignore[method-assign]
        before = encoded(response.headers)
        added = encoded(super().process_response(request, response).headers)
        framing = encoded({"X-Frame-Options": str(settings.X_FRAME_OPTIONS).upper()})
        return {key: header for key, header in added.items() if key not in before} | framing

    def process_request(self, request: HttpRequest) -> HttpResponse | None:  # type: ignore[override]
        return _refusal(request) or super().process_request(request)

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:  # type: ignore[override]
        """Complete the headers."""
        add_headers(response, self._secure if request.is_secure() else self._plain)
        if isinstance(response, HttpResponse) and "Content-Length" not in response.headers:
            response.headers["Content-Length"] = str(len(response.content))
        return response


class CommonMiddleware(OnLoop, common.CommonMiddleware):
    """What Django's does besides Content-Length, if a setting asks for any of it; else there is no such layer."""

    def __init__(self, get_response: GetResponse) -> None:
        if not (settings.PREPEND_WWW or settings.APPEND_SLASH or settings.DISALLOWED_USER_AGENTS):
            raise MiddlewareNotUsed
        super().__init__(get_response)


class SessionMiddleware(PagesOnly, sessions.SessionMiddleware):
    """Sessions of pages."""


class AuthenticationMiddleware(PagesOnly, auth.AuthenticationMiddleware):
    """Logins of pages."""


class MessageMiddleware(PagesOnly, messages.MessageMiddleware):
    """Messages on pages."""


class CsrfViewMiddleware(PagesOnly, csrf.CsrfViewMiddleware):
    """CSRF tokens of pages."""

    def __init__(self, get_response: GetResponse) -> None:
        super().__init__(get_response)
        if self.async_mode:
            # Django would run the sync one in a thread, for every path.
            self.process_view = self._process_view  # type: ignore[assignment, method-assign]

    async def _process_view(self, request: HttpRequest, *args: Any) -> HttpResponseBase | None:
        return csrf.CsrfViewMiddleware.process_view(self, request, *args) if is_page(request) else None


class StaticFilesMiddleware:
    """Static files, with DEBUG off too; under ASGI only."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.files: GetResponse | None = None
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)
            self.files = ServeStaticMiddleware(get_response)

    def __call__(self, request: HttpRequest) -> Answer:
        answer = self.files if self.files and is_static(request) else self.get_response
        return cast(Answer, answer(request))
